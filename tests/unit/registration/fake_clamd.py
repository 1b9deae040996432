"""A scanner process that speaks clamd's INSTREAM and knows one virus, the EICAR test file.

    python -m tests.unit.registration.fake_clamd       prints its port

Asked about `mute` it closes without a verdict.
"""

from __future__ import annotations

import socketserver
import struct

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class Clamd(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert self.rfile.read(10) == b"zINSTREAM\0"
        content = b""
        while length := struct.unpack(">I", self.rfile.read(4))[0]:
            content += self.rfile.read(length)
        if content != b"mute":
            self.wfile.write(b"stream: Eicar-Signature FOUND\0" if EICAR in content else b"stream: OK\0")


if __name__ == "__main__":
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Clamd) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
