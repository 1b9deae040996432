"""Proves a processor's outputs by deriving again from its sources, beside Faust and without its state (design rule 4).

Sources and output topic are read by plain consuming. What should have been derived and is not there raises an alarm and
is published; an output's id comes from its cause, so that a late twin changes nothing for its readers. A processor is
declared so that a cause gives the same output however its sources interleave; this reads them in the order of time.

    python -m services.payment reconcile refunds
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aiokafka import TopicPartition
from environs import Env

from eventkit.contracts import Contracts, contracts
from eventkit.envelope import Envelope, InvalidEvent
from eventkit.relay import make_producer
from eventkit.settings import or_exit
from eventkit.streams.guard import Effect, Invalid, Kept, Processor, judge
from eventkit.streams.topics import Reader, Record

log = logging.getLogger(__name__)

GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Report:
    """`missing` are ids that were alarmed and published; `pending` younger ones; `strange` outputs that nothing here
    derives; `partial` keys whose beginning lies before the window and that were not judged."""

    read: int
    missing: list[str]
    pending: int
    strange: int
    partial: int


class Reconciler:
    """The first check reads everything, or what the last `window` brought; the next ones read on from there.

    A window must be longer than the events of one key spread. `grace` seconds are left to the processor. Calling the
    object checks once and logs: for `Work.periodic`.
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
        self._kept: dict[str, Kept] = {}
        self._partial: set[str] = set()
        self._due: dict[str, tuple[Envelope, float]] = {}
        self._found: set[str] = set()
        self._derived: set[str] = set()

    def __call__(self) -> None:
        asyncio.run(self.check())

    async def check(self) -> Report:
        reader = Reader(self._kafka)
        await reader.start()
        try:
            places = [
                TopicPartition(topic, partition)
                for topic in (*self._processor.sources, self._processor.output_topic)
                for partition in range(self._processor.partitions)
            ]
            if not self._next:
                self._next = await self._starts(reader, places)
            read = 0
            # The outputs last: what the processor derives while the sources are read is found.
            for partition in range(self._processor.partitions):
                read += await self._read_sources(reader, partition)
            await self._read_outputs(reader)
        finally:
            await reader.stop()
        for id_ in self._found:
            self._due.pop(id_, None)
        now = time.time()
        late = {id_: envelope for id_, (envelope, at) in self._due.items() if at < now - self._grace}
        await self._publish(late)
        report = Report(
            read, sorted(late), len(self._due) - len(late), 0 if self._window else len(self._found - self._derived),
            len(self._partial),
        )
        for id_ in late:
            del self._due[id_]
        log.info("%s reconciled: %s events, %s missing, %s pending, %s strange, %s not judged", self._processor.app_id,
                 read, len(late), report.pending, report.strange, report.partial)
        return report

    async def _starts(self, reader: Reader, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self._window is None:
            return await reader.beginnings(places)
        return await reader.at(places, int((time.time() - self._window.total_seconds()) * 1000))

    async def _range(self, reader: Reader, places: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        ends = await reader.ends(places)
        ranges = {place: (self._next[place], ends[place]) for place in places}
        self._next |= ends
        return ranges

    async def _read_sources(self, reader: Reader, partition: int) -> int:
        places = [TopicPartition(topic, partition) for topic in self._processor.sources]
        pieces: dict[TopicPartition, list[Record]] = {place: [] for place in places}
        async for place, records in reader.read(await self._range(reader, places)):
            pieces[place] += records
        merged: Iterator[Record] = heapq.merge(*pieces.values(), key=lambda record: record.timestamp)
        read = 0
        for record in merged:
            read += 1
            self._derive(record)
            if read % 500 == 0:
                await asyncio.sleep(0)
        return read

    def _derive(self, record: Record) -> None:
        verdict = judge(self._processor, self._contracts, record.topic, record.key, record.value, self._kept.get)
        if isinstance(verdict, Invalid):
            return  # the processor's dead letters have it
        if isinstance(verdict, Effect):
            begun = self._kept.get(verdict.key)
            self._kept[verdict.key] = verdict.kept
            if self._window and verdict.missing and len(verdict.kept.seen) > len(begun.seen if begun else ()):
                self._partial.add(verdict.key)
            for envelope in verdict.outputs:
                self._derived.add(envelope.id)
                if verdict.key not in self._partial:
                    self._due[envelope.id] = (envelope, record.timestamp / 1000)

    async def _read_outputs(self, reader: Reader) -> None:
        topic = self._processor.output_topic
        places = [TopicPartition(topic, partition) for partition in range(self._processor.partitions)]
        source = f"/processors/{self._processor.app_id}"
        async for _, records in reader.read(await self._range(reader, places)):
            for record in records:
                try:
                    event = Envelope.parse(record.value)
                except InvalidEvent:
                    continue
                if event.source == source:
                    self._found.add(event.id)

    async def _publish(self, late: dict[str, Envelope]) -> None:
        if not late:
            return
        producer = make_producer(self._kafka)
        await producer.start()
        try:
            for envelope in late.values():
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
    print(f"{processor.app_id}: {report.read} events, {len(report.missing)} outputs missing, {report.pending} pending, "
          f"{report.strange} without a cause, {report.partial} keys not judged")
    return 1 if report.missing else 0
