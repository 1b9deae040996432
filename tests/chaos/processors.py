"""Kills a loaded processor again and again and proves that nothing was lost, doubled or left lying (docs/adr/0004).

Events are produced without pause while the workers are killed at random moments: while working, right after the start,
while recovering, and now and then their data folder is taken away too. In the end every state, every output and every
byte on disk must be what a fold over the produced events says.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from rocksdict import AccessType, Options, Rdict

from eventkit.contracts import Contracts
from eventkit.envelope import Envelope, sequence
from eventkit.reconcile import Reconciler
from eventkit.relay import make_producer
from eventkit.streams import Processor, processor_topics
from eventkit.streams.guard import CLAIM, POSITION, Replay, position_from
from eventkit.streams.topics import Reader
from eventkit.topics import apply, wanted
from tests.chaos.totals import COUNTED, PARTITIONS, Totals, totals, write_contracts

ACCOUNTS = 300
IDLE_LIMIT = 20.0
DRAIN_SECONDS = 120.0
_OFFSET_KEY = b"__faust\0offset__"


@dataclass
class Plan:
    """What a campaign does. `mode` guarded is ours, bare and cured are what must fail. `pauses` of the kills are
    SIGSTOP for longer than a session and then SIGCONT: a worker that comes back after its partitions went to another
    one. `broker_kills` times `kill_broker` is called. `wipe_every` kills, on average, take the data folder too."""

    kafka: str
    folder: Path
    kills: int = 40
    seed: int = 1
    workers: int = 1
    mode: str = "guarded"
    rate: int = 700
    pauses: int = 0
    wipe_every: int = 8
    broker_kills: int = 0
    kill_broker: Callable[[], None] = lambda: None
    say: Callable[[str], None] = print


@dataclass
class Report:
    """`longest_idle` is lag without progress while nothing was done to the workers, of the processor as a whole and of
    the worst partition; `longest_gap` counts through the kills. `to_work` are the seconds from a start to progress."""

    plan: dict[str, Any]
    produced: int = 0
    repeated: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    longest_idle: float = 0.0
    longest_partition_idle: float = 0.0
    longest_gap: float = 0.0
    to_work: list[float] = field(default_factory=list)
    outputs: int = 0
    duplicates: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults


async def prepare(kafka: str, events: Path, processor: Processor[Totals]) -> None:
    """The campaign's contracts in the folder `events`, and its topics."""
    write_contracts(events, processor)
    topics = wanted(Contracts(events))
    for spec in processor_topics(processor.app_id, PARTITIONS):
        topics[spec.name] = (spec.partitions, spec.config)
    await apply(kafka, topics, 1)


def counted(stream: str, version: int, account: str, amount_fen: int) -> Envelope:
    return Envelope(
        id=f"{stream}/{version}", source="/services/chaos", type=COUNTED, subject=account,
        time="2026-11-23T09:00:00.000Z", partitionkey=account, sequence=sequence(version),
        data={"account": account, "amount_fen": amount_fen},
    )


class Worker:
    """One worker process and its restarter."""

    def __init__(self, plan: Plan, number: int, run: str) -> None:
        self._plan = plan
        self.data = plan.folder / f"data-{number}"
        self.log = plan.folder / f"worker-{number}.log"
        self._environment = {
            **os.environ, "FUZHEN_KAFKA": plan.kafka, "FUZHEN_DATA": str(self.data), "CHAOS_RUN": run,
            "FUZHEN_PORT": "0", "FUZHEN_EVENTS": str(plan.folder / "events"),
        }
        self.exits: Counter[str] = Counter()
        self.started = 0.0
        self.worked = False
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.chaos.totals", self._plan.mode]
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self.started = time.monotonic()
        self.worked = False

    def restart_if_dead(self) -> None:
        if (code := self.process.poll()) is not None:
            self.exits[str(code)] += 1
            self.start()

    def kill(self, wipe: bool) -> None:
        self.process.kill()
        self.process.wait()
        if wipe:
            shutil.rmtree(self.data, ignore_errors=True)
        self.start()


