"""The log's way out and in on real parts: relay, deadlines, inbox (design rules 3, 4, 5)."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pymongo.database import Database

from eventkit import deadlines as deadlines_module
from eventkit import inbox as inbox_module
from eventkit.clock import FixedClock
from eventkit.contracts import Contracts
from eventkit.deadlines import Again, Deadlines, Row, Runner
from eventkit.envelope import Envelope, sequence
from eventkit.follower import Follower, connect_async
from eventkit.inbox import Inbox, Passing, request_for
from eventkit.mongo_store import MongoBackend, connect, ensure_indexes
from eventkit.relay import Relay, make_producer
from eventkit.store import Commit, Decision, Due, Request, Store
from eventkit.topics import apply, wanted
from eventkit.vault import Vault
from tests.store_suite import NOON, VisitNoted, asked, noted, registry

SECONDS = 30.0
TYPE = "org.fuzhen.suite.VisitNoted.v1"


class Rig:
    """One service's database and one topic of its own, on the parts of the test run."""

    def __init__(self, parts: Any, root: Path) -> None:
        self.name = f"t{uuid.uuid4().hex[:10]}"
        self.kafka: str = parts.kafka
        self.mongo_url: str = parts.mongo_url
        self.client = connect(parts.mongo_url)
        self.database: Database[dict[str, Any]] = self.client[self.name]
        self.clock = FixedClock(NOON)
        ensure_indexes(self.database)
        self.store = Store(
            MongoBackend(self.database), registry, Vault(self.database, os.urandom(32)), self.clock
        )
        self.topic = "suite.visit.v1"
        self.group = f"{self.name}.policies"
        (root / "topics").mkdir()
        (root / "topics" / f"{self.topic}.yaml").write_text(yaml.safe_dump({
            "description": "test", "owner": "suite", "key": "visit_id", "partitions": 3, "types": [TYPE],
            "readers": [self.group],
        }))
        (root / "schemas" / "suite").mkdir(parents=True)
        (root / "schemas" / "suite" / "VisitNoted.v1.json").write_bytes(orjson.dumps({
            "type": "object", "required": ["visit_id"], "properties": {"visit_id": {"type": "string"}},
        }))
        self.contracts = Contracts(root)

    def note(self, visit: str, key: str, due: list[Due] | None = None) -> None:
        stream = f"visit-{visit}"
        self.store.execute(asked(key), [stream], lambda h: Decision([(stream, noted("secret", visit))], due or []))

    async def topics(self) -> None:
        await apply(self.kafka, wanted(self.contracts), 1)

    def envelope(self, visit: str, version: int) -> Envelope:
        return Envelope(
            id=f"visit-{visit}/{version}", source="/services/suite", type=TYPE, subject=visit,
            time="2026-11-23T04:00:00Z", partitionkey=visit, sequence=sequence(version), data={"visit_id": visit},
        )

    async def produce(self, *messages: tuple[str, bytes]) -> None:
        producer = make_producer(self.kafka)
        await producer.start()
        for key, value in messages:
            await producer.send_and_wait(self.topic, value, key=key.encode())
        await producer.stop()

    async def read(self, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, n) for n in range(3)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[ConsumerRecord[bytes, bytes]] = []
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
            return found
        finally:
            await consumer.stop()


@pytest.fixture
def rig(parts: Any, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(parts, tmp_path)
    # Each test starts with the shared topic as it is and looks only at its own visits.
    yield rig
    rig.client.drop_database(rig.name)
    rig.client.close()


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        yield tasks  # type: ignore[misc]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], Any], tasks: list[asyncio.Task[None]] | None = None) -> None:
    async with asyncio.timeout(SECONDS):
        while not (await asyncio.to_thread(condition)):
            for task in tasks or []:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)


def mine(records: list[ConsumerRecord[bytes, bytes]], prefix: str) -> list[Envelope]:
    found = [Envelope.parse(record.value) for record in records if record.value.startswith(b"{")]
    return [envelope for envelope in found if envelope.subject.startswith(prefix)]


async def _relay_until(rig: Rig, handled: int) -> None:
    producer = make_producer(rig.kafka)
    await producer.start()
    async with connect_async(rig.mongo_url) as mongo:
        relay = Follower(mongo[rig.name], "relay", Relay(producer, registry.source).publish)
        async with running(relay.run()) as tasks:
            await until(lambda: relay.checkpointed >= handled, tasks)
    await producer.stop()


def test_the_relay_publishes_every_public_event_once_in_order_and_resumes(rig: Rig) -> None:
    async def scenario() -> None:
        await rig.topics()
        for version in range(1, 6):
            rig.note(f"{rig.name}a", f"a{version}")
            rig.note(f"{rig.name}b", f"b{version}")
        await _relay_until(rig, 10)
        rig.note(f"{rig.name}a", "a6")
        await _relay_until(rig, 1)
        records = await rig.read(rig.topic)
        assert b"secret" not in b"".join(record.value for record in records), "§31 personal values stay behind"
        envelopes = mine(records, f"{rig.name}a")
        assert [envelope.version for envelope in envelopes] == [1, 2, 3, 4, 5, 6]
        # A first start scans and then tails from an instant before the scan: the last event may come twice.
        assert [e.version for e in mine(records, f"{rig.name}b")][:5] == [1, 2, 3, 4, 5]
        rig.contracts.validate(envelopes[0], rig.topic)

    asyncio.run(scenario())


