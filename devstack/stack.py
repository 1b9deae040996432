"""One stack of real parts, from Python: for tests, the story player, chaos, and the command line.

with Stack(home, base).start(only=["kafka", "mongo"]) as stack:
    stack.mongo_url, stack.kafka
    stack.kill("kafka")          # kill -9; the supervisor starts it again
    stack.wait_ready("kafka")
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devstack import places, ports, secrets
from devstack.table import kafka_address, mongo_url

FINE = ("ready", "done")


class StackError(Exception):
    """The stack did not come up, or an order was refused: the part, the cause, and its last log lines."""


class Stack:
    def __init__(self, home: Path | None = None, base: int | None = None) -> None:
        self.home = Path(home or places.home()).resolve()
        self.base = ports.base() if base is None else base
        self.mongo_members = 1
        self._lease: subprocess.Popen[bytes] | None = None

    # --- addresses

    @property
    def mongo_url(self) -> str:
        return mongo_url(self.base, self.mongo_members)

    @property
    def kafka(self) -> str:
        return kafka_address(self.base)

    def url(self, name: str) -> str:
        return ports.url(name, self.base)

    # --- life

    def start(
        self,
        only: Iterable[str] = (),
        *,
        wipe: bool = False,
        daemon: bool = False,
        mongo_members: int = 1,
        table: str = "devstack.table:processes",
        timeout: float = 180.0,
        on_change: Callable[[dict[str, Any]], None] | None = None,
    ) -> Self:
        """Starts and waits until all is healthy. Not a daemon: it ends with this process, even when that is killed.

        `only`: these processes and what they need. `wipe`: with empty data. `table`: another process table, as
        "module:function". Raises StackError.
        """
        if self.is_up():
            raise StackError(f"a stack is already running in {self.home}: use it, or `make down`")
        self.stop()  # what is left of an earlier start whose supervisor was killed
        if wipe:
            self.wipe()
        for folder in ("run", "log", "data"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        self._same_base()
        secrets.make(self.home / "secrets")
        self.mongo_members = mongo_members
        self._state_file.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "devstack.supervisor", str(self.home), str(self.base), "--only", ",".join(only)]
        argv += ["--mongo-members", str(mongo_members), "--table", table] + ([] if daemon else ["--leased"])
        with (self.home / "log" / "supervisor.log").open("wb") as log:
            child = subprocess.Popen(
                argv,
                cwd=places.REPO,
                stdin=subprocess.DEVNULL if daemon else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._lease = child
        try:
            self._wait_up(child, timeout, on_change)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 40.0) -> None:
        """Ends everything, in order, and waits until it is gone. Nothing to do when it is not up."""
        if self._lease and self._lease.stdin:
            self._lease.stdin.close()
        pid = self.state().get("pid", 0)
        if self.is_up() and pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            until(lambda: not self.is_up(), timeout, f"the supervisor (pid {pid}) to end")
        if self._lease:
            self._lease.wait(timeout)
            self._lease = None

    def wipe(self) -> None:
        """Forgets all data of a stack that is not running."""
        for folder in ("run", "log", "data", "secrets"):
            shutil.rmtree(self.home / folder, ignore_errors=True)
        (self.home / "clock").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what it does now

    def is_up(self) -> bool:
        """Whether a supervisor runs in this home: it holds the lock as long as it lives."""
        try:
            with (self.home / "run" / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def state(self) -> dict[str, Any]:
        """HOME/run/stack.json: {pid, base, home, processes: {name: {state, pid, …}}}; {} before the first start."""
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            return {}
        return state

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.state()["processes"][name]
        return status

    def pid(self, name: str) -> int:
        pid: int = self.status(name)["pid"]
        return pid

    def tail(self, name: str, lines: int = 15) -> str:
        try:
            text = (self.home / "log" / f"{name}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    # --- orders

    def kill(self, name: str) -> None:
        """kill -9 of the process and its children; the supervisor starts it again at once."""
        self.order("kill", name)

    def halt(self, name: str) -> None:
        """Ends one process, which stays down until `resume`."""
        self.order("stop", name)

    def resume(self, name: str) -> None:
        self.order("start", name)

    def wait_ready(self, name: str, restarts: int | None = None, timeout: float = 60.0) -> None:
        """Waits until the process is healthy, and was started again at least `restarts` times when given."""

        def fine() -> bool:
            status = self.status(name)
            if status["state"] == "failed":
                raise StackError(self.explain(name))
            return status["state"] in FINE and status["restarts"] >= (restarts or 0)

        until(fine, timeout, f"{name} to be ready")

    def order(self, do: str, name: str = "") -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.home / "run" / "supervisor.sock"))
            connection.sendall(json.dumps({"do": do, "name": name}).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        if "error" in answer:
            raise StackError(answer["error"])

    def explain(self, name: str) -> str:
        """Why a part is not healthy, with its last log lines."""
        tail = self.tail(name)
        return f"{name} did not come up: {self.status(name)['why']}" + (
            f"\n--- last lines of {self.home}/log/{name}.log\n{tail}" if tail else ""
        )

    # --- inside

    @property
    def _state_file(self) -> Path:
        return self.home / "run" / "stack.json"

    def _same_base(self) -> None:
        """Kafka and MongoDB write their own address into their data: it cannot be served at other ports."""
        remembered = self.home / "data" / "base"
        if remembered.exists() and int(remembered.read_text()) != self.base:
            raise StackError(
                f"cause: the data in {self.home} belongs to port base {remembered.read_text()}, not {self.base}\n"
                f"cure:  FUZHEN_PORT_BASE={remembered.read_text()}, another FUZHEN_HOME, or `python -m devstack clean`"
            )
        remembered.write_text(str(self.base))

    def _wait_up(
        self, child: subprocess.Popen[bytes], timeout: float, on_change: Callable[[dict[str, Any]], None] | None
    ) -> None:
        limit = time.monotonic() + timeout
        seen: dict[str, Any] = {}
        while True:
            state = self.state()
            if state and state != seen:
                seen = state
                if on_change:
                    on_change(state)
                statuses: dict[str, Any] = state["processes"]
                for name, status in statuses.items():
                    if status["state"] == "failed":
                        raise StackError(self.explain(name))
                if all(status["state"] in FINE for status in statuses.values()):
                    return
            if child.poll() is not None:
                raise StackError(f"the supervisor ended with code {child.returncode}\n{self.tail('supervisor')}")
            if time.monotonic() > limit:
                late = [name for name, status in seen.get("processes", {}).items() if status["state"] not in FINE]
                raise StackError(
                    "\n".join([f"not healthy after {timeout:.0f} s: {', '.join(late)}", *map(self.explain, late[:2])])
                )
            time.sleep(0.05)


def until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Waits for a condition with a deadline. Raises StackError naming what was waited for."""
    limit = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > limit:
            raise StackError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.05)
