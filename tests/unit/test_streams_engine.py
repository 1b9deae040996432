"""The engine between a log and a store that exist in memory, and a kill that strikes at any of its steps."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from eventkit.envelope import Envelope, InvalidEvent, sequence
from eventkit.streams.engine import DEAD_LETTER_LIMIT, Engine
from eventkit.streams.guard import CLAIM, POSITION, Claim, Kept, Output, Processor, kept_from, position_from, to_bytes

COUNTED = "org.fuzhen.test.Counted.v1"
REACHED = "org.fuzhen.test.Reached.v1"
SOURCES = ("count.v1", "mark.v1")


@dataclass(frozen=True)
class Totals:
    counts: dict[str, int] = field(default_factory=dict)


def derive(state: Totals | None, event: Envelope) -> tuple[Totals, list[Output]]:
    counts = {**(state.counts if state else {})}
    counts[event.stream] = counts.get(event.stream, 0) + 1
    count = counts[event.stream]
    due = [Output(REACHED, event.subject, {"count": count}, (event.stream, str(count)))] if count % 3 == 0 else []
    return Totals(counts), due


class Known:
    def validate(self, envelope: Envelope, topic: str | None = None) -> None:
        if envelope.type not in (COUNTED, REACHED):
            raise InvalidEvent(f"{envelope.type} does not belong on {topic}")


PROCESSOR: Processor[Totals] = Processor("test.totals", SOURCES, "reached.v1", Totals, derive, partitions=2)


class Killed(BaseException):
    """kill -9: nothing after it happens."""


class Ended(BaseException):
    """The engine ended its process, and says why."""


def end(reason: str) -> NoReturn:
    raise Ended(reason)


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Any, ...] = ()


class World:
    """The broker, and the disk of one worker. `kill_in` steps from now everything stops."""

    def __init__(self) -> None:
        self.log: dict[TopicPartition, list[Record]] = defaultdict(list)
        self.begin: dict[TopicPartition, int] = defaultdict(int)
        self.disk: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self.reached: dict[int, int] = defaultdict(int)
        self.kill_in = -1

    def step(self) -> None:
        if self.kill_in == 0:
            raise Killed
        self.kill_in -= 1

    def append(self, topic: str, partition: int, records: Iterable[tuple[Any, ...]]) -> int:
        place = TopicPartition(topic, partition)
        base = len(self.log[place])
        for n, record in enumerate(records):
            self.log[place].append(Record(topic, partition, base + n, *record))
        return base

    def count(self, topic: str, partition: int, account: str, version: int) -> None:
        stream = f"{topic.split('.')[0]}-{account}"
        event = Envelope(f"{stream}/{version}", "/services/test", COUNTED, account, "2026-11-23T09:00:00.000Z", account,
                         sequence(version), {})
        self.append(topic, partition, [(account.encode(), event.to_bytes())])


@dataclass
class Ack:
    offset: int


class Producer:
    def __init__(self, world: World) -> None:
        self._world = world

    async def start(self) -> None:
        pass

    async def send(self, topic: str, value: bytes, key: bytes | None = None, headers: Any = ()) -> Any:
        self._world.step()
        ack = asyncio.get_running_loop().create_future()
        ack.set_result(Ack(self._world.append(topic, 0, [(key, value, tuple(headers))])))
        self._world.step()
        return ack

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> Any:
        return await (await self.send(*args, **kwargs))

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
        self._world.step()
        ack = asyncio.get_running_loop().create_future()
        ack.set_result(Ack(self._world.append(topic, partition, batch.pairs)))
        self._world.step()
        return ack


class Batch:
    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def append(self, *, timestamp: int | None, key: bytes, value: bytes) -> object:
        self.pairs.append((key, value))
        return self

    def close(self) -> None:
        pass


class Reader:
    def __init__(self, world: World) -> None:
        self._world = world

    async def start(self) -> None:
        pass

    async def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: len(self._world.log[place]) for place in places}

    async def beginnings(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self._world.begin[place] for place in places}

    async def read(self, ranges: Any) -> AsyncIterator[tuple[TopicPartition, list[Record]]]:
        for place, (start, stop) in ranges.items():
            records = self._world.log[place][max(start, self._world.begin[place]) : stop]
            for at in range(0, len(records), 3):
                yield place, records[at : at + 3]


class Store:
    def __init__(self, world: World) -> None:
        self._world = world

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self._world.disk[partition].get(key)

    def reached(self, partition: int) -> int:
        return self._world.reached[partition]

    def write(self, partition: int, records: Iterable[tuple[bytes, bytes]], reached: int) -> None:
        self._world.step()
        self._world.disk[partition].update(records)
        self._world.reached[partition] = reached
        self._world.step()

    def wipe(self, partition: int) -> None:
        self._world.disk.pop(partition, None)
        self._world.reached.pop(partition, None)


def started(world: World) -> Engine:
    links: Any = (Producer(world), Reader(world))
    known: Any = Known()
    engine = Engine(PROCESSOR, known, lambda: links, end)
    store: Any = Store(world)
    engine.store = store
    return engine


async def working(world: World, partitions: set[int]) -> Engine:
    engine = started(world)
    await engine.assign(partitions)
    await engine.take_over(partitions)
    return engine


def counts(world: World, partition: int = 0) -> dict[str, dict[str, int]]:
    return {
        key.decode(): PROCESSOR.decode(kept_from(value).state).counts
        for key, value in world.disk[partition].items()
        if key not in (CLAIM, POSITION)
    }


def outputs(world: World) -> list[str]:
    return [Envelope.parse(r.value).id for r in world.log[TopicPartition("reached.v1", 0)]]


def dead_letters(world: World) -> list[dict[str, str]]:
    return [{name: text.decode() for name, text in r.headers} for r in world.log[TopicPartition("dlq.test.totals", 0)]]


def source(world: World, topic: str = "count.v1", partition: int = 0) -> list[Any]:
    return world.log[TopicPartition(topic, partition)]


def test_states_outputs_and_position_follow_the_events() -> None:
    async def story() -> None:
        world = World()
        for version in range(1, 8):
            world.count("count.v1", 0, "a", version)
        engine = await working(world, {0})
        await engine.process(source(world))
        assert counts(world) == {"a": {"count-a": 7}}
        assert len(set(outputs(world))) == len(outputs(world)) == 2
        assert engine.positions[TP("count.v1", 0)] == 7
        *_, last = world.log[TopicPartition("test.totals-state-changelog", 0)]
        assert last.key == POSITION
        assert position_from(last.value or b"").next == {"count.v1": 7, "mark.v1": 0}

    asyncio.run(story())


def test_what_the_library_skips_is_read_from_the_topic_and_what_it_repeats_is_dropped() -> None:
    async def story() -> None:
        world = World()
        for version in range(1, 31):
            world.count("count.v1", 0, "a", version)
        engine = await working(world, {0})
        records = source(world)
        await engine.process([*records[:5], *records[3:6], *records[20:25]])
        await engine.process([records[2], records[29]])
        assert counts(world) == {"a": {"count-a": 30}}
        assert (engine.counts.jumps, engine.counts.filled, engine.counts.dropped) == (2, 14 + 4, 3)

    asyncio.run(story())


def test_a_partition_that_is_not_ours_is_left_alone() -> None:
    async def story() -> None:
        world = World()
        world.count("count.v1", 1, "b", 1)
        engine = await working(world, {0})
        await engine.process(source(world, partition=1))
        assert counts(world, 1) == {}
        await engine.release()
        world.count("count.v1", 0, "a", 1)
        await engine.process(source(world))
        assert counts(world) == {}

    asyncio.run(story())


def test_a_late_take_over_of_partitions_that_moved_on_does_nothing() -> None:
    async def story() -> None:
        world = World()
        engine = started(world)
        await engine.assign({0, 1})
        await engine.release()
        await engine.take_over({0, 1})
        assert not engine.positions
        assert not world.log[TopicPartition("test.totals-state-changelog", 0)]

    asyncio.run(story())


def test_an_invalid_record_goes_to_the_dead_letters_and_the_partition_goes_on() -> None:
    async def story() -> None:
        world = World()
        world.count("count.v1", 0, "a", 1)
        world.append("count.v1", 0, [(b"a", b"{"), (None, None)])
        world.count("count.v1", 0, "a", 2)
        engine = await working(world, {0})
        await engine.process(source(world))
        assert counts(world) == {"a": {"count-a": 2}}
        assert [(letter["reason"], letter["offset"]) for letter in dead_letters(world)] == [
            ("not JSON", "1"), ("not JSON", "2"),
        ]

    asyncio.run(story())


def test_a_burst_of_invalid_records_ends_the_worker_and_a_restart_does_not_let_more_through() -> None:
    async def story() -> None:
        world = World()
        world.append("count.v1", 0, [(b"a", b"{")] * 3 * DEAD_LETTER_LIMIT)
        for _ in range(3):
            engine = await working(world, {0})

            async def one_by_one(engine: Engine) -> None:
                for record in source(world)[engine.positions[TP("count.v1", 0)] :]:
                    await engine.process([record])

            with pytest.raises(Ended):
                await one_by_one(engine)
        assert len(dead_letters(world)) == DEAD_LETTER_LIMIT

    asyncio.run(story())


def test_records_that_retention_took_are_told_and_the_rest_is_read() -> None:
    async def story() -> None:
        world = World()
        for version in range(1, 11):
            world.count("count.v1", 0, "a", version)
        engine = await working(world, {0})
        await engine.process(source(world)[:2])
        world.begin[TopicPartition("count.v1", 0)] = 5
        await engine.process([source(world)[8]])
        assert engine.positions[TP("count.v1", 0)] == 9
        [letter] = dead_letters(world)
        assert (letter["offset"], letter["until"]) == ("2", "5")
        world.begin[TopicPartition("count.v1", 0)] = 10
        engine = await working(world, {0})
        assert engine.positions[TP("count.v1", 0)] == 10
        assert (dead_letters(world)[1]["offset"], dead_letters(world)[1]["until"]) == ("9", "10")

    asyncio.run(story())


def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    async def story() -> None:
        world = World()
        for version in range(1, 11):
            world.count("count.v1", 0, "a", version)
        engine = await working(world, {0})
        await engine.process(source(world))
        world.log[TopicPartition("count.v1", 0)].clear()
        world.count("count.v1", 0, "a", 10)
        world.count("count.v1", 0, "a", 11)
        engine = await working(world, {0})
        await engine.process(source(world))
        assert counts(world) == {"a": {"count-a": 11}}
        assert "ends before" in dead_letters(world)[0]["reason"]

    asyncio.run(story())


@pytest.mark.parametrize("returns", ["before the owner writes", "after the owner died"])
def test_a_worker_that_lost_its_partition_ends_and_what_it_wrote_is_written_over(returns: str) -> None:
    async def story() -> None:
        world = World()
        for version in range(1, 4):
            world.count("count.v1", 0, "a", version)
        world.count("count.v1", 0, "b", 1)
        old = await working(world, {0})
        await old.process(source(world)[:1])
        # A second worker takes over on an empty disk of its own, while the first one sleeps.
        mine, world.disk, world.reached = (world.disk, world.reached), defaultdict(dict), defaultdict(int)
        new = await working(world, {0})
        await new.process(source(world)[:3])
        theirs, (world.disk, world.reached) = (world.disk, world.reached), mine
        with pytest.raises(Ended, match="another owner"):
            await old.process(source(world)[:2])
        changelog = world.log[TopicPartition("test.totals-state-changelog", 0)]

        def last_of(key: bytes) -> Totals:
            [*_, record] = [kept_from(r.value or b"") for r in changelog if r.key == key]
            return PROCESSOR.decode(record.state)

        assert last_of(b"a") == Totals({"count-a": 2}), "the old worker's, though the new one was past it"
        if returns == "before the owner writes":
            world.disk, world.reached = theirs
            await new.process(source(world)[3:])
        else:
            world.disk, world.reached = defaultdict(dict), defaultdict(int)
            new = await working(world, {0})
            await new.process(source(world)[new.positions[TP("count.v1", 0)] :])
        assert new.positions[TP("count.v1", 0)] == 4
        assert counts(world) == {"a": {"count-a": 3}, "b": {"count-b": 1}}
        assert last_of(b"a") == Totals({"count-a": 3})
        # Whoever reads it all back finds the same.
        world.disk, world.reached = defaultdict(dict), defaultdict(int)
        await working(world, {0})
        assert counts(world) == {"a": {"count-a": 3}, "b": {"count-b": 1}}

    asyncio.run(story())


def test_a_claim_that_another_writer_overtook_is_made_again() -> None:
    async def story() -> None:
        world = World()
        world.count("count.v1", 0, "a", 1)

        class Overtaken(Producer):
            turns = 1

            async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
                if self.turns:
                    self.turns -= 1
                    kept = Kept(PROCESSOR.encode(Totals({"count-a": 1})), {"count-a": 1}, [])
                    world.append(topic, partition, [(b"a", to_bytes(kept))])
                return await super().send_batch(batch, topic, partition=partition)

        engine = started(world)
        links: Any = (Overtaken(world), Reader(world))
        engine._connect = lambda: links
        await engine.assign({0})
        await engine.take_over({0})
        assert counts(world) == {"a": {"count-a": 1}}
        claims = [r.value for r in world.log[TopicPartition("test.totals-state-changelog", 0)] if r.key == CLAIM]
        assert claims == [to_bytes(Claim(1)), to_bytes(Claim(2))]

    asyncio.run(story())


def delivered(records: Sequence[Record], chance: random.Random) -> list[Record]:
    """As a broken library would deliver: pieces missing, pieces twice; the last one comes in the end."""
    found: list[Record] = []
    at = 0
    while at < len(records):
        size = chance.randrange(1, 6)
        if chance.random() < 0.7 or at + size >= len(records):
            found += records[max(0, at - chance.randrange(3)) : at + size]
        at += size
    return found


@pytest.mark.parametrize("seed", range(25))
def test_a_kill_at_any_step_changes_nothing_in_the_end(seed: int) -> None:
    """Before and after every send, append and write, on a disk that is kept or lost."""
    chance = random.Random(seed)
    world = World()
    versions: dict[tuple[str, str], int] = defaultdict(int)
    for _ in range(120):
        topic, account = chance.choice(SOURCES), chance.choice("abcd")
        if not versions[topic, account] or chance.random() > 0.1:
            versions[topic, account] += 1
        world.count(topic, "abcd".index(account) % 2, account, versions[topic, account])

    async def live() -> None:
        engine = await working(world, {0, 1})
        while behind := [p for p, at in engine.positions.items() if at < len(world.log[TopicPartition(*p)])]:
            for place in behind:
                records = world.log[TopicPartition(*place)][engine.positions[place] :]
                for at in range(0, len(delivery := delivered(records[:30], chance)), 7):
                    await engine.process(delivery[at : at + 7])

    kills = 0
    while True:
        world.kill_in = chance.randrange(1, 40 + 2 * kills)
        try:
            asyncio.run(live())
            break
        except Killed:
            kills += 1
            if chance.random() < 0.2:
                world.disk.clear()
                world.reached.clear()
    world.kill_in = -1
    assert kills > 3
    expected: dict[str, dict[str, int]] = defaultdict(dict)
    for (topic, account), version in versions.items():
        expected[account][f"{topic.split('.')[0]}-{account}"] = version
    assert counts(world, 0) | counts(world, 1) == expected
    records = world.log[TopicPartition("reached.v1", 0)]
    assert len({r.value for r in records}) == len(set(outputs(world))) == sum(v // 3 for v in versions.values())
    assert not dead_letters(world)
    kept = dict(world.disk)
    world.disk, world.reached = defaultdict(dict), defaultdict(int)
    asyncio.run(working(world, {0, 1}))
    assert {p: {k: v for k, v in rows.items() if k not in (CLAIM, POSITION)} for p, rows in world.disk.items()} == {
        p: {k: v for k, v in rows.items() if k not in (CLAIM, POSITION)} for p, rows in kept.items()
    }

