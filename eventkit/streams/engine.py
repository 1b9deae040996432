"""The half of a processor that talks: records in from Faust, effects out to Kafka, in an order that any kill survives.

1. A record is taken only if its offset is the next one of its partition. An earlier one is dropped; before a later one
   the records between are read from the topic beside Faust.
2. Outputs and dead letters are sent and acknowledged.
3. One record batch a partition goes to the changelog: the changed states and, last, the position. The broker appends it
   whole or not at all, so effect and position cannot part. A kill before it derives the same outputs with the same ids
   and bytes again; a kill after it goes on behind.
4. The same goes into RocksDB in one write, and the position in memory moves on.

A partition taken over starts at the position found in its state. The group's offset is committed for people to look at.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata
from faust.types import TP

from eventkit.contracts import Contracts
from eventkit.envelope import Envelope, dead_letter_headers
from eventkit.streams.guard import (
    CLAIM,
    POSITION,
    BurstLimit,
    Claim,
    Invalid,
    Kept,
    Position,
    Processor,
    Repeated,
    Replay,
    claim_from,
    judge,
    kept_from,
    position_from,
    to_bytes,
    with_epoch,
)
from eventkit.streams.table import Store
from eventkit.streams.topics import Reader

log = logging.getLogger(__name__)

EX_SOFTWARE = 70
ACK_SECONDS = 12.0
BATCH_BYTES = 100_000  # of changelog a partition, well below the producer's largest batch
DEAD_LETTER_LIMIT = 50
DEAD_LETTER_SECONDS = 60.0
CLAIM_ATTEMPTS = 5


class Message(Protocol):
    """A record as Faust or aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def end_process(reason: str) -> NoReturn:
    """A worker that cannot do its work says so and dies; its supervisor starts it again (design rule 11)."""
    log.critical("the worker ends: %s", reason)
    logging.shutdown()
    os._exit(EX_SOFTWARE)


class CannotGoOn(Exception):
    """A state that only a new start can mend; the message says which."""


@dataclass
class Counts:
    """What happened since the start. `steps` grows with anything done, for the watchdog."""

    steps: int = 0
    processed: int = 0
    repeated: int = 0
    dropped: int = 0
    jumps: int = 0
    filled: int = 0
    dead: int = 0
    missing: int = 0
    recovered: int = 0


@dataclass
class _Plan:
    """The effects of some records in a row, not carried out yet."""

    next: dict[TP, int] = field(default_factory=dict)
    kept: dict[int, dict[str, Kept]] = field(default_factory=dict)
    outputs: list[Envelope] = field(default_factory=list)
    dead: list[tuple[Message, str]] = field(default_factory=list)
    size: int = 0


