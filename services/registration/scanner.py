"""The virus scanner's hook (§10): what clamd speaks on its socket (INSTREAM), at `FUZHEN_SCANNER` = host:port. Where
none is named, nothing is scanned; where one is named and does not answer, nothing is taken in."""

from __future__ import annotations

import socket
import struct

from eventkit.calls import Unanswered
from eventkit.events import Refusal

_CHUNK = 64 << 10
_TIMEOUT = 10.0  # seconds
_LONGEST_REPLY = 4096


class Scanner:
    def __init__(self, address: str = "") -> None:
        """Raises ValueError for anything but host:port or nothing."""
        host, _, port = address.rpartition(":")
        self._place = (host, int(port)) if address else None

    def check(self, upload: bytes) -> None:
        """Raises Refusal("photo_infected"), Unanswered."""
        if self._place is None:
            return
        try:
            reply = self._ask(self._place, upload)
        except OSError as error:
            raise Unanswered(f"scanner: {type(error).__name__}") from error
        if reply.endswith(b" FOUND"):
            raise Refusal("photo_infected")
        if reply != b"stream: OK":
            raise Unanswered("scanner: no verdict")

    @staticmethod
    def _ask(place: tuple[str, int], upload: bytes) -> bytes:
        with socket.create_connection(place, timeout=_TIMEOUT) as connection:
            connection.sendall(b"zINSTREAM\0")
            for start in range(0, len(upload), _CHUNK):
                chunk = upload[start:start + _CHUNK]
                connection.sendall(struct.pack(">I", len(chunk)) + chunk)
            connection.sendall(struct.pack(">I", 0))
            reply = b""
            while not reply.endswith(b"\0") and len(reply) < _LONGEST_REPLY and (more := connection.recv(1024)):
                reply += more
            return reply.rstrip(b"\0")
