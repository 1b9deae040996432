"""What the supervisor needs to know of one process, and the ways to ask whether it is healthy."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from devstack.ports import HOST

PROBE_EVERY = 0.15
PROBE_TIMEOUT = 3.0

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Process:
    """One row of the process table. `ready` None means a job: it runs once and is done when it exits with 0."""

    name: str
    argv: list[str]
    ready: Probe | None
    env: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    prepare: Callable[[], object] | None = None
    url: str = ""
    patience: float = 60.0


async def until_healthy(ready: Probe, patience: float) -> None:
    """Raises TimeoutError when it is not healthy after `patience` seconds."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        with contextlib.suppress(Exception):  # refused, reset, slow: all mean "not yet"
            async with asyncio.timeout(PROBE_TIMEOUT):
                if await ready():
                    return
        await asyncio.sleep(PROBE_EVERY)
    raise TimeoutError(f"it was not healthy after {patience:.0f} s")


def http_ready(port: int, path: str = "/health/ready") -> Probe:
    """Healthy is an HTTP 200; a refused connection, a slow answer and any other status are not."""

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            status = await reader.readline()
            return status.split(b" ")[1:2] == [b"200"]
        finally:
            writer.close()

    return probe


def tcp_ready(port: int, host: str = HOST) -> Probe:
    async def probe() -> bool:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True

    return probe
