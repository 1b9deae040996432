"""How a service starts: `python -m services.<service> api | worker | streams <processor> | reconcile <processor>`.

`api` is gunicorn with threads; `worker` is one event loop with the relay, the deadlines, the read models, the
consumers. Whatever cannot do its work ends the process with a reason, and its supervisor starts it again (rule 11).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from eventkit import health, logs
from eventkit.contracts import contracts
from eventkit.core import Core
from eventkit.deadlines import Deadlines, Job, Runner
from eventkit.events import Recorded, Registry
from eventkit.follower import Follower, connect_async
from eventkit.inbox import Handler, Inbox
from eventkit.reconcile import Reconciler, reconcile
from eventkit.relay import Relay, make_producer
from eventkit.settings import or_exit
from eventkit.store import Commit
from eventkit.streams import Processor, run
from eventkit.web import Routes, create_app

log = logging.getLogger(__name__)

STALLED_SECONDS = 30.0
RECONCILE_SECONDS = 300.0
RECONCILE_WINDOW = timedelta(days=60)  # longer than a visit is booked ahead and its prescription lives
View = Callable[[Recorded], None]


@dataclass(frozen=True)
class Work:
    """What a service's worker does besides relaying. `views` get own events, without their personal parts; `inboxes`
    maps a consumer group to its handlers by short event name."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    views: Sequence[View] = ()
    inboxes: Mapping[str, Mapping[str, Handler]] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """A service as its `__main__` declares it. `prepare` is called once before a worker works."""

    name: str
    registry: Registry
    routes: Callable[[Core], Sequence[Routes]]
    work: Callable[[Core], Work]
    processors: Sequence[Processor[Any]] = ()
    prepare: Callable[[Core], None] = lambda core: None

    def processor(self, short: str) -> Processor[Any] | None:
        """`refunds` → the processor `payment.refunds`."""
        return next((p for p in self.processors if p.app_id == f"{self.name}.{short}"), None)


def main(service: Service, arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    logs.set_up(f"{service.name}.{'.'.join(arguments)}")
    match arguments:
        case ["api"]:
            _serve(service)
        case ["worker"]:
            sys.exit(asyncio.run(_Worker(service).run()))
        case ["streams", name] if processor := service.processor(name):
            run(processor)
        case ["reconcile", name] if processor := service.processor(name):
            sys.exit(reconcile(processor))
        case _:
            shorts = [processor.app_id.partition(".")[2] for processor in service.processors]
            more = "".join(f" | streams {short} | reconcile {short}" for short in shorts)
            print(f"python -m services.{service.name} api | worker{more}", file=sys.stderr)
            sys.exit(2)


def build_app(service: Service, core: Core) -> Flask:
    def digest(text: str) -> str:
        return core.vault.blind("request", text)

    return create_app(service.name, service.routes(core), core.verifier, core.ready, digest)


class _Server(BaseApplication):
    def __init__(self, service: Service) -> None:
        self._service = service
        # Built once to see that no setting is missing, and thrown away: connections must not cross the fork.
        core, _ = or_exit(self._build)
        core.mongo.close()
        self._settings = core.settings
        super().__init__()

    def _build(self) -> tuple[Core, Flask]:
        core = Core.from_env(self._service.name, self._service.registry)
        return core, build_app(self._service, core)

    def load_config(self) -> None:
        for name, value in {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": self._settings.web_workers,
            "worker_class": "gthread",
            "threads": self._settings.web_threads,
            "timeout": 30,
            "graceful_timeout": 20,
            "keepalive": 75,
            "backlog": 512,
            "limit_request_line": 0,  # a longer line would be refused in HTML; the gateway bounds it, with a problem
            "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
            "errorlog": "-",
            "loglevel": "warning",
            "proc_name": f"fuzhen-{self._service.name}",
        }.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._build()[1]


def _serve(service: Service) -> None:
    _Server(service).run()


class _Worker:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._core = or_exit(lambda: Core.from_env(service.name, service.registry))
        self._work = or_exit(lambda: service.work(self._core))
        self._beat = time.monotonic()
        self._followers: list[Follower] = []
        self._inboxes: list[Inbox] = []
        self._runner: Runner | None = None

    async def run(self) -> int:
        core = self._core
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(core.ensure_indexes)
        await asyncio.to_thread(self._service.prepare, core)
        deadlines = Deadlines(core.database, core.clock)
        await asyncio.to_thread(deadlines.ensure_indexes)
        producer = make_producer(core.settings.kafka)
        await producer.start()

        async def write_deadlines(commits: list[Commit]) -> None:
            await asyncio.to_thread(deadlines.write, commits)
            deadlines.wake.set()

        async def write_views(commits: list[Commit]) -> None:
            await asyncio.to_thread(self._project, commits)

        mongo = connect_async(core.settings.mongo_url)
        database = mongo[core.settings.database]
        relay = Relay(producer, core.registry.source)
        self._followers = [
            Follower(database, "relay", relay.publish),
            Follower(database, "deadlines", write_deadlines),
        ]
        if self._work.views:
            self._followers.append(Follower(database, "views", write_views))
        self._inboxes = [
            Inbox(group, handlers, kafka=core.settings.kafka, database=core.database, contracts=contracts())
            for group, handlers in self._work.inboxes.items()
        ]
        reconcilers = [
            Reconciler(processor, contracts(), core.settings.kafka, window=RECONCILE_WINDOW)
            for processor in self._service.processors
        ]
        self._runner = Runner(deadlines, self._work.jobs)
        health.serve(core.settings.port, host=core.settings.host, live=self.live, ready=self.ready)
        tasks = [
            asyncio.create_task(running)
            for running in (
                *(follower.run() for follower in self._followers),
                *(inbox.run() for inbox in self._inboxes),
                *(self._every(RECONCILE_SECONDS, reconciler) for reconciler in reconcilers),
                self._runner.run(),
                self._heartbeat(),
            )
        ]
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        code = 0
        for task in done - {stopping}:
            if error := task.exception():
                log.error("worker ends: %s: %s", type(error).__name__, error, exc_info=error)
            code = 1
        if code:
            # Threads may be blocked in a handler; what they do is repeatable, waiting for them is not needed.
            logging.shutdown()
            os._exit(code)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
        await mongo.close()
        return code

    def _project(self, commits: list[Commit]) -> None:
        for commit in commits:
            for logged in commit.events:
                event = self._core.registry.decode(logged.type, logged.data)
                recorded = Recorded(logged.stream, logged.version, event, commit.time)
                for view in self._work.views:
                    view(recorded)

    async def _every(self, seconds: float, function: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(function)
            except Exception:
                log.exception("periodic %s", getattr(function, "__name__", function))

    async def _heartbeat(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1)

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Progress against lag: the loop turns, and whoever has work before it moves."""
        now = time.monotonic()
        stalled = [inbox.group for inbox in self._inboxes if now - inbox.last_progress > STALLED_SECONDS]
        if self._runner is not None and now - self._runner.last_progress > STALLED_SECONDS:
            stalled.append("deadlines")
        if now - self._beat > STALLED_SECONDS:
            stalled.append("loop")
        return not stalled, {"stalled": stalled}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Every follower has caught up once and every consumer has its partitions."""
        behind = [follower.name for follower in self._followers if follower.behind]
        behind += [inbox.group for inbox in self._inboxes if not inbox.assigned]
        return not behind, {
            "behind": behind,
            "followers": {follower.name: follower.handled for follower in self._followers},
            "inboxes": {inbox.group: {"lag": inbox.lag, "handled": inbox.handled} for inbox in self._inboxes},
        }
