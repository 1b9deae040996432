"""From the log to Kafka: the only producer of a service's topics (design rule 3).

Every public event of every commit is produced, in log order, by an idempotent producer; the follower's checkpoint moves
after the broker has acknowledged. A crash in between produces again, with the same ids. Nothing is produced twice into
a different order within one stream except as such a repeat, which consumers drop by `sequence`.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer

from eventkit.clock import rfc3339
from eventkit.envelope import CONTENT_TYPE, Envelope, sequence
from eventkit.store import Commit, LoggedEvent

ACK_SECONDS = 30.0  # an idempotent producer never gives up by itself; the process does, and starts afresh
_HEADERS = [("content-type", CONTENT_TYPE.encode())]


def make_producer(kafka: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=kafka,
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_batch_size=256 * 1024,
        request_timeout_ms=10_000,
    )


def to_envelope(commit: Commit, event: LoggedEvent, source: str) -> Envelope:
    """The public face of a logged event: its personal part stays behind."""
    return Envelope(
        id=f"{event.stream}/{event.version}",
        source=source,
        type=event.type,
        subject=event.stream.partition("-")[2],
        time=rfc3339(commit.time),
        partitionkey=event.partitionkey or event.stream,
        sequence=sequence(event.version),
        data=event.data,
        correlationid=commit.request.correlation_id,
        causationid=commit.request.causation_id,
        traceparent=commit.request.traceparent,
    )


class Relay:
    def __init__(self, producer: AIOKafkaProducer, source: str) -> None:
        self._producer = producer
        self._source = source

    async def publish(self, commits: list[Commit]) -> None:
        """Returns when the broker has everything. Raises TimeoutError when it has not in ACK_SECONDS."""
        async with asyncio.timeout(ACK_SECONDS):
            acknowledgements = []
            for commit in commits:
                for event in commit.events:
                    if event.topic is None:
                        continue
                    envelope = to_envelope(commit, event, self._source)
                    acknowledgements.append(
                        await self._producer.send(
                            event.topic, envelope.to_bytes(), key=envelope.partitionkey.encode(), headers=_HEADERS
                        )
                    )
            await asyncio.gather(*acknowledgements)
