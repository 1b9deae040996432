"""Proves a processor's outputs by deriving again from its sources, beside Faust and without its state (design rule 4).

Sources and output topic are read by plain consuming. What should have been derived and is not there raises an alarm
and is published; an output's id comes from its cause, so that a late twin changes nothing for its readers.

Between two sources there is no order, and a processor that had a backlog saw another one than this reading does. So the
sources are folded in three orders, by time and topic by topic both ways: what only some of them derive is not judged.

    python -m services.payment reconcile refunds
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiokafka import TopicPartition
from environs import Env

from eventkit.contracts import Contracts, contracts
from eventkit.envelope import Envelope, InvalidEvent
from eventkit.relay import make_producer
from eventkit.settings import or_exit
from eventkit.streams.guard import Effect, Kept, Processor, judge
from eventkit.streams.topics import Reader, Record

log = logging.getLogger(__name__)

GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Report:
    """`missing` are ids that were alarmed and published, `pending` younger ones, `strange` outputs that no order
    derives (-1 when a window hides their causes), `partial` keys that begin before the window and were not judged."""

    read: int
    missing: list[str]
    pending: int
    strange: int
    partial: int


@dataclass(slots=True)
class _Fold:
    """The sources read in one order: states by key, and the ids of what was derived."""

    kept: dict[str, Kept] = field(default_factory=dict)
    derived: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)


class Reconciler:
    """The first check reads everything, or what the last `window` brought; the next ones read on from there.

    A window must be longer than the events of one key spread. `grace` seconds are left to the processor. Calling the
    object checks once and logs: for `Work.periodic`. It keeps three states a key in memory between the checks.
    """

    def __init__(
        self, processor: Processor[Any], known: Contracts, kafka: str, *, window: timedelta | None = None,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._processor = processor
        self._contracts = known
        self._kafka = kafka
        self._window = window
        self._grace = grace
        self._next: dict[TopicPartition, int] = {}
        self._by_time, self._forth, self._back = self._folds = (_Fold(), _Fold(), _Fold())
        self._due: dict[str, tuple[Envelope, float]] = {}
        self._found: set[str] = set()

    def __call__(self) -> None:
        asyncio.run(self.check())

    async def check(self) -> Report:
        """Raises TimeoutError or KafkaError when the broker does not answer."""
        read = await self._read()
        self._due = {id_: due for id_, due in self._due.items() if id_ not in self._found}
        certain = {id_ for id_ in self._due if all(id_ in fold.derived for fold in self._folds)}
        now = time.time()
        late = {id_ for id_ in certain if self._due[id_][1] < now - self._grace}
        await self._publish([self._due[id_][0] for id_ in sorted(late)])
        known = set[str]().union(*(fold.derived for fold in self._folds))
        report = Report(
            read=read,
            missing=sorted(late),
            pending=len(certain) - len(late),
            strange=-1 if self._window else len(self._found - known),
            partial=len(self._by_time.partial),
        )
        self._found |= late
        log.info("%s reconciled: %s events, %s missing, %s pending, %s strange, %s not judged", self._processor.app_id,
                 read, len(late), report.pending, report.strange, report.partial)
        return report

    async def _read(self) -> int:
        reader = Reader(self._kafka)
        await reader.start()
        try:
            topics = (*self._processor.sources, self._processor.output_topic)
            if not self._next:
                self._next = await self._starts(reader, [place for topic in topics for place in self._places(topic)])
            read = 0
            for partition in range(self._processor.partitions):
                read += await self._read_sources(reader, partition)
            # The outputs last: what the processor derives while the sources are read is found.
            await self._read_outputs(reader)
            return read
        finally:
            await reader.stop()

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for partition in range(self._processor.partitions)]

    async def _starts(self, reader: Reader, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self._window is None:
            return await reader.beginnings(places)
        return await reader.at(places, int((time.time() - self._window.total_seconds()) * 1000))

    async def _pieces(self, reader: Reader, places: list[TopicPartition]) -> dict[TopicPartition, list[Record]]:
        ends = await reader.ends(places)
        pieces: dict[TopicPartition, list[Record]] = {place: [] for place in places}
        async for place, records in reader.read({place: (self._next[place], ends[place]) for place in places}):
            pieces[place] += records
        self._next |= ends
        return pieces

    async def _read_sources(self, reader: Reader, partition: int) -> int:
        places = [TopicPartition(topic, partition) for topic in self._processor.sources]
        pieces = list((await self._pieces(reader, places)).values())
        for fold, records in (
            (self._by_time, heapq.merge(*pieces, key=lambda record: record.timestamp)),
            (self._forth, itertools.chain(*pieces)),
            (self._back, itertools.chain(*reversed(pieces))),
        ):
            for record in records:
                self._derive(fold, record)
        return sum(map(len, pieces))

    def _derive(self, fold: _Fold, record: Record) -> None:
        verdict = judge(self._processor, self._contracts, record.topic, record.key, record.value, fold.kept.get)
        if not isinstance(verdict, Effect):
            return  # seen before, or in the processor's dead letters
        before = fold.kept.get(verdict.key)
        new_stream = len(verdict.kept.seen) > len(before.seen if before else ())
        if self._window and verdict.missing and new_stream:
            fold.partial.add(verdict.key)
        fold.kept[verdict.key] = verdict.kept
        if verdict.key not in fold.partial:
            for envelope in verdict.outputs:
                fold.derived.add(envelope.id)
                if fold is self._by_time:
                    self._due.setdefault(envelope.id, (envelope, record.timestamp / 1000))

    async def _read_outputs(self, reader: Reader) -> None:
        source = f"/processors/{self._processor.app_id}"
        for records in (await self._pieces(reader, self._places(self._processor.output_topic))).values():
            for record in records:
                with suppress(InvalidEvent):
                    event = Envelope.parse(record.value)
                    if event.source == source:
                        self._found.add(event.id)

    async def _publish(self, missing: list[Envelope]) -> None:
        if not missing:
            return
        producer = make_producer(self._kafka)
        await producer.start()
        try:
            for envelope in missing:
                log.error("ALARM: %s did not derive %s %s from %s; it is published now", self._processor.app_id,
                          envelope.type, envelope.id, envelope.causationid)
                await producer.send_and_wait(
                    self._processor.output_topic, envelope.to_bytes(), key=envelope.partitionkey.encode()
                )
        finally:
            await producer.stop()


def reconcile(processor: Processor[Any], window: timedelta | None = None) -> int:
    """One check for the command line: 0 when nothing was missing, 1 when something was repaired."""
    kafka = or_exit(lambda: Env().str("FUZHEN_KAFKA"))
    report = asyncio.run(Reconciler(processor, contracts(), kafka, window=window).check())
    for id_ in report.missing:
        print(f"missing, published now: {id_}")
    print(f"{processor.app_id}: {report.read} events, {len(report.missing)} outputs missing, "
          f"{report.pending} pending, {report.strange} without a cause, {report.partial} keys not judged")
    return 1 if report.missing else 0
