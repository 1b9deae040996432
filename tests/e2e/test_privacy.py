"""§31: ID numbers, names, phones, addresses and medical text never travel on Kafka, stand in no log, and nowhere in our
databases in clear. Looked for after everything else has run: what the three families said, in every way of writing it,
and whatever else anybody said to the API in this run. (The partners' books are theirs.)"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import pytest
from aiokafka import AIOKafkaConsumer
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from devstack.stack import Stack
from eventkit.contracts import contracts
from tests.e2e.families import Family
from tests.e2e.heard import Needles, Said, partitions

CHUNK = 8 << 20
Search = Callable[[bytes], set[str]]


@pytest.fixture(scope="module")
def search(families: tuple[Family, Family], talking: Family, said: Said) -> Search:
    """What of all that was said stands in some bytes."""
    everybody = (*families, talking)
    texts = [value for family in everybody for value in family.values.values() if not value.isascii()]
    assert all(any(family.tag in text for family in everybody) for text in texts)
    numbers = {value for family in everybody for value in family.values.values() if value.isascii()}
    needles = Needles(numbers | {family.tag for family in everybody})
    assert said.found_in(talking.values["address"].encode()), "the families are among what was said"
    return lambda content: needles.found_in(content) | said.found_in(content)


def test_the_search_finds_what_it_is_for(families: tuple[Family, Family], search: Search) -> None:
    """Or the silence below would prove nothing."""
    name, phone = families[0].values["name"], families[0].values["phone"]
    written = [name, json.dumps(name), json.dumps(json.dumps(name)), quote(name), repr(name.encode()), f"tel {phone}"]
    written += [base64.b64encode(f"{'x' * before}{name} {phone}".encode()).decode() for before in range(3)]
    written += [hashlib.sha256(phone.encode()).hexdigest()]
    assert [text for text in written if not search(text.encode())] == []
    assert search("今天天气晴朗 13000000009 C00000001".encode()) == set()


def test_kafka_has_no_personal_value(stack: Stack, search: Search) -> None:
    """§31: every topic, partition, key, header and value, of ours, of the HIS, of Faust, and of the dead letters."""

    async def records() -> AsyncIterator[tuple[str, bytes]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka, max_partition_fetch_bytes=CHUNK)
        await consumer.start()
        try:
            places = await partitions(stack.kafka)
            assert {place.topic for place in places}.issuperset(contracts().topics)
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            left = {place for place in places if await consumer.position(place) < ends[place]}
            while left:
                for place, batch in (await consumer.getmany(timeout_ms=1000)).items():
                    headers = b"\n".join(name.encode() + b"=" + value for r in batch for name, value in r.headers)
                    yield place.topic, b"\n".join(part or b"" for r in batch for part in (r.key, r.value)) + headers
                left = {place for place in left if await consumer.position(place) < ends[place]}
        finally:
            await consumer.stop()

    async def found() -> tuple[int, dict[str, set[str]]]:
        size = 0
        leaks: dict[str, set[str]] = {}
        async for topic, content in records():
            size += len(content)
            if values := search(content):
                leaks.setdefault(topic, set()).update(values)
        return size, leaks

    size, leaks = asyncio.run(found())
    assert size > 10_000
    assert leaks == {}


def test_logs_have_no_personal_value_and_no_token(stack: Stack, search: Search) -> None:
    """§31: what every process of the stack wrote; a token in a log would open the door to all the rest."""
    files = sorted((stack.home / "log").iterdir())
    assert {"registration.log", "envoy.log", "kafka.log", "mongo.log"} <= {file.name for file in files}
    leaks = {}
    for file in files:
        content = file.read_bytes()
        values = search(content) | ({"a token"} if b"eyJhbGciOi" in content else set())
        if values:
            leaks[file.name] = values
    assert leaks == {}


def test_databases_have_no_personal_value_in_clear(stack: Stack, search: Search) -> None:
    """§31, §32: every collection of every database, and the operations log, which also has what was deleted since."""
    leaks: dict[str, set[str]] = {}
    client: MongoClient[RawBSONDocument] = MongoClient(stack.mongo_url, document_class=RawBSONDocument)
    with client:
        databases = set(client.list_database_names())
        assert {"local", "fuzhen_registration", "fuzhen_consult", "fuzhen_pharmacy"} <= databases
        for database in databases:
            for collection in client[database].list_collection_names():
                kept = b""
                for document in client[database][collection].find():
                    kept += document.raw
                    if len(kept) > CHUNK:
                        note(leaks, f"{database}.{collection}", search(kept))
                        kept = b""
                note(leaks, f"{database}.{collection}", search(kept))
    assert leaks == {}


def note(leaks: dict[str, set[str]], where: str, values: set[str]) -> None:
    if values:
        leaks.setdefault(where, set()).update(values)
