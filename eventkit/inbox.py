"""Another service's events in, own commands or read-model writes out (design rule 4).

The position a partition has been handled up to is ours, in MongoDB, written after the effects; a start resumes there
and not at the group's offset, which only shows lag. Every effect is harmless when repeated: a command carries the
event's id as its idempotency key, a read model is guarded by `sequence`. Offsets must be contiguous: a jump is read
again from the topic before going on.

An invalid event goes to `dlq.<group>` with its reason and the partition goes on; a burst of them stops the worker,
because then the fault is ours. What fails for a passing reason is tried again, and when it does not pass the worker
ends and its supervisor starts it afresh at the stored position.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import PyMongoError

from eventkit.contracts import Contracts
from eventkit.envelope import Envelope, InvalidEvent, dead_letter_headers
from eventkit.events import Refusal
from eventkit.mongo_store import DURABLE
from eventkit.relay import make_producer
from eventkit.store import Request, StoreUnavailable

log = logging.getLogger(__name__)

Handler = Callable[[Envelope], None]
ATTEMPTS = 6
FIRST_RETRY_SECONDS = 0.2
INVALID_LIMIT = 100  # dead letters a minute after which the fault is ours
THREADS = 8
MAX_RECORDS = 400


class Passing(Exception):
    """Raised by a handler: not now, but the same event may work later."""


def request_for(group: str, envelope: Envelope) -> Request:
    """The command that `envelope` causes: the same event makes the same command."""
    return Request(
        caller=group,
        route=envelope.type,
        key=envelope.id,
        correlation_id=envelope.correlationid,
        causation_id=envelope.id,
        traceparent=envelope.traceparent,
    )


class Inbox:
    """One consumer group. `handlers` maps an event's short wire name (`VisitBooked`) to what is done about it; events
    of the topics that have no handler are passed over, unless the contract does not know them either."""

    def __init__(
        self,
        group: str,
        handlers: Mapping[str, Handler],
        *,
        kafka: str,
        database: Database[dict[str, Any]],
        contracts: Contracts,
        topics: list[str] | None = None,
    ) -> None:
        self.group = group
        self._handlers = handlers
        self._contracts = contracts
        self._kafka = kafka
        self._positions = database.get_collection("positions", write_concern=DURABLE)
        self.topics = topics or sorted(t.name for t in contracts.topics.values() if group in t.readers)
        self._expected: dict[TopicPartition, int] = {}
        self._reread: dict[TopicPartition, int] = {}
        self._invalid: deque[float] = deque()
        self._producer: AIOKafkaProducer | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=group)
        self.last_progress = time.monotonic()
        self.lag = 0
        self.handled = 0
        self.assigned = False

    async def run(self) -> None:
        if not self.topics:
            raise RuntimeError(f"no topic file names {self.group} as a reader")
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka,
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=30_000,
        )
        self._producer = make_producer(self._kafka)
        await self._producer.start()
        await consumer.start()
        consumer.subscribe(self.topics, listener=_Resume(self, consumer))
        try:
            while True:
                fetched = await consumer.getmany(timeout_ms=500, max_records=MAX_RECORDS)
                records = [r for tp, batch in fetched.items() for r in await self._contiguous(consumer, tp, batch)]
                if records:
                    await self._handle(records)
                    await self._store(records)
                    await consumer.commit({
                        TopicPartition(r.topic, r.partition): r.offset + 1
                        for r in sorted(records, key=lambda r: r.offset)
                        if TopicPartition(r.topic, r.partition) in consumer.assignment()
                    })
                    self.handled += len(records)
                self.lag = sum(
                    max(0, (consumer.highwater(tp) or 0) - self._expected.get(tp, 0)) for tp in consumer.assignment()
                )
                self.last_progress = time.monotonic()
        finally:
            await consumer.stop()
            await self._producer.stop()
            self._pool.shutdown(wait=False)

    async def _contiguous(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, batch: list[ConsumerRecord[bytes, bytes]]
    ) -> list[ConsumerRecord[bytes, bytes]]:
        expected = self._expected.get(tp)
        if expected is not None:
            batch = [record for record in batch if record.offset >= expected]
            if batch and batch[0].offset > expected and self._reread.get(tp) != expected:
                log.warning("%s: %s-%s jumps from %s to %s, reading again", self.group, tp.topic, tp.partition,
                            expected, batch[0].offset)
                self._reread[tp] = expected
                consumer.seek(tp, expected)
                return []
        if batch:
            if expected is not None and batch[0].offset > expected:
                log.error("%s: %s-%s holds nothing between %s and %s", self.group, tp.topic, tp.partition,
                          expected, batch[0].offset)
            self._expected[tp] = batch[-1].offset + 1
        return batch

    async def _handle(self, records: list[ConsumerRecord[bytes, bytes]]) -> None:
        """Different keys side by side, the same key in order."""
        loop = asyncio.get_running_loop()

        def by_key(record: ConsumerRecord[bytes, bytes]) -> bytes:
            return record.key or b""

        ordered = sorted(records, key=by_key)
        await asyncio.gather(*(
            self._handle_key(loop, list(of_one_key)) for _, of_one_key in groupby(ordered, key=by_key)
        ))

    async def _handle_key(
        self, loop: asyncio.AbstractEventLoop, records: list[ConsumerRecord[bytes, bytes]]
    ) -> None:
        for record in records:
            try:
                envelope = Envelope.parse(record.value)
                self._contracts.validate(envelope, record.topic)
            except InvalidEvent as error:
                await self._dead_letter(record, str(error))
                continue
            handler = self._handlers.get(envelope.name)
            if handler is None:
                continue
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await loop.run_in_executor(self._pool, handler, envelope)
                    break
                except Refusal as refusal:
                    if refusal.code != "busy":
                        log.info("%s: %s refused: %s", self.group, envelope.id, refusal.code)
                        break
                    reason: Exception = refusal
                except (Passing, StoreUnavailable, PyMongoError) as error:
                    reason = error
                except Exception as error:
                    log.exception("%s: %s cannot be handled", self.group, envelope.id)
                    await self._dead_letter(record, f"{type(error).__name__} in handler")
                    break
                if attempt == ATTEMPTS:
                    raise RuntimeError(f"{self.group}: {envelope.id} fails again and again: {reason}") from reason
                await asyncio.sleep(FIRST_RETRY_SECONDS * 2**attempt)

    async def _dead_letter(self, record: ConsumerRecord[bytes, bytes], reason: str) -> None:
        assert self._producer is not None
        now = time.monotonic()
        self._invalid.append(now)
        while self._invalid and self._invalid[0] < now - 60:
            self._invalid.popleft()
        if len(self._invalid) > INVALID_LIMIT:
            raise RuntimeError(f"{self.group}: more than {INVALID_LIMIT} dead letters in a minute; last: {reason}")
        log.error("%s: %s-%s@%s to dead letters: %s", self.group, record.topic, record.partition, record.offset, reason)
        headers = dead_letter_headers(reason, record.topic, record.partition, record.offset)
        await self._producer.send_and_wait(f"dlq.{self.group}", record.value, key=record.key, headers=headers)

    async def _store(self, records: list[ConsumerRecord[bytes, bytes]]) -> None:
        ends: dict[str, int] = {}
        for record in records:
            name = self._name(TopicPartition(record.topic, record.partition))
            ends[name] = max(ends.get(name, 0), record.offset + 1)
        # $max: a member that lost the partition meanwhile must not move it back.
        updates = [UpdateOne({"_id": name}, {"$max": {"next": end}}, upsert=True) for name, end in ends.items()]
        await asyncio.to_thread(self._positions.bulk_write, updates, ordered=False)

    def _name(self, tp: TopicPartition) -> str:
        return f"{self.group}/{tp.topic}/{tp.partition}"

    async def resume(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        names = {self._name(tp): tp for tp in assigned}
        rows = await asyncio.to_thread(lambda: list(self._positions.find({"_id": {"$in": list(names)}})))
        stored = {names[row["_id"]]: row["next"] for row in rows}
        beginnings = await consumer.beginning_offsets(list(assigned)) if assigned else {}
        ends = await consumer.end_offsets(list(assigned)) if assigned else {}
        self._expected = {}
        self._reread = {}
        for tp in assigned:
            start = stored.get(tp, beginnings[tp])
            if start > ends[tp]:
                log.error("%s: %s-%s was emptied (at %s, ends at %s), reading it from its beginning",
                          self.group, tp.topic, tp.partition, start, ends[tp])
                await asyncio.to_thread(self._positions.delete_one, {"_id": self._name(tp)})
                start = beginnings[tp]
            elif start < beginnings[tp]:
                log.error("%s: %s-%s begins at %s, after our %s: retention took events we had not read",
                          self.group, tp.topic, tp.partition, beginnings[tp], start)
                start = beginnings[tp]
            consumer.seek(tp, start)
            self._expected[tp] = start
        self.assigned = True


class _Resume(ConsumerRebalanceListener):
    def __init__(self, inbox: Inbox, consumer: AIOKafkaConsumer) -> None:
        self._inbox = inbox
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        pass

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._inbox.resume(self._consumer, assigned)
