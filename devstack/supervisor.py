"""Starts the processes of one stack as their needs allow, starts again what dies, and leaves nothing behind.

One supervisor is one OS process: `python -m devstack.supervisor HOME BASE …`. People and tests talk to it through
`devstack.stack.Stack`: it writes what is going on to HOME/run/stack.json and obeys one-line JSON orders on the
Unix socket HOME/run/supervisor.sock. Its children die with it, even after kill -9 (PR_SET_PDEATHSIG).
"""

import argparse
import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from devstack import ports
from devstack.process import Process, until_healthy

SETTING_MISSING = 78  # a process says with this code that starting it again cannot help
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 5.0
TRIES_TO_COME_UP = 3
STOP_TIMEOUT = 8.0
MARK = "FUZHEN_STACK"  # in the environment of everything a stack runs; its value is the stack's home


@dataclass
class Status:
    """A process in HOME/run/stack.json. `state`: waiting, starting, ready, done, restarting, stopped, failed."""

    state: str = "waiting"
    pid: int = 0
    restarts: int = 0
    since: float = 0.0
    took: float = 0.0
    url: str = ""
    why: str = ""


class Supervisor:
    def __init__(self, table: list[Process], home: Path, base: int) -> None:
        self.table = {process.name: process for process in table}
        self.home, self.base = home, base
        self.status = {name: Status(url=process.url) for name, process in self.table.items()}
        self.up = {name: asyncio.Event() for name in self.table}
        self.wanted = {name: asyncio.Event() for name in self.table}
        self.running: dict[str, asyncio.subprocess.Process] = {}
        self.ending = asyncio.Event()
        self.lives: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until told to end: by SIGTERM, SIGINT, an order, or the end of the process that holds the lease."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ending.set)
        socket_path = self.home / "run" / "supervisor.sock"
        socket_path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, socket_path)
        self._write()
        for name in self.table:
            self.wanted[name].set()
            self.lives[name] = asyncio.create_task(self._live(self.table[name]))
        await self.ending.wait()
        await self._stop_all()
        server.close()
        socket_path.unlink(missing_ok=True)

    # --- the life of one process

    async def _live(self, process: Process) -> None:
        status = self.status[process.name]
        try:
            for need in process.needs:
                await self.up[need].wait()
            await asyncio.to_thread(self._prepare, process)
            backoff, tries = FIRST_BACKOFF, 0
            while True:
                await self.wanted[process.name].wait()
                began = time.monotonic()
                try:
                    code, why = await self._once(process), ""
                except TimeoutError as late:
                    code, why = 1, str(late)
                if process.ready is None and code == 0:
                    return
                if not self.wanted[process.name].is_set():
                    self._set(process, state="stopped", pid=0)
                    continue
                lived = time.monotonic() - began
                tries = 0 if status.took else tries + 1
                why = why or f"it ended with code {code}"
                if code == SETTING_MISSING or tries >= TRIES_TO_COME_UP:
                    raise RuntimeError(why)
                backoff = FIRST_BACKOFF if lived > 10 else min(backoff * 2, LAST_BACKOFF)
                status.restarts += 1
                self._set(process, state="restarting", pid=0, why=why)
                await asyncio.sleep(backoff)
        except Exception as error:  # the reason goes to whoever waits for the stack
            detail = getattr(error, "stderr", None) or getattr(error, "stdout", None) or ""
            self._set(process, state="failed", pid=0, why=f"{error} {detail}".strip())

    def _prepare(self, process: Process) -> None:
        for number in process.ports:
            if not ports.is_free(number):
                raise RuntimeError(f"port {number} is in use by {ports.holder(number)}")
        if process.prepare:
            process.prepare()

    async def _once(self, process: Process) -> int:
        """Runs it once, from start to exit; the exit code."""
        self._set(process, state="starting", pid=0)
        began = time.monotonic()
        with self.log(process.name).open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "KILL", *process.argv,
                env={**os.environ, **process.env, MARK: str(self.home)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.running[process.name] = child
        self._set(process, pid=child.pid)
        exited = asyncio.create_task(child.wait())
        try:
            if process.ready is not None:
                healthy = asyncio.create_task(until_healthy(process.ready, process.patience))
                await asyncio.wait({exited, healthy}, return_when=asyncio.FIRST_COMPLETED)
                healthy.cancel()
                if not exited.done():
                    await healthy  # raises TimeoutError when it never became healthy
                    self._ready(process, "ready", began)
            code = await exited
            if process.ready is None and code == 0:
                self._ready(process, "done", began)
                self._set(process, pid=0)
            return code
        finally:
            if not exited.done():
                await self._end(process.name)
            self.running.pop(process.name, None)

    def _ready(self, process: Process, state: str, began: float) -> None:
        self._set(process, state=state, took=round(time.monotonic() - began, 2), why="")
        self.up[process.name].set()

    # --- ending

    async def _end(self, name: str, sig: int = signal.SIGTERM) -> None:
        child = self.running.get(name)
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sig)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()

    async def _stop_all(self) -> None:
        """First what others do not need, then what they needed: a service may say goodbye to Kafka and MongoDB."""
        for wanted in self.wanted.values():
            wanted.clear()
        needed = {need for process in self.table.values() for need in process.needs}
        await asyncio.gather(*(self._end(name) for name in self.table if name not in needed))
        await asyncio.gather(*(self._end(name) for name in needed))
        for life in self.lives.values():
            life.cancel()
        await asyncio.gather(*self.lives.values(), return_exceptions=True)
        sweep(self.home, spare=os.getpid())
        for status in self.status.values():
            status.state, status.pid = "stopped", 0
        self._write()

    # --- what others see and order

    def log(self, name: str) -> Path:
        return self.home / "log" / f"{name}.log"

    def _set(self, process: Process, **changes: Any) -> None:
        status = self.status[process.name]
        for key, value in changes.items():
            setattr(status, key, value)
        status.since = time.time()
        self._write()

    def _write(self) -> None:
        path = self.home / "run" / "stack.json"
        arriving = path.with_suffix(".arriving")
        whole = {
            "pid": os.getpid(),
            "base": self.base,
            "home": str(self.home),
            "processes": {name: asdict(status) for name, status in self.status.items()},
        }
        arriving.write_text(json.dumps(whole, ensure_ascii=False))
        arriving.rename(path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order = json.loads(await reader.readline())
        answer = await self._obey(order["do"], order.get("name", ""))
        writer.write(json.dumps(answer).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def _obey(self, do: str, name: str) -> dict[str, str]:
        if do == "down":
            self.ending.set()
        elif name not in self.table:
            return {"error": f"no process {name!r}; there are {', '.join(self.table)}"}
        elif do == "kill":
            child = self.running.get(name)
            if child is None:
                return {"error": f"{name} is not running"}
            self._set(self.table[name], state="restarting")
            os.killpg(child.pid, signal.SIGKILL)
        elif do == "stop":
            self.wanted[name].clear()
            await self._end(name)
            self._set(self.table[name], state="stopped", pid=0)
        elif do == "start":
            self.wanted[name].set()
        elif do == "restart":
            self._set(self.table[name], state="restarting")
            await self._end(name)
        else:
            return {"error": f"no order {do!r}"}
        return {}


def sweep(home: Path, spare: int = 0) -> None:
    """Ends what still carries this stack's mark: workers that outlived a killed parent, leftovers of a crash."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != spare and process.environ().get(MARK) == str(home):
                process.kill()


async def end_with_lease(supervisor: Supervisor) -> None:
    """The starter holds the other end of our standard input: its end, even by kill -9, is our end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    supervisor.ending.set()


def closure(table: list[Process], only: list[str]) -> list[Process]:
    """The named processes and everything they need."""
    rows = {process.name: process for process in table}
    chosen: set[str] = set()
    waiting = list(only)
    while waiting:
        name = waiting.pop()
        if name not in rows:
            raise SystemExit(f"no process {name!r}; there are {', '.join(rows)}")
        if name not in chosen:
            chosen.add(name)
            waiting.extend(rows[name].needs)
    return [process for process in table if process.name in chosen]


async def supervise(options: argparse.Namespace) -> None:
    module, function = options.table.split(":")
    table = getattr(importlib.import_module(module), function)(options.home, options.base, options.mongo_members)
    if options.only:
        table = closure(table, options.only.split(","))
    supervisor = Supervisor(table, options.home, options.base)
    for name in supervisor.table:
        log = supervisor.log(name)
        if log.exists():
            log.rename(log.with_suffix(".log.1"))
    lease = asyncio.create_task(end_with_lease(supervisor)) if options.leased else None
    await supervisor.run()
    if lease:
        lease.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("base", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--mongo-members", type=int, default=1)
    parser.add_argument("--table", default="devstack.table:processes")
    parser.add_argument("--leased", action="store_true")
    options = parser.parse_args()
    lock = (options.home / "run" / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"a stack is already running in {options.home}") from None
    sweep(options.home, spare=os.getpid())
    asyncio.run(supervise(options))


if __name__ == "__main__":
    main()
