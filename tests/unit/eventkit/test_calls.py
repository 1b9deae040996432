"""Calls to others (design rule 8): what is retried, what is refused, what stays unknown, and the breaker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from eventkit import calls, trace
from eventkit.calls import Peer, PeerRefused, ServiceToken, Unanswered
from eventkit.signing import is_signed, signed_with


class Script(ThreadingHTTPServer):
    """Answers with the statuses in `answers`, then 200; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers: list[int] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.body: bytes = b'{"ok": true}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(BaseHTTPRequestHandler):
    server: Script

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, dict(self.headers.items()), body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        content = self.server.body if status == 200 else b'{"code": "no"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_read_is_repeated_until_it_is_answered(script: Script) -> None:
    script.answers = [503, 502]
    assert Peer("his", script.url).get("/records", since="2026-05-23") == {"ok": True}
    assert [path for _, path, _, _ in script.asked] == ["/records?since=2026-05-23"] * 3


def test_a_command_is_repeated_only_under_a_key(script: Script) -> None:
    script.answers = [503]
    with pytest.raises(Unanswered):
        Peer("insurer", script.url).post("/settlements", {})
    assert len(script.asked) == 1
    script.answers = [503]
    assert Peer("insurer", script.url).post("/settlements", {}, key="k-1") == {"ok": True}
    assert [headers["Idempotency-Key"] for _, _, headers, _ in script.asked[1:]] == ["k-1", "k-1"]


def test_a_clear_no_is_not_a_failure(script: Script) -> None:
    script.answers = [409] * 20
    peer = Peer("insurer", script.url)
    for _ in range(20):
        with pytest.raises(PeerRefused) as refused:
            peer.get("/cards/7")
        assert (refused.value.status, refused.value.code) == (409, "no")


def test_nobody_there_is_unknown_and_after_a_while_not_even_tried(script: Script) -> None:
    script.answers = [500] * 100
    peer = Peer("his", script.url)
    for _ in range(calls._FAILURES_TO_OPEN):
        with pytest.raises(Unanswered):
            peer.post("/x", {})
    asked = len(script.asked)
    with pytest.raises(Unanswered, match="left alone"):
        peer.post("/x", {})
    assert len(script.asked) == asked


def test_an_answer_that_is_not_json_is_no_answer(script: Script) -> None:
    script.body = b"<html>"
    with pytest.raises(Unanswered):
        Peer("his", script.url).get("/x")


def test_a_call_carries_the_request_it_is_made_for_and_its_signature(script: Script) -> None:
    trace.begin("req-1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    Peer("sms", script.url, headers=signed_with(b"secret")).post("/messages", {"text": "您好"})
    [(method, path, headers, body)] = script.asked
    assert headers["X-Request-Id"] == "req-1"
    assert headers["traceparent"].startswith("00-4bf92f35")
    stamp, given = headers["X-Signature-Timestamp"], headers["X-Signature"]
    assert is_signed(b"secret", method, path, body, stamp, given)
    assert not is_signed(b"other", method, path, body, stamp, given)
    assert not is_signed(b"secret", method, path, body + b" ", stamp, given)
    assert not is_signed(b"secret", method, path, body, "1", given)


def test_a_service_token_is_fetched_once_and_renewed_in_time(script: Script) -> None:
    script.body = json.dumps({"access_token": "t", "expires_in": 900}).encode()
    token = ServiceToken(script.url, "payment", "secret")
    assert token("GET", "/", b"") == token("GET", "/", b"") == {"Authorization": "Bearer t"}
    assert len(script.asked) == 1
    script.body = json.dumps({"access_token": "u", "expires_in": 30}).encode()
    short = ServiceToken(script.url, "payment", "secret")
    short("GET", "/", b"")
    short("GET", "/", b"")
    assert len(script.asked) == 3
    script.answers = [500]
    with pytest.raises(Unanswered):
        ServiceToken(script.url, "payment", "secret")("GET", "/", b"")
