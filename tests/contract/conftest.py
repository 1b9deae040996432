"""Each service as its own process would be made, on a database of its own."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import secrets, table
from devstack.ports import free_base
from eventkit.core import Core
from eventkit.main import Service

SERVICES = ("registration", "eligibility", "consult", "pharmacy", "payment")


def declared(name: str) -> Service:
    service: Service = importlib.import_module(f"services.{name}.__main__").SERVICE
    return service


@pytest.fixture(scope="session")
def settings(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home: Path = tmp_path_factory.mktemp("home")
    secrets.make(home / "secrets")
    return {
        **table.settings(home, free_base(), 1),
        "FUZHEN_MONGO_URL": parts.mongo_url,
        "FUZHEN_KAFKA": parts.kafka,
        "FUZHEN_PORT": "1",
        "FUZHEN_JWT_KEY_FILE": str(home / "secrets" / "jwt_key.pem"),
        "FUZHEN_CLIENTS_FILE": str(home / "secrets" / "clients.json"),
    }


@pytest.fixture
def core_of(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Core]]:
    made: list[Core] = []

    def make(name: str) -> Core:
        secret = Path(settings["FUZHEN_SECRETS"]) / "clients" / name
        prefix = f"contract_{uuid.uuid4().hex[:8]}"
        more = {"FUZHEN_SERVICE": name, "FUZHEN_CLIENT_SECRET_FILE": str(secret), "FUZHEN_DB_PREFIX": prefix}
        for key, value in (settings | more).items():
            monkeypatch.setenv(key, value)
        service = declared(name)
        core = Core.from_env(name, service.registry)
        core.ensure_indexes()
        service.prepare(core)
        made.append(core)
        return core

    yield make
    for core in made:
        core.mongo.drop_database(core.database.name)
        core.mongo.close()
