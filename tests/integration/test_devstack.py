"""The supervisor on toy processes: what it starts, starts again, explains, and leaves behind (nothing)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devstack.places import REPO
from devstack.ports import HOST, free_base, port
from devstack.stack import Stack, StackError
from devstack.supervisor import MARK

TABLE = "tests.integration.toy_table:processes"
GOOD = ["service"]  # it needs the job, which needs the store


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "home", free_base())
    (stack.home / "secrets").mkdir(parents=True)
    yield stack
    stack.stop()


def of_stack(stack: Stack) -> list[int]:
    """Every living process that belongs to the stack, however it was started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(stack.home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds
        time.sleep(0.02)
    return time.monotonic() - began


def test_what_is_asked_for_starts_with_what_it_needs_in_order(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    processes = stack.state()["processes"]
    assert {name: status["state"] for name, status in processes.items()} == {
        "store": "ready", "job": "done", "service": "ready",
    }  # fmt: skip
    assert processes["store"]["since"] < processes["job"]["since"] < processes["service"]["since"]
    assert (stack.home / "job-ran").exists()


def test_a_killed_process_is_back_within_a_second_and_the_others_do_not_notice(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    other = stack.pid("store")
    stack.kill("service")
    wait_until(lambda: stack.status("service")["restarts"] == 1)
    assert wait_until(lambda: stack.status("service")["state"] == "ready") < 1
    assert stack.pid("store") == other


def test_a_process_can_be_kept_away_for_a_while(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    stack.halt("store")
    assert stack.status("store")["state"] == "stopped"
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port("mongo", stack.base)), timeout=1):
        pass
    stack.resume("store")
    stack.wait_ready("store")
    with pytest.raises(StackError, match="no process 'nobody'; there are store, job, service"):
        stack.halt("nobody")


def test_the_end_leaves_no_process(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    assert len(of_stack(stack)) == 4  # two toys with a worker each
    stack.stop()
    assert of_stack(stack) == []
    assert not stack.is_up()


def test_a_killed_supervisor_takes_its_processes_along_and_the_next_start_sweeps_up(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    supervised = [stack.pid("store"), stack.pid("service")]
    os.kill(stack.state()["pid"], signal.SIGKILL)
    wait_until(lambda: not set(supervised) & set(of_stack(stack)) and not stack.is_up())
    orphans = of_stack(stack)  # workers of killed toys: nobody told them
    stack.start(GOOD, table=TABLE)
    assert not set(orphans) & set(of_stack(stack))


def test_a_stack_ends_with_the_python_process_that_started_it(stack: Stack) -> None:
    code = (
        "import sys, signal; from pathlib import Path; from devstack.stack import Stack\n"
        f"Stack(Path({str(stack.home)!r}), {stack.base}).start({GOOD!r}, table={TABLE!r}); signal.pause()"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=REPO)
    wait_until(lambda: stack.state().get("processes", {}).get("service", {}).get("state") == "ready", 20)
    starter.kill()
    starter.wait()
    wait_until(lambda: not stack.is_up())
    assert of_stack(stack) == []


def test_a_part_that_does_not_come_up_is_explained_by_its_last_lines(stack: Stack) -> None:
    with pytest.raises(StackError) as failure:
        stack.start(["crashing", *GOOD], table=TABLE)
    assert "crashing did not come up: it ended with code 1" in str(failure.value)
    assert "the reason is written here" in str(failure.value)
    assert of_stack(stack) == []


def test_a_missing_setting_is_not_tried_again(stack: Stack) -> None:
    with pytest.raises(StackError, match="unset did not come up: it ended with code 78"):
        stack.start(["unset"], table=TABLE)
    assert stack.status("unset")["restarts"] == 0


def test_a_port_in_use_is_named_with_its_holder(stack: Stack) -> None:
    with socket.create_server((HOST, port("mongo", stack.base))), pytest.raises(StackError) as failure:
        stack.start(GOOD, table=TABLE)
    assert f"port {port('mongo', stack.base)} is in use by pid {os.getpid()} (" in str(failure.value)


def test_one_home_has_one_stack(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    with pytest.raises(StackError, match="already running"):
        Stack(stack.home, stack.base).start(GOOD, table=TABLE)


def test_data_is_not_served_at_other_ports(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    stack.stop()
    with pytest.raises(StackError, match=f"belongs to port base {stack.base}, not {stack.base + 300}"):
        Stack(stack.home, stack.base + 300).start(GOOD, table=TABLE)


def test_secrets_are_made_once_and_for_their_owner_only(stack: Stack) -> None:
    stack.start(GOOD, table=TABLE)
    secrets = stack.home / "secrets"
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    assert {path.name for path in before} >= {"jwt_key.pem", "master_key", "clients.json", "registration", "his"}
    for path in before:
        assert path.stat().st_mode & 0o077 == 0, path
    stack.stop()
    stack.start(GOOD, table=TABLE)
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
