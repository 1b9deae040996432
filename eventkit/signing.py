"""Calls signed with a shared secret, as the REST partners expect them and as they sign their notices to us.

    X-Signature-Timestamp: <unix seconds>            wall time, accepted within 300 s
    X-Signature: hex(HMAC-SHA256(secret, METHOD "\\n" PATH[?QUERY] "\\n" TIMESTAMP "\\n" hex(SHA-256(BODY))))
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from environs import Env
from environs.exceptions import EnvError

TOLERANCE_SECONDS = 300


def partner_secret(env: Env, name: str) -> bytes:
    """The secret in FUZHEN_SECRETS/clients/<name>. Raises EnvError when there is none."""
    path = env.path("FUZHEN_SECRETS") / "clients" / name
    if not path.is_file():
        raise EnvError(f'Environment variable "FUZHEN_SECRETS" names a folder without clients/{name}')
    return bytes(path.read_text(encoding="utf-8").strip().encode())


def signature(key: bytes, method: str, path: str, timestamp: str, body: bytes) -> str:
    text = "\n".join((method, path, timestamp, hashlib.sha256(body).hexdigest()))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def signed_with(key: bytes) -> Callable[[str, str, bytes], dict[str, str]]:
    """Headers for `Peer(headers=…)`."""

    def headers(method: str, path: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        return {"X-Signature-Timestamp": timestamp, "X-Signature": signature(key, method, path, timestamp, body)}

    return headers


def is_signed(key: bytes, method: str, path: str, body: bytes, timestamp: str, given: str) -> bool:
    """Whether a notice is the partner's, and fresh by wall time: a moved business clock must help nobody."""
    if not hmac.compare_digest(given.encode(), signature(key, method, path, timestamp, body).encode()):
        return False
    return timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= TOLERANCE_SECONDS