class Engine:
    """`connect` makes a producer and a reader, not started yet; `end` ends the process."""

    def __init__(
        self,
        processor: Processor[Any],
        contracts: Contracts,
        connect: Callable[[], tuple[AIOKafkaProducer, Reader]],
        end: Callable[[str], NoReturn] = end_process,
    ) -> None:
        self._processor = processor
        self._contracts = contracts
        self._connect = connect
        self._end = end
        self._lock = asyncio.Lock()
        self._burst = BurstLimit(DEAD_LETTER_LIMIT, DEAD_LETTER_SECONDS)
        self._epochs: dict[int, int] = {}
        self._dead: dict[int, list[float]] = {}
        self._assigned: set[int] = set()
        self._started = False
        self.store: Store
        self.positions: dict[TP, int] = {}
        self.changelog_ends: dict[int, int] = {}
        self.counts = Counts()

    async def stop(self) -> None:
        if self._started:
            await self._reader.stop()
            await self._producer.stop()

    def stored_positions(self) -> dict[TP, int]:
        return dict(self.positions)

    # -- partitions come and go

    async def assign(self, partitions: set[int]) -> dict[int, int]:
        """The group gives us these; answers where their changelogs end."""
        try:
            async with self._lock:
                if not self._started:
                    self._producer, self._reader = self._connect()
                    await asyncio.wait_for(self._producer.start(), ACK_SECONDS)
                    await self._reader.start()
                    self._started = True
                self._assigned = set(partitions)
                self.counts.steps += 1
                return await self._changelog_ends(partitions)
        except Exception as error:
            self._end_because(error)

    async def release(self) -> None:
        """Every partition is about to be given away; what is under way is finished first."""
        async with self._lock:
            self._assigned.clear()
            self.positions.clear()
            self.changelog_ends.clear()
            self._epochs.clear()
            self._dead.clear()

    async def take_over(self, partitions: set[int]) -> None:
        """Bring the state of partitions to the end of their changelogs, claim them, and find where to go on."""
        try:
            async with self._lock:
                if partitions == self._assigned:  # else the group has moved on, and another take-over follows
                    await self._take_over(partitions)
        except Exception as error:
            self._end_because(error)

    async def _take_over(self, partitions: set[int]) -> None:
        outdone: dict[int, set[bytes]] = {partition: set() for partition in partitions}
        unclaimed = set(partitions)
        for _ in range(CLAIM_ATTEMPTS):
            ends = await self._changelog_ends(unclaimed)
            await self._catch_up(ends, outdone)
            claims = {}
            for partition in unclaimed:
                self._epochs[partition] = self._epoch(partition) + 1
                claims[partition] = [(CLAIM, to_bytes(Claim(self._epochs[partition])))]
            bases = await self._append(claims)
            # Whoever wrote between the end that was read and the claim is read too, and the claim made again.
            for partition, base in bases.items():
                if base == ends[partition]:
                    self.store.write(partition, claims[partition], base + 1)
                    self.changelog_ends[partition] = base + 1
                    unclaimed.discard(partition)
            if not unclaimed:
                break
        else:
            raise CannotGoOn(f"partitions {sorted(unclaimed)} are claimed by others again and again")
        await self._write_again(outdone)
        await self._find_positions(partitions)
        self.counts.steps += 1

    async def _changelog_ends(self, partitions: set[int]) -> dict[int, int]:
        places = [TopicPartition(self._processor.changelog, partition) for partition in partitions]
        return {tp.partition: end for tp, end in (await self._reader.ends(places)).items()} if places else {}

    async def _catch_up(self, ends: dict[int, int], outdone: dict[int, set[bytes]]) -> None:
        ranges = {}
        for partition, end in ends.items():
            start = self.store.reached(partition)
            if start > end:
                log.error("ALARM: the changelog of partition %s ends at %s, before what is stored here (%s): it was "
                          "cut or made anew, the store is read again", partition, end, start)
                self.store.wipe(partition)
                start = 0
            ranges[TopicPartition(self._processor.changelog, partition)] = (start, end)
        replays = {partition: Replay(self._epoch(partition)) for partition in ends}
        async for tp, records in self._reader.read(ranges):
            replay = replays[tp.partition]
            accepted = [(r.key, r.value) for r in records if r.key and r.value and replay.accepts(r.key, r.value)]
            accepted.append((CLAIM, to_bytes(Claim(replay.epoch))))
            self.store.write(tp.partition, accepted, records[-1].offset + 1)
            self.counts.recovered += len(records)
            self.counts.steps += 1
            await asyncio.sleep(0)
        for partition, end in ends.items():
            outdone[partition] |= replays[partition].outdone
            if self.store.reached(partition) < end:
                self.store.write(partition, [], end)

    def _epoch(self, partition: int) -> int:
        raw = self.store.read(partition, CLAIM)
        return claim_from(raw).epoch if raw else 0

    async def _write_again(self, outdone: dict[int, set[bytes]]) -> None:
        """What a returned writer appended after the good record would be all that compaction leaves."""
        records = {}
        for partition, keys in outdone.items():
            if keys:
                log.error("ALARM: a worker that had lost partition %s wrote %s of its keys; they are written again",
                          partition, len(keys))
                epoch = self._epochs[partition]
                values = ((key, self.store.read(partition, key)) for key in sorted(keys))
                records[partition] = [(key, with_epoch(key, raw, epoch)) for key, raw in values if raw]
        for partition, changed in records.items():
            for start in range(0, len(changed), 100):
                await self._change({partition: changed[start : start + 100]})

    async def _find_positions(self, partitions: set[int]) -> None:
        places = [TopicPartition(topic, partition) for topic in self._processor.sources for partition in partitions]
        beginnings, ends = await self._reader.beginnings(places), await self._reader.ends(places)
        for place in places:
            raw = self.store.read(place.partition, POSITION)
            stored = position_from(raw) if raw else Position({})
            self._dead[place.partition] = stored.dead
            at = stored.next.get(place.topic)
            if at is None:
                at = beginnings[place]
            elif at > ends[place]:
                await self._lost(place, ends[place], at, "the topic ends before what was read of it; it is read again")
                at = beginnings[place]
            elif at < beginnings[place]:
                await self._lost(place, at, beginnings[place], "retention took records that were not read")
                at = beginnings[place]
            self.positions[TP(place.topic, place.partition)] = at

    # -- records come in

    async def process(self, messages: Sequence[Message]) -> None:
        """Never raises: what cannot be carried out ends the process, and a start goes on at the stored position."""
        try:
            async with self._lock:
                await self._process(messages)
        except Exception as error:
            self._end_because(error)

    def _end_because(self, error: Exception) -> NoReturn:
        match error:
            case CannotGoOn():
                self._end(str(error))
            case TimeoutError() | KafkaError():
                self._end(f"Kafka does not answer: {error!r}")
            case _:
                self._end(f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}")

    async def _process(self, messages: Sequence[Message]) -> None:
        plan = _Plan()
        for message in messages:
            place = TP(message.topic, message.partition)
            expected = plan.next.get(place, self.positions.get(place))
            if expected is None or message.offset < expected:
                self.counts.dropped += 1
                continue
            if message.offset > expected:
                async for missed in self._between(place, expected, message.offset):
                    plan = await self._add(plan, missed)
            plan = await self._add(plan, message)
        await self._carry_out(plan)

    async def _between(self, place: TP, expected: int, offset: int) -> Any:
        self.counts.jumps += 1
        log.warning("%s-%s jumps from %s to %s: what is between is read from the topic", *place, expected, offset)
        tp = TopicPartition(*place)
        read = 0
        async for _, records in self._reader.read({tp: (expected, offset)}):
            for record in records:
                read += 1
                yield record
        self.counts.filled += read
        if read < offset - expected:
            beginning = (await self._reader.beginnings([tp]))[tp]
            if beginning > expected:
                await self._lost(tp, expected, min(beginning, offset), "retention took records that were not read")
            else:
                log.warning("%s-%s holds %s records from %s to %s", *place, read, expected, offset)

    async def _add(self, plan: _Plan, message: Message) -> _Plan:
        place = TP(message.topic, message.partition)
        kept = plan.kept.setdefault(place.partition, {})

        def load(key: str) -> Kept | None:
            if (changed := kept.get(key)) is not None:
                return changed
            raw = self.store.read(place.partition, key.encode())
            return kept_from(raw) if raw else None

        verdict = judge(self._processor, self._contracts, message.topic, message.key, message.value, load)
        match verdict:
            case Invalid(reason):
                plan.dead.append((message, reason))
                plan.size += len(message.value or b"")
            case Repeated():
                self.counts.repeated += 1
            case _:
                kept[verdict.key] = verdict.kept
                plan.outputs += verdict.outputs
                plan.size += len(verdict.kept.state) + 200 + 500 * len(verdict.outputs)
                if verdict.missing:
                    self.counts.missing += verdict.missing
                    log.info("%s-%s@%s: %s earlier events of its stream were never here", *place, message.offset,
                             verdict.missing)
        plan.next[place] = message.offset + 1
        if plan.size > BATCH_BYTES:
            await self._carry_out(plan)
            return _Plan()
        return plan

    async def _carry_out(self, plan: _Plan) -> None:
        if not plan.next:
            return
        await self._publish(plan)
        changed: dict[int, list[tuple[bytes, bytes]]] = {}
        for partition in sorted({place.partition for place in plan.next}):
            epoch = self._epochs[partition]
            records = [
                (key.encode(), to_bytes(Kept(kept.state, kept.seen, kept.ids, epoch)))
                for key, kept in plan.kept.get(partition, {}).items()
            ]
            moved = {**self.positions, **plan.next}
            position = {topic: moved[TP(topic, partition)] for topic in self._processor.sources}
            dead = self._burst.recent(self._dead[partition], time.time())
            records.append((POSITION, to_bytes(Position(position, epoch, dead))))
            changed[partition] = records
        await self._change(changed)
        self.counts.processed += sum(at - self.positions[place] for place, at in plan.next.items())
        self.counts.steps += 1
        self.positions.update(plan.next)

    async def _publish(self, plan: _Plan) -> None:
        for message, reason in plan.dead:
            now = time.time()
            if not self._burst.allows((at for times in self._dead.values() for at in times), now):
                raise CannotGoOn(f"more than {DEAD_LETTER_LIMIT} dead letters a minute, last: {reason}")
            self._dead[message.partition].append(now)
        async with asyncio.timeout(ACK_SECONDS):
            topic = self._processor.output_topic
            acks = [
                await self._producer.send(topic, output.to_bytes(), key=output.partitionkey.encode())
                for output in plan.outputs
            ]
            for message, reason in plan.dead:
                acks.append(await self._dead_letter(message, reason))
            await asyncio.gather(*acks)

    async def _change(self, changed: dict[int, list[tuple[bytes, bytes]]]) -> None:
        outdone: dict[int, set[bytes]] = {}
        for partition, base in (await self._append(changed)).items():
            if base != self.changelog_ends[partition]:
                outdone[partition] = await self._by_others(partition, base)
            reached = base + len(changed[partition])
            self.store.write(partition, changed[partition], reached)
            self.changelog_ends[partition] = reached
        await self._write_again(outdone)

    async def _by_others(self, partition: int, base: int) -> set[bytes]:
        """Keys that a worker without the partition wrote before `base`; raises CannotGoOn when that one is this one."""
        epoch = self._epochs[partition]
        replay = Replay(epoch)
        place = TopicPartition(self._processor.changelog, partition)
        async for _, records in self._reader.read({place: (self.changelog_ends[partition], base)}):
            for record in records:
                if record.key and record.value:
                    replay.accepts(record.key, record.value)
        if replay.epoch > epoch or base < self.changelog_ends[partition]:
            raise CannotGoOn(f"partition {partition} has another owner")
        return replay.outdone

    async def _append(self, records: dict[int, list[tuple[bytes, bytes]]]) -> dict[int, int]:
        """One record batch a partition, acknowledged; the offset of each batch's first record."""
        acks: dict[int, Awaitable[RecordMetadata]] = {}
        async with asyncio.timeout(ACK_SECONDS):
            for partition, pairs in records.items():
                batch = self._producer.create_batch()
                for key, value in pairs:
                    if batch.append(timestamp=None, key=key, value=value) is None:
                        raise CannotGoOn(f"the state of {key!r} is too large")
                batch.close()
                changelog = self._processor.changelog
                acks[partition] = await self._producer.send_batch(batch, changelog, partition=partition)
            return {partition: (await ack).offset for partition, ack in acks.items()}

    # -- what an operator must see

    async def _dead_letter(self, message: Message, reason: str) -> Awaitable[RecordMetadata]:
        log.error("%s-%s@%s to dead letters: %s", message.topic, message.partition, message.offset, reason)
        self.counts.dead += 1
        headers = dead_letter_headers(reason, message.topic, message.partition, message.offset)
        ack: Awaitable[RecordMetadata] = await self._producer.send(
            self._processor.dead_letters, message.value or b"", key=message.key, headers=headers
        )
        return ack

    async def _lost(self, place: TopicPartition, start: int, end: int, why: str) -> None:
        log.error("ALARM: %s-%s from %s to %s: %s", place.topic, place.partition, start, end, why)
        headers = [
            *dead_letter_headers(why, place.topic, place.partition, start),
            ("until", str(end).encode()),
        ]
        async with asyncio.timeout(ACK_SECONDS):
            await self._producer.send_and_wait(self._processor.dead_letters, b"", headers=headers)