def test_a_crash_between_produce_and_checkpoint_publishes_again_with_the_same_id(rig: Rig) -> None:
    async def scenario() -> None:
        await rig.topics()
        rig.note(f"{rig.name}a", "a1")
        await _relay_until(rig, 1)
        rig.database["checkpoints"].delete_many({})  # as if the process had died before it was written
        await _relay_until(rig, 1)
        ids = [envelope.id for envelope in mine(await rig.read(rig.topic), rig.name)]
        assert len(ids) >= 2
        assert set(ids) == {f"visit-{rig.name}a/1"}

    asyncio.run(scenario())


def test_a_relay_whose_change_stream_history_is_gone_rescans_by_position(rig: Rig) -> None:
    async def scenario() -> None:
        await rig.topics()
        rig.note(f"{rig.name}a", "a1")
        await _relay_until(rig, 1)
        checkpoint = rig.database["checkpoints"].find_one({"_id": "relay"})
        assert checkpoint is not None
        # The same token as if it came from 2001: the oplog no longer reaches back to it.
        ancient = {"_data": checkpoint["token"]["_data"][:2] + "3B9ACA00" + checkpoint["token"]["_data"][10:]}
        rig.database["checkpoints"].update_one({"_id": "relay"}, {"$set": {"token": ancient}})
        rig.note(f"{rig.name}a", "a2")
        await _relay_until(rig, 2)
        rig.note(f"{rig.name}a", "a3")
        await _relay_until(rig, 1)
        versions = [envelope.version for envelope in mine(await rig.read(rig.topic), rig.name)]
        assert set(versions) == {1, 2, 3}

    asyncio.run(scenario())


def test_deadlines_fire_once_and_never_early_whoever_runs_them(rig: Rig) -> None:
    """Design rule 5, with two runners side by side and a job that needs a second try."""
    fired: list[tuple[str, int]] = []
    early: list[str] = []
    lock = threading.Lock()

    def job(row: Row) -> Again | None:
        with lock:
            if rig.clock.now() < row.due:
                early.append(row.id)
            fired.append((row.id, row.attempt))
        return Again(0.05) if row.id.endswith("-3") and row.attempt == 1 else None

    async def scenario() -> None:
        deadlines = Deadlines(rig.database, rig.clock)
        deadlines.ensure_indexes()

        async def write(commits: list[Commit]) -> None:
            await asyncio.to_thread(deadlines.write, commits)

        for number in range(8):
            at = rig.clock.now() + timedelta(minutes=number)
            rig.note(f"{rig.name}a", f"k{number}", [Due(f"{rig.name}-{number}", at, "job", {})])
        runners = [Runner(Deadlines(rig.database, rig.clock), {"job": job}).run() for _ in range(2)]
        rows = rig.database["deadlines"]
        async with (
            connect_async(rig.mongo_url) as mongo,
            running(Follower(mongo[rig.name], "deadlines", write).run(), *runners) as tasks,
        ):
            await until(lambda: rows.count_documents({}) == 8, tasks)
            await until(lambda: rows.count_documents({"state": "done"}) == 1, tasks)
            rig.clock.advance(timedelta(minutes=7))
            await until(lambda: rows.count_documents({"state": "done"}) == 8, tasks)

    asyncio.run(scenario())
    assert early == []
    assert sorted(fired) == sorted([(f"{rig.name}-{n}", 1) for n in range(8)] + [(f"{rig.name}-3", 2)])


def test_a_job_that_raises_keeps_its_row(rig: Rig) -> None:
    deadlines = Deadlines(rig.database, rig.clock)
    deadlines.write([_commit_with(Due("x", NOON, "job"))])
    row = deadlines.claim()
    assert row is not None
    assert deadlines.claim() is None, "claimed rows belong to one runner"
    deadlines.release()
    row = deadlines.claim()
    assert row is not None, "a restarted runner takes up what it was killed over"
    assert row.attempt == 2
    Runner(deadlines, {"job": lambda row: 1 / 0})._run_row(row)  # type: ignore[arg-type, return-value]
    stored = rig.database["deadlines"].find_one({"_id": "x"})
    assert stored is not None
    assert stored["state"] == "waiting"
    assert stored["last_reason"] == "ZeroDivisionError"
    assert deadlines_module.FIRST_RETRY_SECONDS < 1


def _commit_with(due: Due) -> Commit:
    return Commit((), NOON, Request("c", "r", "k"), Decision().answer, (due,))


def _inbox(rig: Rig, handler: Callable[[Envelope], None]) -> Inbox:
    return Inbox(
        rig.group, {"VisitNoted": handler}, kafka=rig.kafka, database=rig.database, contracts=rig.contracts,
    )


