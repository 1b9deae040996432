"""One process of a processor: Faust's membership and fetching around the engine, a watchdog and health beside it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faust
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from environs import Env
from faust.types import TP

from eventkit import health
from eventkit.contracts import Contracts, contracts
from eventkit.faust_cure import App
from eventkit.relay import make_producer
from eventkit.settings import or_exit
from eventkit.streams.engine import Engine, end_process
from eventkit.streams.guard import Processor, Stalls
from eventkit.streams.table import StateTable
from eventkit.streams.topics import Reader

log = logging.getLogger(__name__)

BATCH_RECORDS = 500
SESSION_SECONDS = 6  # the broker's own lower limit
REBALANCE_SECONDS = 8  # a member that dies while the group is joining holds it up that long
STALL_SECONDS = 10.0
WAITING_SECONDS = 16.0
PARTITION_STALL_SECONDS = 60.0
BLIND_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """`data` is this worker's own folder; two workers never share one."""

    kafka: str
    host: str
    port: int
    data: Path


def read_stream_settings(env: Env) -> StreamSettings:
    return StreamSettings(
        kafka=env.str("FUZHEN_KAFKA"),
        host=env.str("FUZHEN_HOST", "127.0.0.1"),
        port=env.int("FUZHEN_PORT"),
        data=env.path("FUZHEN_DATA"),
    )


def run(processor: Processor[Any]) -> None:
    """Run until SIGTERM; exit code 0 then, 70 when the work cannot be done, 78 when a setting is missing."""
    settings = or_exit(lambda: read_stream_settings(Env()))
    for name in ("eventkit.faust_cure", "eventkit.streams.table"):  # where Faust's services log, as our subclasses
        logging.getLogger(name).setLevel(logging.WARNING)
    app, engine = build(processor, settings, contracts())
    watchdog = Watchdog(engine, processor, settings.kafka)
    watchdog.start()
    health.serve(settings.port, host=settings.host, live=watchdog.live, ready=watchdog.ready)
    worker = faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None  # it writes to a terminal what would stand among the log's lines
    worker.execute_from_commandline()


def build(processor: Processor[Any], settings: StreamSettings, known: Contracts) -> tuple[App, Engine]:
    folder = settings.data / processor.app_id
    folder.mkdir(parents=True, exist_ok=True)
    member = _member(folder)
    engine = Engine(processor, known, lambda: (make_producer(settings.kafka), Reader(settings.kafka)))
    app = App(
        processor.app_id,
        broker=f"kafka://{settings.kafka}",
        store="rocksdb://",
        datadir=str(folder),
        autodiscover=False,
        web_enabled=False,
        canonical_url=f"http://{member}:{settings.port}",  # nobody calls it, but Faust tells workers apart by it
        topic_partitions=processor.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        stream_wait_empty=False,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 3,
        broker_request_timeout=40,
        broker_rebalance_timeout=REBALANCE_SECONDS,
        consumer_group_instance_id=f"{processor.app_id}-{member}",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=128 * 1024,
    )
    raw: dict[str, Any] = {
        "key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw", "allow_empty": True,
    }
    table = StateTable(app, name="state", partitions=processor.partitions, key_type=bytes, value_type=bytes)
    app.tables.add(table)
    table.assign, table.take_over = engine.assign, _take_over(app, engine)
    engine.store = table.data
    app.stored_positions = engine.stored_positions

    async def process(stream: Any) -> None:
        events = stream.noack()
        batch: list[Any] = []
        async for event in events.events():
            batch.append(event.message)
            if len(batch) >= BATCH_RECORDS or events.channel.queue.empty():
                await engine.process(batch)
                batch.clear()

    async def release(*args: Any, **kwargs: Any) -> None:
        await engine.release()

    async def stop(*args: Any, **kwargs: Any) -> None:
        await engine.stop()

    app.agent(app.topic(*processor.sources, **raw), concurrency=1)(process)
    app.on_partitions_revoked.connect(release)
    app.on_before_shutdown.connect(stop)
    return app, engine


def _take_over(app: App, engine: Engine) -> Callable[[set[int]], Any]:
    async def take_over(partitions: set[int]) -> None:
        await engine.take_over(partitions)
        # Faust lets the fetcher run before its own seek; here it finds the positions right from the first record.
        with suppress(IllegalStateError):  # the group has moved on
            await app.consumer.perform_seek()

    return take_over


def _member(folder: Path) -> str:
    """The group knows this worker by its data folder, so that a restart finds its partitions at once and not after the
    session that the kill left behind (static membership)."""
    file = folder / "member"
    if not file.exists():
        file.write_text(uuid.uuid4().hex[:12])
    return file.read_text()


class Watchdog(threading.Thread):
    """Ends the process when there is lag and no progress. In a thread with its own loop and client, so that a blocked
    loop is seen too."""

    def __init__(self, engine: Engine, processor: Processor[Any], kafka: str) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._engine = engine
        self._processor = processor
        self._kafka = kafka
        self._stalls = Stalls(STALL_SECONDS, WAITING_SECONDS, PARTITION_STALL_SECONDS)
        self._ends: dict[TopicPartition, int] = {}

    def run(self) -> None:
        try:
            asyncio.run(self._watch())
        except Exception as error:
            end_process(f"the watchdog cannot see: {error!r}")

    async def _watch(self) -> None:
        reader = Reader(self._kafka)
        await reader.start()
        seen = time.monotonic()
        while True:
            await asyncio.sleep(1)
            positions = self._engine.stored_positions()
            # A changelog that grows beyond what was written here has another writer: lag that no progress will end.
            written = dict(self._engine.changelog_ends)
            positions |= {TP(self._processor.changelog, partition): end for partition, end in written.items()}
            try:
                self._ends = await reader.ends(TopicPartition(*place) for place in positions)
                seen = time.monotonic()
            except Exception as error:
                log.warning("the ends of the topics cannot be read: %r", error)
                if time.monotonic() - seen > BLIND_SECONDS:
                    raise
            places = [(place, at, self._ends.get(TopicPartition(*place), 0)) for place, at in positions.items()]
            reason = self._stalls.look(time.monotonic(), self._engine.counts.steps, bool(positions), places)
            if reason:
                end_process(reason)

    def live(self) -> tuple[bool, dict[str, Any]]:
        return self._stalls.seconds < STALL_SECONDS, {"stalled_seconds": round(self._stalls.seconds, 1)}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        positions = self._engine.stored_positions()
        lags = {f"{topic}-{p}": max(0, self._ends.get(TopicPartition(topic, p), 0) - at)
                for (topic, p), at in sorted(positions.items())}
        return bool(positions), {
            "processor": self._processor.app_id,
            "lag": sum(lags.values()),
            "lags": {name: lag for name, lag in lags.items() if lag},
            "positions": {f"{topic}-{p}": at for (topic, p), at in sorted(positions.items())},
            "counts": asdict(self._engine.counts),
        }