class Campaign:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._run = f"{plan.mode}{plan.seed}{int(time.time() * 1000) % 10**8}"
        self._processor = totals(self._run)
        self._sent: dict[str, int] = defaultdict(int)
        self._amounts: dict[str, list[int]] = defaultdict(list)
        self._ends: dict[TopicPartition, int] = defaultdict(int)
        self._positions: dict[TopicPartition, int] = defaultdict(int)
        self._progress = 0
        self._harmed = time.monotonic()
        self._workers: list[Worker] = []
        self.report = Report(
            {name: getattr(plan, name) for name in (
                "kills", "seed", "workers", "mode", "rate", "pauses", "broker_kills")}
        )

    async def run(self) -> Report:
        plan, report = self._plan, self.report
        await prepare(plan.kafka, plan.folder / "events", self._processor)
        began = time.monotonic()
        self._workers = [Worker(plan, number, self._run) for number in range(plan.workers)]
        stop_load = asyncio.Event()
        load = asyncio.create_task(self._load(stop_load))
        beside = [asyncio.create_task(self._observe()), asyncio.create_task(self._restart())]
        try:
            await self._kill_all()
            stop_load.set()
            await load
            await self._drained()
        finally:
            for task in beside:
                task.cancel()
            ended = await asyncio.gather(*beside, return_exceptions=True)
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
                report.exits = dict(Counter(report.exits) + worker.exits)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        report.seconds = round(time.monotonic() - began, 1)
        await self._check()
        return report

    # -- load and harm

    async def _load(self, stop: asyncio.Event) -> None:
        """Amounts to two topics; now and then the last one of a stream again, as a relay does after a crash."""
        producer = make_producer(self._plan.kafka)
        await producer.start()
        streams = [(topic, f"{topic.split('.')[1].split('-')[0]}-a{account}", f"a{account}")
                   for account in range(ACCOUNTS) for topic in self._processor.sources]
        while not stop.is_set():
            acks = []
            for topic, stream, account in self._random.choices(streams, k=self._plan.rate // 20):
                again = self._sent[stream] and self._random.random() < 0.03
                if again:
                    self.report.repeated += 1
                else:
                    self._sent[stream] += 1
                    self._amounts[stream].append(self._random.randrange(10_000))
                    self.report.produced += 1
                version = self._sent[stream]
                event = counted(stream, version, account, self._amounts[stream][-1])
                acks.append(await producer.send(topic, event.to_bytes(), key=account.encode()))
            for ack in await asyncio.gather(*acks):
                place = TopicPartition(ack.topic, ack.partition)
                self._ends[place] = max(self._ends[place], ack.offset + 1)
            await asyncio.sleep(0.05)
        await producer.stop()

    async def _kill_all(self) -> None:
        plan = self._plan
        moments = (["working"] * 5 + ["starting"] * 2 + ["recovering"] * 3)
        broker_turns = set(self._random.sample(range(plan.kills), min(plan.kills, plan.broker_kills)))
        pause_turns = set(self._random.sample(range(plan.kills), min(plan.kills, plan.pauses)))
        kills: Counter[str] = Counter()
        early = 0
        for turn in range(plan.kills):
            worker = self._random.choice(self._workers)
            moment = self._random.choice(moments) if early < 2 else "working"
            early = 0 if moment == "working" else early + 1
            if moment == "working":
                await self._moved(self._progress)
                await asyncio.sleep(self._random.uniform(0, 4))
            else:
                span = (0.05, 1.5) if moment == "starting" else (1.5, 4)
                await asyncio.sleep(max(0.0, worker.started + self._random.uniform(*span) - time.monotonic()))
            if turn in broker_turns:
                plan.say(f"turn {turn + 1}: the broker is killed")
                plan.kill_broker()
                kills["broker"] += 1
            if turn in pause_turns:
                moment = "paused"
                worker.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(self._random.uniform(7, 9))
                worker.process.send_signal(signal.SIGCONT)
            else:
                wipe = plan.wipe_every > 0 and self._random.randrange(plan.wipe_every) == 0
                kills["wiped"] += wipe
                worker.kill(wipe)
            self._harmed = time.monotonic()
            kills[moment] += 1
            plan.say(f"turn {turn + 1}/{plan.kills} {moment}: produced {self.report.produced}, "
                     f"behind {self._behind()}, longest idle {self.report.longest_idle:.1f} s")
        self.report.kills = dict(kills)

    async def _restart(self) -> None:
        while True:
            for worker in self._workers:
                worker.restart_if_dead()
            await asyncio.sleep(0.2)

    # -- what is seen from outside

    def _behind(self) -> int:
        return sum(end - self._positions[place] for place, end in self._ends.items())

    async def _moved(self, since: int, limit: float = 60.0) -> None:
        deadline = time.monotonic() + limit
        while self._progress == since and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _drained(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._behind() > 0 and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    async def _observe(self) -> None:
        """Positions as the changelog has them; a bare worker stores none, there the group's committed offsets stand for
        them."""
        while True:
            reader = _Tail(self._plan.kafka, self._processor.changelog, self._processor.app_id)
            try:
                await reader.start()
                await self._watch(reader)
            except (KafkaError, TimeoutError):  # the broker is away; a new reader begins again
                await asyncio.sleep(0.5)
            finally:
                await reader.stop()

    async def _watch(self, reader: _Tail) -> None:
        now = time.monotonic()
        since = now
        moved_at: dict[TopicPartition, float] = defaultdict(lambda: now)
        while True:
            if self._plan.mode == "guarded":
                found = await reader.positions(self._processor.sources)
            else:
                found = await reader.committed(list(self._ends))
            now = time.monotonic()
            for place, at in found.items():
                if at > self._positions[place]:
                    self._positions[place] = at
                    self._progress += 1
                    since = moved_at[place] = now
            for place, end in list(self._ends.items()):
                if self._positions[place] >= end:
                    moved_at[place] = now
            if self._behind() <= 0:
                since = now
            report = self.report
            report.longest_gap = max(report.longest_gap, now - since)
            report.longest_idle = max(report.longest_idle, now - max(since, self._harmed))
            oldest = min(moved_at.values(), default=now)
            report.longest_partition_idle = max(report.longest_partition_idle, now - max(oldest, self._harmed))
            for worker in self._workers:
                # Half a second: what the process before wrote is seen a little late.
                if self._plan.workers == 1 and not worker.worked and since > worker.started + 0.5:
                    self.report.to_work.append(round(since - worker.started, 2))
                    worker.worked = True
            await asyncio.sleep(0.1)

    # -- what must be true

    async def _check(self) -> None:
        report, faults = self.report, self.report.faults
        changelog = await _read_all(self._plan.kafka, self._processor.changelog)
        states: dict[str, dict[str, Any]] = {}
        for records in changelog.values():
            for key, value in _fold(records, len(records)).items():
                if key not in (CLAIM, POSITION):
                    states[key.decode()] = orjson.loads(value)["state"]
        expected: dict[str, dict[str, Any]] = defaultdict(lambda: {"counts": {}, "totals": {}})
        milestones: dict[str, int] = {}
        for stream, amounts in self._amounts.items():
            account = stream.split("-")[1]
            expected[account]["counts"][stream] = len(amounts)
            expected[account]["totals"][stream] = sum(amounts)
            for count in range(5, len(amounts) + 1, 5):
                milestones[f"{stream}/{count}"] = sum(amounts[:count])
        wrong = [key for key in expected if states.get(key) != expected[key]]
        if wrong or set(states) != set(expected):
            found = (sum(states.get(key, {"counts": {}})["counts"].values()) for key in wrong)
            short = sum(sum(expected[key]["counts"].values()) for key in wrong) - sum(found)
            faults.append(f"{len(wrong)} of {len(expected)} states are wrong, {short} events are not in them")
        self._check_outputs(await _read_all(self._plan.kafka, self._processor.output_topic), milestones)
        dead = await _read_all(self._plan.kafka, self._processor.dead_letters)
        if any(dead.values()):
            faults.append(f"{sum(map(len, dead.values()))} dead letters")
        if report.longest_idle > IDLE_LIMIT:
            faults.append(f"idle for {report.longest_idle:.1f} s with lag")
        if self._behind() > 0:
            faults.append(f"{self._behind()} events behind after {DRAIN_SECONDS:.0f} s of rest")
        if self._plan.mode == "guarded":
            for worker in self._workers:
                self._check_store(worker, changelog)
            found = await Reconciler(
                self._processor, Contracts(self._plan.folder / "events"), self._plan.kafka, grace=0
            ).check()
            if found.missing or found.strange:
                faults.append(f"the reconciler finds {len(found.missing)} missing and {found.strange} strange outputs")

    def _check_outputs(self, outputs: dict[int, list[Any]], milestones: dict[str, int]) -> None:
        faults = self.report.faults
        variants: dict[str, set[bytes]] = defaultdict(set)
        found: dict[str, int] = {}
        for records in outputs.values():
            for record in records:
                event = Envelope.parse(record.value)
                variants[event.id].add(record.value)
                found[f"{event.data['stream']}/{event.data['count']}"] = event.data["total_fen"]
                self.report.outputs += 1
        self.report.duplicates = self.report.outputs - len(variants)
        if missing := set(milestones) - set(found):
            faults.append(f"{len(missing)} of {len(milestones)} outputs are missing")
        if extra := set(found) - set(milestones):
            faults.append(f"{len(extra)} outputs have no cause")
        if wrong := [name for name in set(found) & set(milestones) if found[name] != milestones[name]]:
            faults.append(f"{len(wrong)} outputs have a wrong total")
        if different := [name for name, bytes_ in variants.items() if len(bytes_) > 1]:
            faults.append(f"{len(different)} outputs were sent with different bytes")
        if len(variants) != len(found):
            faults.append(f"{len(variants)} ids for {len(found)} outputs")

    def _check_store(self, worker: Worker, changelog: dict[int, list[Any]]) -> None:
        """A RocksDB that a kill left behind is the changelog up to the offset it names, no more and no less."""
        for path in sorted(worker.data.glob(f"**/{self._processor.app_id}/**/state-*.db")):
            partition = int(path.stem.split("-")[-1])
            with _opened(path) as database:
                stored = {key: value for key, value in database.items() if key != CLAIM}
            if not stored:
                continue
            reached = int(stored.pop(_OFFSET_KEY)) + 1
            folded = _fold(changelog[partition], reached)
            folded.pop(CLAIM, None)
            if stored != folded:
                self.report.faults.append(f"{worker.data.name}/{path.name} is not its changelog up to {reached}")


class _opened:
    def __init__(self, path: Path) -> None:
        self._database = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())

    def __enter__(self) -> Rdict:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()


class _Tail(Reader):
    """Follows a changelog from its beginning, and a group's offsets."""

    def __init__(self, kafka: str, changelog: str, group: str) -> None:
        super().__init__(kafka)
        self._kafka = kafka
        self._group = group
        self._places = [TopicPartition(changelog, partition) for partition in range(PARTITIONS)]
        self._read = dict.fromkeys(self._places, 0)

    async def positions(self, sources: tuple[str, ...]) -> dict[TopicPartition, int]:
        found = {}
        ends = await self.ends(self._places)
        async for place, records in self.read({tp: (self._read[tp], ends[tp]) for tp in self._places}):
            self._read[place] = records[-1].offset + 1
            for record in records:
                if record.key == POSITION:
                    for topic, at in position_from(record.value).next.items():
                        found[TopicPartition(topic, place.partition)] = at
        return found

    async def committed(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self._group)
        finally:
            await admin.close()
        return {TopicPartition(*tp): at.offset for tp, at in found.items() if tp in places and at.offset >= 0}


async def _read_all(kafka: str, topic: str) -> dict[int, list[Any]]:
    reader = Reader(kafka)
    await reader.start()
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    found: dict[int, list[Any]] = {partition: [] for partition in range(PARTITIONS)}
    async for place, records in reader.read({tp: (0, end) for tp, end in (await reader.ends(places)).items()}):
        found[place.partition] += records
    await reader.stop()
    return found


def _fold(records: list[Any], until: int) -> dict[bytes, bytes]:
    """A changelog partition up to an offset, read by its rules (see guard.Replay)."""
    replay = Replay(0)
    folded = {}
    for record in records:
        if record.offset < until and (b'"epoch"' not in record.value or replay.accepts(record.key, record.value)):
            folded[record.key] = record.value
    return folded


def campaign(plan: Plan) -> Report:
    return asyncio.run(Campaign(plan).run())
