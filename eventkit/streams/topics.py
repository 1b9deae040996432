"""Plain reading of topics beside Faust: ends, beginnings, and ranges of records, without any consumer group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Record: TypeAlias = ConsumerRecord[bytes, bytes]
PATIENCE_SECONDS = 15.0


class Reader:
    """Raises TimeoutError when the broker gives nothing for PATIENCE_SECONDS. One caller at a time."""

    def __init__(self, kafka: str) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            request_timeout_ms=10_000, fetch_max_wait_ms=50,
        )

    async def start(self) -> None:
        await asyncio.wait_for(self._consumer.start(), PATIENCE_SECONDS)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await asyncio.wait_for(
            self._consumer.end_offsets(list(places)), PATIENCE_SECONDS
        )
        return found

    async def beginnings(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await asyncio.wait_for(
            self._consumer.beginning_offsets(list(places)), PATIENCE_SECONDS
        )
        return found

    async def at(self, places: Iterable[TopicPartition], milliseconds: int) -> dict[TopicPartition, int]:
        """The first offset written at or after an instant (Unix ms); the end where there is none."""
        places = list(places)
        found = await asyncio.wait_for(
            self._consumer.offsets_for_times(dict.fromkeys(places, milliseconds)), PATIENCE_SECONDS
        )
        ends = await self.ends(places)
        return {tp: found[tp].offset if found.get(tp) is not None else ends[tp] for tp in places}

    async def read(
        self, ranges: Mapping[TopicPartition, tuple[int, int]]
    ) -> AsyncIterator[tuple[TopicPartition, list[Record]]]:
        """The records of each half-open range in order, in pieces. What the log does not hold (compacted, cut off, a
        transaction's marker) is passed over."""
        left = {tp: end for tp, (start, end) in ranges.items() if start < end}
        if not left:
            return
        self._consumer.assign(list(left))
        for tp in left:
            self._consumer.seek(tp, ranges[tp][0])
        moved = time.monotonic()
        while left:
            fetched = await self._consumer.getmany(*left, timeout_ms=500)
            for tp, records in fetched.items():
                moved = time.monotonic()
                if wanted := [record for record in records if record.offset < left[tp]]:
                    yield tp, wanted
            for tp in list(left):
                if await asyncio.wait_for(self._consumer.position(tp), PATIENCE_SECONDS) >= left[tp]:
                    self._consumer.pause(tp)
                    del left[tp]
            if time.monotonic() - moved > PATIENCE_SECONDS:
                raise TimeoutError(f"nothing read from {', '.join(f'{tp.topic}-{tp.partition}' for tp in left)}")
