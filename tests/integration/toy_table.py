"""A process table of toys, for the tests of the supervisor: each toy answers /health/ready, and misbehaves as told."""

import sys
from pathlib import Path

from devstack.ports import HOST, port
from devstack.process import Process, http_ready

TOY = """
import http.server, os, sys
if os.environ.get("TOY_FAILS"):
    print("the reason is written here"); sys.exit(int(os.environ["TOY_FAILS"]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
if os.fork() == 0:  # a worker, as gunicorn has
    import signal; signal.pause()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def processes(home: Path, base: int, mongo_members: int = 1) -> list[Process]:
    def toy(name: str, where: str, needs: tuple[str, ...] = (), **env: str) -> Process:
        number = port(where, base)
        argv = [sys.executable, "-c", TOY, str(number)]
        return Process(name, argv, http_ready(number), env, needs, (number,), url=f"http://{HOST}:{number}")

    remember = "import os, pathlib; pathlib.Path(os.environ['FUZHEN_STACK'], 'job-ran').touch()"
    return [
        toy("store", "mongo"),
        Process("job", [sys.executable, "-c", remember], ready=None, needs=("store",)),
        toy("service", "payment", needs=("job",)),
        toy("crashing", "his", TOY_FAILS="1"),
        toy("unset", "sms", TOY_FAILS="78"),
    ]
