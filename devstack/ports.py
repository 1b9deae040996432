"""The one place for ports: every port is a base plus a fixed offset, so that several stacks run side by side.

The base comes from FUZHEN_PORT_BASE (18000 when unset). Everything listens on 127.0.0.1 only.
"""

import os
import random
import socket

import psutil

DEFAULT_BASE = 18000
HOST = "127.0.0.1"

SERVICES = ("registration", "eligibility", "consult", "pharmacy", "payment")
STREAMS = ("payment.refunds", "payment.insurance", "pharmacy.dispatch")
PARTNERS = ("his", "wechatpay", "insurer", "courier", "sms")

OFFSETS: dict[str, int] = {
    "gateway": 80,
    "envoy-admin": 81,
    "kafka": 92,
    "kafka-controller": 93,
    "mongo": 17,
    "mongo2": 18,
    "mongo3": 19,
    **{service: 101 + n for n, service in enumerate(SERVICES)},
    **{f"{service}.worker": 111 + n for n, service in enumerate(SERVICES)},
    **{stream: 121 + n for n, stream in enumerate(STREAMS)},
    **{partner: 201 + n for n, partner in enumerate(PARTNERS)},
}


def base() -> int:
    return int(os.environ.get("FUZHEN_PORT_BASE") or DEFAULT_BASE)


def port(name: str, at: int | None = None) -> int:
    """Port of a part or process in the stack whose base is `at` (default: this environment's)."""
    return (base() if at is None else at) + OFFSETS[name]


def url(name: str, at: int | None = None) -> str:
    return f"http://{HOST}:{port(name, at)}"


def is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError:
            return False
    return True


def holder(number: int) -> str:
    """Who listens on a port, for an error message: "pid 4711 (mongod --port 18017 …)", or why that is not known."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == number:
            if connection.pid is None:
                return "a process of another user"
            try:
                command = " ".join(psutil.Process(connection.pid).cmdline())
            except psutil.Error:
                command = "it just ended"
            return f"pid {connection.pid} ({command[:120]})"
    return "a connection that is still closing; try again in a minute"


def free_base(start: int = 21000, stop: int = 32000, step: int = 300) -> int:
    """A base whose ports are all free now: for test stacks. Below 32768, where the kernel hands out client ports.

    A random one, so that two test runs that start together do not choose the same.
    """
    candidates = list(range(start, stop, step))
    random.shuffle(candidates)
    for candidate in candidates:
        if all(is_free(candidate + offset) for offset in OFFSETS.values()):
            return candidate
    raise RuntimeError(
        f"no free block of ports between {start} and {stop}; end old stacks with `python -m devstack down`"
    )
