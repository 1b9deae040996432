"""Liveness and readiness of a process without a web framework: `/health/live` and `/health/ready`, JSON."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

State = Callable[[], tuple[bool, dict[str, Any]]]


def serve(port: int, *, host: str = "127.0.0.1", live: State, ready: State) -> ThreadingHTTPServer:
    """Serve from a daemon thread; each state answers (well?, what to show)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state = {"/health/live": live, "/health/ready": ready}.get(self.path)
            if state is None:
                self.send_error(404)
                return
            well, shown = state()
            body = orjson.dumps({"status": "ok" if well else "failing", **shown}, default=str)
            self.send_response(200 if well else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
