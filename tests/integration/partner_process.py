"""A partner sandbox as its own process, for tests: started on a free port, killed the hard way, asked over HTTP."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

REPO = Path(__file__).resolve().parents[2]

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], T], seconds: float = 15) -> T:
    """Ask until it is true; its last value, or TimeoutError after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds} s: last {value!r}")
        time.sleep(0.02)
    return value


class PartnerProcess:
    """`python -m partners.<name>` with its own FUZHEN_DATA, FUZHEN_SECRETS and movable clock under `home`."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home, self.port = name, home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.clock_file = home / "clock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "FUZHEN_PORT": str(self.port),
            "FUZHEN_DATA": str(self.home / "data"),
            "FUZHEN_SECRETS": str(self.home / "secrets"),
            "FUZHEN_CLOCK_FILE": str(self.clock_file),
        }

    def start(self) -> "PartnerProcess":
        command = [sys.executable, "-m", f"partners.{self.name}"]
        self._process = subprocess.Popen(command, cwd=REPO, env=self.env, start_new_session=True)
        wait_for(self._ready)
        return self

    def kill(self) -> None:
        """kill -9 of the whole process group, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            self._process.wait(20)
            self._process = None

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"partners.{self.name} ended with {self._process.returncode}")
        try:
            return requests.get(f"{self.url}/health/ready", timeout=1).ok
        except requests.RequestException:
            return False

    def get(self, path: str) -> Any:
        answer = requests.get(self.url + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=10)

    def misbehave(self, kind: str, **script: Any) -> None:
        self.post("/sandbox/misbehave", {"kind": kind, **script}).raise_for_status()
