"""The event store on a real MongoDB replica set."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.database import Database

from eventkit.clock import FixedClock
from eventkit.mongo_store import MongoBackend, connect, ensure_indexes
from eventkit.store import Decision, Store
from eventkit.vault import ErasedPerson, Vault
from tests.store_suite import NOON, StoreSuite, asked, noted, registry


@pytest.fixture
def database(parts: Any) -> Iterator[Database[dict[str, Any]]]:
    client = connect(parts.mongo_url)
    database = client[f"test_{uuid.uuid4().hex[:12]}"]
    ensure_indexes(database)
    yield database
    client.drop_database(database.name)
    client.close()


class TestMongoStore(StoreSuite):
    @pytest.fixture
    def backend(self, database: Database[dict[str, Any]]) -> MongoBackend:
        return MongoBackend(database)


def test_a_commit_is_one_document_with_a_position_from_the_server(database: Database[dict[str, Any]]) -> None:
    store = Store(MongoBackend(database), registry, Vault(database, os.urandom(32)), FixedClock(NOON))
    for number in range(3):
        store.execute(asked(f"k{number}"), ["visit-1"], lambda h: Decision([("visit-1", noted("cough"))]))
    documents = list(database["commits"].find().sort("pos", 1))
    assert [document["_id"] for document in documents] == [f"visit-1/{n:010d}" for n in (1, 2, 3)]
    assert all(document["pos"].time > 0 for document in documents)


def test_a_personal_value_is_unreadable_in_the_database_and_gone_with_its_key(
    database: Database[dict[str, Any]],
) -> None:
    """§32, design rule 10."""
    vault = Vault(database, os.urandom(32))
    store = Store(MongoBackend(database), registry, vault, FixedClock(NOON))
    store.execute(asked("k"), ["visit-1"], lambda h: Decision([("visit-1", noted("night sweats"))]))
    assert "night sweats" not in str(database["commits"].find_one())
    assert store.load("visit-1")["visit-1"][0].event.note == "night sweats"
    vault.erase("p", NOON)
    assert store.load("visit-1")["visit-1"][0].event.note is None
    with pytest.raises(ErasedPerson):
        store.execute(asked("k2"), ["visit-1"], lambda h: Decision([("visit-1", noted("again"))]))


def test_a_sealed_value_moved_elsewhere_does_not_open(database: Database[dict[str, Any]]) -> None:
    vault = Vault(database, os.urandom(32))
    sealed = vault.seal("p", {"note": "x"}, "visit-1/1")
    with pytest.raises(ValueError, match="does not belong"):
        vault.open("p", sealed, "visit-1/2")


def test_group_commit_gives_each_caller_its_own_outcome(database: Database[dict[str, Any]]) -> None:
    """64 callers at once, half of them repeating a key that another holds: each gets its own answer."""
    store = Store(MongoBackend(database), registry, Vault(database, os.urandom(32)), FixedClock(NOON))

    def write(number: int) -> str:
        stream = f"visit-{number % 32}"
        event = noted("x", str(number % 32))
        return str(store.execute(asked(f"k{number % 32}"), [stream], lambda h: Decision([(stream, event)])).status)

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(write, range(64))) == ["200"] * 64
    assert database["commits"].count_documents({}) == 32
