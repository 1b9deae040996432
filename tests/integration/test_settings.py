"""A missing setting stops the start of every process, with one line that names it and exit code 78."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import secrets, table
from devstack.ports import PARTNERS, SERVICES, STREAMS

PROCESSES = [
    *((f"services.{name}", "api") for name in SERVICES),
    *((f"services.{name}", "worker") for name in SERVICES),
    *((f"services.{name.partition('.')[0]}", "streams", name.partition(".")[2]) for name in STREAMS),
    *((f"partners.{name}",) for name in PARTNERS),
]
NEEDED = {"worker": "FUZHEN_MONGO_URL", "api": "FUZHEN_MASTER_KEY_FILE", "streams": "FUZHEN_KAFKA"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home: Path = tmp_path_factory.mktemp("home")
    secrets.make(home / "secrets")
    return table.settings(home, base=1, mongo_members=1)


@pytest.mark.parametrize("command", PROCESSES, ids=[" ".join(command) for command in PROCESSES])
def test_a_missing_setting_is_named(command: tuple[str, ...], settings: dict[str, str], tmp_path: Path) -> None:
    missing = NEEDED[command[1]] if len(command) > 1 else "FUZHEN_PORT"
    secret = Path(settings["FUZHEN_SECRETS"]) / "clients" / "payment"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FUZHEN_")},
        **settings, "FUZHEN_PORT": "1", "FUZHEN_DATA": str(tmp_path), "FUZHEN_CLIENT_SECRET_FILE": str(secret),
    }
    del env[missing]
    ended = subprocess.run(
        [sys.executable, "-m", *command], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 78, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if line]
    assert missing in line
    assert "Traceback" not in ended.stderr + ended.stdout
