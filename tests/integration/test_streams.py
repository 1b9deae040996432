"""A processor's process on real Kafka: bad records, a quiet end, missing settings, a blocked loop, the reconciler."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from eventkit.contracts import Contracts
from eventkit.reconcile import Reconciler, Report
from eventkit.relay import make_producer
from eventkit.streams import Processor
from eventkit.streams.guard import to_envelope
from eventkit.streams.topics import Reader, Record
from tests.chaos.processors import counted, prepare
from tests.chaos.totals import PARTITIONS, Totals, derive, totals

PATIENCE = 60.0
Pair = tuple[bytes | None, bytes | None]


@dataclass
class Rig:
    """Topics of its own for one processor, and its processes."""

    kafka: str
    folder: Path
    run: str
    processes: list[subprocess.Popen[bytes]]

    @property
    def processor(self) -> Processor[Totals]:
        return totals(self.run)

    def start(self, module: str = "tests.chaos.totals", **settings: str | None) -> subprocess.Popen[bytes]:
        environment: dict[str, str | None] = {
            **os.environ, "FUZHEN_KAFKA": self.kafka, "FUZHEN_DATA": str(self.folder / "data"), "CHAOS_RUN": self.run,
            "FUZHEN_PORT": "0", "FUZHEN_EVENTS": str(self.folder / "events"), **settings,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", module, "guarded"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={name: value for name, value in environment.items() if value is not None},
        )
        self.processes.append(process)
        return process

    def send(self, topic: str, *pairs: Pair) -> None:
        async def send() -> None:
            producer = make_producer(self.kafka)
            await producer.start()
            for key, value in pairs:
                await producer.send_and_wait(topic, value, key=key)
            await producer.stop()

        asyncio.run(send())

    def records(self, topic: str) -> list[Record]:
        async def read() -> list[Record]:
            reader = Reader(self.kafka)
            await reader.start()
            places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
            ranges = {place: (0, end) for place, end in (await reader.ends(places)).items()}
            found = [record async for _, records in reader.read(ranges) for record in records]
            await reader.stop()
            return found

        return asyncio.run(read())

    def committed(self) -> int:
        async def read() -> int:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
            await admin.start()
            found = await admin.list_consumer_group_offsets(self.processor.app_id)
            await admin.close()
            return sum(at.offset for at in found.values() if at.offset > 0)

        return asyncio.run(read())


@pytest.fixture
def rig(parts: Any, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(parts.kafka, tmp_path, f"t{uuid.uuid4().hex[:8]}", [])
    asyncio.run(prepare(found.kafka, tmp_path / "events", found.processor))
    yield found
    for process in found.processes:
        process.kill()
        process.communicate()


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.2)
    return found


def events(*versions: int, stream: str = "count-a1") -> list[Pair]:
    return [(b"a1", counted(stream, version, "a1", 100).to_bytes()) for version in versions]


def test_bad_records_go_to_the_dead_letters_and_a_quiet_end_commits(rig: Rig) -> None:
    process = rig.start()
    source = rig.processor.sources[0]
    unknown = counted("count-a1", 3, "a1", 1).to_bytes().replace(b"chaos.Counted", b"chaos.Unknown")
    bad: list[Pair] = [(b"a1", None), (None, b"{}"), (b"a1", b"\xff"), (b"a1", unknown)]
    rig.send(source, *events(1, 2), *bad, *events(3, 4, 5))
    [output] = until(lambda: rig.records(rig.processor.output_topic))
    assert json.loads(output.value)["data"] == {"account": "a1", "stream": "count-a1", "count": 5, "total_fen": 500}
    letters = rig.records(rig.processor.dead_letters)
    assert len(letters) == len(bad)
    assert all({"reason", "topic", "partition", "offset"} <= {name for name, _ in letter.headers} for letter in letters)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert rig.committed() == 5 + len(bad)


def test_health_tells_lag_and_progress(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    rig.send(rig.processor.sources[1], *events(1, 2, 3, stream="mark-a1"))
    rig.start(FUZHEN_PORT=str(port))

    def ready() -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
                found = json.loads(answer.read())
        except OSError:
            return None
        return found if found["counts"]["processed"] == 3 else None

    found = until(ready)
    assert found["status"] == "ok"
    assert found["lag"] == 0
    assert sum(found["positions"].values()) == 3


def test_a_missing_setting_ends_the_start_with_its_name(rig: Rig) -> None:
    process = rig.start(FUZHEN_KAFKA=None)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 78
    assert b"FUZHEN_KAFKA" in error


def test_the_watchdog_ends_a_worker_whose_loop_is_blocked(rig: Rig) -> None:
    process = rig.start("tests.integration.blocked_processor")
    rig.send(rig.processor.sources[0], *events(1))
    assert process.wait(PATIENCE) == 70


def test_the_reconciler_finds_and_publishes_what_was_not_derived(rig: Rig) -> None:
    processor = rig.processor
    pairs = events(*range(1, 16))
    rig.send(processor.sources[0], *pairs)
    state, outputs = None, []
    for version in range(1, 16):
        event = counted("count-a1", version, "a1", 100)
        state, derived = derive(state, event)
        outputs += [to_envelope(output, event, processor.app_id) for output in derived]
    first, lost, last = outputs
    rig.send(processor.output_topic, (b"a1", first.to_bytes()), (b"a1", last.to_bytes()))

    def check(reconciler: Reconciler) -> Report:
        return asyncio.run(reconciler.check())

    contracts = Contracts(rig.folder / "events")
    assert check(Reconciler(processor, contracts, rig.kafka)).pending == 1, "it may still come"
    reconciler = Reconciler(processor, contracts, rig.kafka, grace=0)
    assert check(reconciler) == Report(read=15, missing=[lost.id], pending=0, strange=0, partial=0)
    assert lost.to_bytes() in {record.value for record in rig.records(processor.output_topic)}
    rig.send(processor.sources[0], *events(16, 17))
    assert check(reconciler) == Report(read=2, missing=[], pending=0, strange=0, partial=0)
