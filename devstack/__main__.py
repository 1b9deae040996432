"""`python -m devstack up|down|status|logs|clean|run`: everything on one machine. `make help` has the short forms."""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from devstack.process import PROBE_TIMEOUT, Process
from devstack.stack import FINE, Stack, StackError
from devstack.table import MONGO_MEMBERS, processes

console = Console(highlight=False, soft_wrap=True)


def progress(started: float) -> Callable[[dict[str, Any]], None]:
    """Prints each process once, in the order in which they become healthy."""
    told: set[str] = set()

    def on_change(state: dict[str, Any]) -> None:
        for name, status in state["processes"].items():
            if status["state"] in FINE and name not in told:
                told.add(name)
                console.print(f"  [green]✔[/] {time.monotonic() - started:5.1f} s  {name:<22} [dim]{status['url']}[/]")

    return on_change


def bring_up(stack: Stack, options: argparse.Namespace, *, daemon: bool) -> None:
    started = time.monotonic()
    console.print(f"[bold]starting[/] [dim]state in {stack.home}, ports from {stack.base}[/]")
    only = options.only.split(",") if options.only else []
    stack.start(only, daemon=daemon, mongo_members=options.mongo_members, on_change=progress(started))
    console.print(f"[bold green]healthy after {time.monotonic() - started:.1f} s[/]")


def up(stack: Stack, options: argparse.Namespace) -> int:
    if stack.is_up():
        console.print(f"already up in {stack.home} (`make status`)")
        return 0
    bring_up(stack, options, daemon=not options.foreground)
    if options.foreground:
        console.print("Ctrl-C ends it")
        try:
            signal.pause()
        finally:
            stack.stop()
    return 0


def run(stack: Stack, options: argparse.Namespace) -> int:
    """Runs a command with the stack up: starts and ends it unless it was up already. The command's exit code."""
    ours = not stack.is_up()
    if ours:
        bring_up(stack, options, daemon=False)
    try:
        environment = {**os.environ, "FUZHEN_HOME": str(stack.home), "FUZHEN_PORT_BASE": str(stack.base)}
        command = options.command[1:] if options.command[:1] == ["--"] else options.command
        return subprocess.run(command, check=False, env=environment).returncode
    finally:
        if ours:
            stack.stop()


def down(stack: Stack, options: argparse.Namespace) -> int:
    was_up = stack.is_up()
    stack.stop()
    console.print("down" if was_up else "it was not up")
    return 0


def status(stack: Stack, options: argparse.Namespace) -> int:
    if not stack.is_up():
        console.print(f"not up (no supervisor in {stack.home})")
        return 1
    statuses: dict[str, Any] = stack.state()["processes"]
    members = sum(name in MONGO_MEMBERS for name in statuses)
    rows = [row for row in processes(stack.home, stack.base, members) if row.name in statuses]
    answers = asyncio.run(ask(rows))
    table = Table(box=None, pad_edge=False)
    for column in ("process", "state", "pid", "restarts", "since", "address"):
        table.add_column(column)
    for name, answer in answers.items():
        row = statuses[name]
        state = "not healthy" if row["state"] == "ready" and not answer else row["state"]
        colour = "green" if state in FINE else "red"
        since = time.strftime("%H:%M:%S", time.localtime(row["since"]))
        table.add_row(name, f"[{colour}]{state}[/]", str(row["pid"] or ""), str(row["restarts"]), since, row["url"])
    console.print(table)
    return 0 if all(answers.values()) else 1


async def ask(rows: list[Process]) -> dict[str, bool]:
    """Whether each process is healthy at this moment, not only when it started. A job's answer is that it is done."""

    async def one(row: Process) -> bool:
        if row.ready is None:
            return True
        with contextlib.suppress(Exception):  # refused, reset, slow: not healthy
            async with asyncio.timeout(PROBE_TIMEOUT):
                return await row.ready()
        return False

    return dict(zip((row.name for row in rows), await asyncio.gather(*map(one, rows)), strict=True))


def logs(stack: Stack, options: argparse.Namespace) -> int:
    """Follows the logs whose name starts with the given one: `payment` is the API, the worker and the processors."""
    files = sorted(str(path) for path in (stack.home / "log").glob(f"{options.name}*.log"))
    if not files:
        console.print(f"no log of {options.name!r} in {stack.home / 'log'}")
        return 1
    follow = ["-F"] if stack.is_up() and sys.stdout.isatty() else []
    return subprocess.run(["tail", "-n", str(options.lines), *follow, *files], check=False).returncode


def clean(stack: Stack, options: argparse.Namespace) -> int:
    stack.stop()
    stack.wipe()
    console.print(f"data, logs and secrets in {stack.home} are gone")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    starting = argparse.ArgumentParser(add_help=False)
    starting.add_argument("--only", default="", help="these processes and what they need, comma-separated")
    starting.add_argument("--mongo-members", type=int, choices=(1, 3), default=1)
    upper = verbs.add_parser("up", parents=[starting], help="start everything; leave it running")
    upper.add_argument("--foreground", action="store_true", help="stay here, end it with Ctrl-C")
    runner = verbs.add_parser("run", parents=[starting], help="start everything, run a command, end everything")
    runner.add_argument("command", nargs=argparse.REMAINDER)
    for verb in ("down", "status", "clean"):
        verbs.add_parser(verb)
    logger = verbs.add_parser("logs")
    logger.add_argument("name", nargs="?", default="")
    logger.add_argument("--lines", type=int, default=40)
    options = parser.parse_args()
    # SIGTERM ends the stack as Ctrl-C does: a CI job that is cancelled leaves nothing behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    act = {"up": up, "run": run, "down": down, "status": status, "logs": logs, "clean": clean}[options.verb]
    try:
        return act(Stack(), options)
    except StackError as error:
        console.print(f"✘ {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
