"""The state of a processor: a Faust table on RocksDB whose changelog is written first and read back by ourselves.

Faust's own write path puts a value into RocksDB and only queues its changelog record, so that a kill leaves a store
ahead of its changelog: the guard then drops the event when it comes again, and the changelog never has it. Its
recovery may lose what it fetched (`faust_cure`), passes over an error after counting the record, and applies a record
of a partition it has lost to whatever table came before. So here a batch is acknowledged by the changelog before it
goes into RocksDB, in one write with the changelog offset it reaches; the store is always a prefix of its changelog.
At a take-over the rest is read by plain consuming. Faust keeps what it is good for: it gives partition n of the
changelog to whom it gives partition n of every source.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
from faust.stores import rocksdb
from faust.types import TP
from rocksdict import WriteBatch
from yarl import URL

log = logging.getLogger(__name__)

_ROCKSDB = {  # of each partition; Faust's own are for one large database
    "block_cache_size": 16 << 20,
    "write_buffer_size": 8 << 20,
    "max_write_buffer_number": 2,
    "bloom_filter_size": 10,
}


class Store(rocksdb.Store):
    """One RocksDB a partition. A database that cannot be opened is thrown away: the changelog has it all."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        value: bytes | None = self._db_for_partition(partition).get(key)
        return value

    def reached(self, partition: int) -> int:
        """The changelog offset that comes after what is stored here."""
        offset = self.read(partition, self.offset_key)
        return 0 if offset is None else int(offset) + 1

    def write(self, partition: int, records: Iterable[tuple[bytes, bytes]], reached: int) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in records:
            batch.put(key, value)
        batch.put(self.offset_key, str(reached - 1).encode())
        self._db_for_partition(partition).write(batch)

    def wipe(self, partition: int) -> None:
        if (database := self._dbs.pop(partition, None)) is not None:
            database.close()
        shutil.rmtree(self.partition_path(partition), ignore_errors=True)

    def _open_for_partition(self, partition: int) -> Any:
        try:
            return super()._open_for_partition(partition)
        except Exception as error:
            if "lock" in str(error).lower():
                raise
            log.error("the store of partition %s cannot be opened, its changelog is read again: %s", partition, error)
            self.wipe(partition)
            return super()._open_for_partition(partition)

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:
        """Faust's recovery writes nothing here."""

    async def on_rebalance(self, *args: Any, **kwargs: Any) -> None:
        """Databases stay open: each worker has a data folder of its own, and a partition that returns is read on."""

    async def stop(self) -> None:
        for database in self._dbs.values():
            database.close()
        self._dbs.clear()


class StateTable(faust.Table):
    """Only `eventkit.streams` writes here. `assign(partitions)` is awaited when the group gives them and answers where
    their changelogs end; `take_over(partitions)` before their sources are read."""

    assign: Callable[[set[int]], Awaitable[dict[int, int]]]
    take_over: Callable[[set[int]], Awaitable[None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told: dict[int, int] = {}

    def _new_store(self) -> Store:
        self.app.conf.tabledir.mkdir(parents=True, exist_ok=True)
        return Store(
            URL("rocksdb://"), self.app, self, table_name=self.name, key_type=self.key_type, value_type=self.value_type,
            key_serializer=self.key_serializer, value_serializer=self.value_serializer, options=dict(_ROCKSDB),
            driver="rocksdict",
        )

    def on_key_set(self, key: Any, value: Any) -> None:
        raise TypeError("a processor's table is written through its changelog, not by assignment")

    def on_key_del(self, key: Any) -> None:
        raise TypeError("a processor's table forgets nothing")

    async def on_rebalance(self, assigned: set[TP], *args: Any, **kwargs: Any) -> None:
        self._told |= await self.assign({tp.partition for tp in assigned if tp.topic == self.changelog_topic_name})

    def persisted_offset(self, tp: TP) -> int | None:
        """Faust's recovery is told that there is nothing to recover."""
        return self._told.get(tp.partition, 0) - 1

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        await self.take_over({tp.partition for tp in active_tps})
