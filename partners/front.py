"""What stands in front of the REST partners (his, courier, sms): signed calls, scripted failures, refusals as problems.

One signature scheme both ways, calls to a partner and a partner's notices to us. Two headers:

    X-Signature-Timestamp: <unix seconds>            wall time, accepted within 300 s
    X-Signature: hex(HMAC-SHA256(secret, METHOD "\\n" PATH[?QUERY] "\\n" TIMESTAMP "\\n" hex(SHA-256(BODY))))

The secret is the text of FUZHEN_SECRETS/clients/<name>. Replays inside the 300 s are harmless, because every call that
changes something carries the caller's own number and is done once.
"""

import hashlib
import hmac
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask, Response, g, jsonify, request

from partners.kit import HTTP_KINDS, Row, Scripts, setting, stall

FAILURES = HTTP_KINDS | {"down"}
TOLERANCE_SECONDS = 300

T = TypeVar("T")


class Refused(Exception):
    """What a caller is told instead of an answer. `code` is stable, `detail` is for the people who read logs."""

    def __init__(self, status: int, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.detail = status, code, detail


def secret(name: str) -> bytes:
    """The text of FUZHEN_SECRETS/clients/<name>."""
    return text_of(Path(setting("FUZHEN_SECRETS")) / "clients" / name).encode()


def text_of(path: Path) -> str:
    """Without the file the start ends as for a missing setting."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        print(f"missing secret {path}", file=sys.stderr)
        raise SystemExit(78) from None


def signature(key: bytes, method: str, path: str, timestamp: str, body: bytes) -> str:
    text = "\n".join((method, path, timestamp, hashlib.sha256(body).hexdigest()))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def signed_headers(key: bytes, method: str, path: str, body: bytes) -> dict[str, str]:
    """`path` with its query, as it goes over the wire."""
    timestamp = str(int(time.time()))
    return {"X-Signature-Timestamp": timestamp, "X-Signature": signature(key, method, path, timestamp, body)}


def put_in_front(app: Flask, scripts: Scripts, key: bytes) -> None:
    """Everything but /health and /sandbox is signed, and fails as scripted (a script's `target` is a path).

    `down` cuts the connection before anything happened, `timeout_after_effect` after everything did."""

    @app.before_request
    def gate() -> tuple[Response, int] | Response | None:
        if request.path.startswith(("/health/", "/sandbox/")):
            return None
        script = scripts.take(FAILURES, request.path) or {}
        match script.get("kind"):
            case "down":
                stall(0)
                return Response()
            case "error_500":
                return jsonify(code="scripted_error"), 500
            case "slow":
                stall(float(script.get("seconds", 5)))
            case "timeout_after_effect":
                g.stall_seconds = float(script.get("seconds", 0))
        _check_signature(key)
        return None

    @app.after_request
    def never_answer(response: Response) -> Response:
        if "stall_seconds" in g:
            stall(g.stall_seconds)
        return response

    @app.errorhandler(Refused)
    def refuse(refused: Refused) -> Response:
        problem = jsonify(title=refused.code, status=refused.status, code=refused.code, detail=refused.detail)
        problem.status_code, problem.mimetype = refused.status, "application/problem+json"
        return problem


def _check_signature(key: bytes) -> None:
    timestamp = request.headers.get("X-Signature-Timestamp", "")
    given = request.headers.get("X-Signature", "")
    expected = signature(key, request.method, request.environ["RAW_URI"], timestamp, request.get_data())
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Refused(401, "bad_signature", "X-Signature does not fit method, path, timestamp and body")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        raise Refused(401, "stale_signature", f"X-Signature-Timestamp is more than {TOLERANCE_SECONDS} s away")


def json_body() -> Row:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise Refused(400, "bad_request", "the body is not a JSON object")
    return body


def field(body: Row, name: str, kind: type[T]) -> T:
    """A present, non-empty value of that type."""
    value: Any = body.get(name)
    if not isinstance(value, kind) or value in ("", None) or (kind is int and isinstance(value, bool)):
        raise Refused(400, "bad_request", f"{name} must be a {kind.__name__}")
    return value
