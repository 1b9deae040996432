"""The HIS on Kafka, in one background thread: its outbox goes out, and what the Internet hospital tells comes in.

Out: in outbox order, acknowledged before it is marked, so kill -9 at any instruction sends again and loses nothing; the
ids are the same. In: the CloudEvents SDK, as any outside reader would use it; the offset is committed after the write.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat

from eventkit.envelope import CONTENT_TYPE
from partners.his.book import Book, Heard
from partners.his.catalogue import NOT_GRANTED, types_by_topic
from partners.kit import Row

GROUP = "his.subscriber"
TYPES = types_by_topic()
TOPICS = tuple(sorted(TYPES.keys() - NOT_GRANTED))
ACK_SECONDS = 60.0
log = logging.getLogger("partners.his")


def start(book: Book, bootstrap: str) -> None:
    async def both() -> None:
        await asyncio.gather(_again(lambda: _publish(book, bootstrap)), _again(lambda: _subscribe(book, bootstrap)))

    threading.Thread(target=lambda: asyncio.run(both()), daemon=True, name="kafka").start()


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Kafka may start later than the HIS and may go away: the desk works on meanwhile. What waiting cannot mend ends
    the process, and gunicorn starts it afresh."""
    while True:
        try:
            await work()
        except KafkaError as error:
            log.warning("kafka: %s, again in a second", type(error).__name__)
        except Exception:
            log.exception("the HIS cannot work with Kafka")
            os._exit(70)
        await asyncio.sleep(1)


async def _publish(book: Book, bootstrap: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, client_id="his", enable_idempotence=True, acks="all")
    try:
        await producer.start()
        while True:
            rows = book.unpublished(limit=200)
            try:
                async with asyncio.timeout(ACK_SECONDS):
                    await _send(producer, rows)
            except TimeoutError:  # an idempotent producer never gives up by itself, and would not stop either
                log.error("no acknowledgement from Kafka in %s s", ACK_SECONDS)
                os._exit(70)
            if rows:
                book.published(rows)
            else:
                await asyncio.sleep(0.1)
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, rows: list[Row]) -> None:
    headers = [("content-type", CONTENT_TYPE.encode())]
    sent = [await producer.send(row["topic"], row["body"], row["key"].encode(), headers=headers) for row in rows]
    await asyncio.gather(*sent)


async def _subscribe(book: Book, bootstrap: str) -> None:
    consumer = AIOKafkaConsumer(
        *TOPICS,
        bootstrap_servers=bootstrap,
        client_id="his",
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6_000,
        heartbeat_interval_ms=2_000,
    )
    try:
        await consumer.start()
        while True:
            batches = await consumer.getmany(timeout_ms=500, max_records=200)
            if batches:
                with book.books.write():
                    for records in batches.values():
                        for record in records:
                            hear(book, record)
                await consumer.commit()
    finally:
        await consumer.stop()


def hear(book: Book, record: ConsumerRecord) -> None:
    """What is no CloudEvent, or of a type that asyncapi.yaml does not have on its topic, is put aside with its reason
    and place; the partition goes on. Only what is about a visit is kept: its time, and the ids of what it is about."""
    try:
        message = KafkaMessage({key.lower(): value for key, value in record.headers}, record.key, record.value or b"")
        event = from_kafka(message, JSONFormat())
        data = event.get_data()
    except Exception as error:  # the SDK lets through what its parsers raise
        book.could_not_read(record.topic, record.partition, record.offset, type(error).__name__)
        return
    if event.get_type() not in TYPES[record.topic]:
        book.could_not_read(record.topic, record.partition, record.offset, "unknown type")
    elif isinstance(data, dict) and isinstance(visit_id := data.get("visit_id"), str):
        ids = {name: value for name, value in data.items() if name.endswith("_id") and isinstance(value, str)}
        del ids["visit_id"]
        book.hear(Heard(
            event.get_source(), event.get_id(), visit_id, event.get_type(), event.get_time(),
            str(event.get_extension("sequence") or ""), ids,
        ))