def test_an_inbox_repeats_harmlessly_resumes_from_its_own_position_and_keeps_order(rig: Rig) -> None:
    """Design rule 4."""

    def effect(envelope: Envelope) -> None:
        if not envelope.subject.startswith(rig.name):
            return
        stream = f"copy-{envelope.subject}"
        rig.store.execute(
            request_for(rig.group, envelope),
            [stream],
            lambda h: Decision([(stream, VisitNoted(envelope.subject, "p", str(envelope.version)))]),
        )

    def copied(visit: str) -> list[str]:
        return [recorded.event.note for recorded in rig.store.load(f"copy-{visit}")[f"copy-{visit}"]]

    async def scenario() -> None:
        await rig.topics()
        visits = [f"{rig.name}{letter}" for letter in "abcd"]
        await rig.produce(*((v, rig.envelope(v, n).to_bytes()) for n in range(1, 6) for v in visits))
        await rig.produce(*((v, rig.envelope(v, n).to_bytes()) for n in range(1, 6) for v in visits))  # all again
        first = _inbox(rig, effect)
        async with running(first.run()) as tasks:
            await until(lambda: all(copied(v) == ["1", "2", "3", "4", "5"] for v in visits), tasks)
            await until(lambda: first.assigned and first.lag == 0 and first.handled >= 40, tasks)
        await rig.produce((visits[0], rig.envelope(visits[0], 6).to_bytes()))
        second = _inbox(rig, effect)
        async with running(second.run()) as tasks:
            await until(lambda: copied(visits[0])[-1] == "6", tasks)
            assert second.handled < 40, "it began at the stored position, not at the beginning"

    asyncio.run(scenario())


def test_what_cannot_be_read_goes_to_dead_letters_with_its_reason_while_the_partition_goes_on(rig: Rig) -> None:
    seen: list[str] = []
    visit = f"{rig.name}a"
    broken = rig.envelope(visit, 2)
    unknown = Envelope.parse(broken.to_bytes().replace(b"VisitNoted", b"VisitForgotten"))
    without = orjson.dumps(orjson.loads(broken.to_bytes()) | {"data": {"patient_name": "王小明"}})

    async def scenario() -> None:
        await rig.topics()
        await rig.produce(
            (visit, b"not json"),
            (visit, unknown.to_bytes()),
            (visit, without),
            (visit, rig.envelope(visit, 3).to_bytes()),
        )
        async with running(_inbox(rig, lambda e: seen.append(e.id)).run()) as tasks:
            await until(lambda: f"visit-{visit}/3" in seen, tasks)
        letters = [r for r in await rig.read(f"dlq.{rig.group}") if (r.key or b"").decode() == visit]
        reasons = [dict(letter.headers)["reason"].decode() for letter in letters]
        assert reasons[0] == "not JSON"
        assert "does not belong on" in reasons[1]
        assert "breaks required" in reasons[2]
        assert "王小明" not in reasons[2], "§31"

    asyncio.run(scenario())


def test_a_passing_failure_is_tried_again_and_a_lasting_one_ends_the_worker(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "FIRST_RETRY_SECONDS", 0.001)
    visit = f"{rig.name}a"
    calls: list[str] = []

    def passing(envelope: Envelope) -> None:
        if envelope.subject == visit:
            calls.append(envelope.id)
            if len(calls) < 3:
                raise Passing("not yet")

    def lasting(envelope: Envelope) -> None:
        if envelope.subject == visit:
            raise Passing("never")

    async def scenario() -> None:
        await rig.topics()
        await rig.produce((visit, rig.envelope(visit, 1).to_bytes()))
        async with running(_inbox(rig, passing).run()) as tasks:
            await until(lambda: len(calls) == 3, tasks)
        rig.database["positions"].delete_many({})
        with pytest.raises(RuntimeError, match="again and again"):
            async with asyncio.timeout(SECONDS):
                await _inbox(rig, lasting).run()

    asyncio.run(scenario())


def test_a_jump_in_the_offsets_is_read_again_before_going_on(rig: Rig) -> None:
    """The consumer is moved behind our back, as a faulty library would: nothing may be missing afterwards."""
    visit = f"{rig.name}a"
    seen: list[int] = []

    def note(envelope: Envelope) -> None:
        if envelope.subject == visit:
            seen.append(envelope.version)

    async def scenario() -> None:
        await rig.topics()
        await rig.produce(*((visit, rig.envelope(visit, n).to_bytes()) for n in range(1, 41)))
        inbox = _inbox(rig, note)
        contiguous = inbox._contiguous
        dropped = 0

        async def lossy(consumer: Any, tp: TopicPartition, batch: list[Any]) -> list[Any]:
            nonlocal dropped
            if not dropped and len(batch) > 10:
                dropped = 10
                batch = batch[10:]
            return await contiguous(consumer, tp, batch)

        inbox._contiguous = lossy  # type: ignore[method-assign]
        async with running(inbox.run()) as tasks:
            await until(lambda: seen[-1:] == [40], tasks)
        assert dropped == 10
        assert sorted(set(seen)) == list(range(1, 41))

    asyncio.run(scenario())
