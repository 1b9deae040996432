"""The stage: HTTP through the gateway, the clock, what went over Kafka, and the timeline that is printed.

A story tells steps. Each step shows who did what, what the API answered, and the events it caused with the lag from
commit to this reader; a step that does not turn out as the rules say ends the story.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.text import Text

from devstack import ports
from eventkit.clock import SHANGHAI, SystemClock, rfc3339
from eventkit.contracts import contracts
from eventkit.envelope import Envelope

PATIENCE = 25.0  # seconds of wall time in which what is derived must have happened


class StoryFailed(Exception):
    """A step did not turn out as the rules say."""


@dataclass
class Heard:
    """An event as it came over Kafka, `lag` after it was committed."""

    envelope: Envelope
    topic: str
    lag: timedelta


class Listener:
    """Reads every topic from now on, in a thread."""

    def __init__(self, kafka: str, clock: SystemClock) -> None:
        self._kafka = kafka
        self._clock = clock
        self._heard: list[Heard] = []
        self._news = threading.Condition()
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="listener")

    def start(self) -> None:
        self._thread.start()
        if not self._started.wait(30):
            raise StoryFailed(f"cannot listen to Kafka at {self._kafka}: {self._failed}")

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except BaseException as error:
            self._failed = error

    async def _listen(self) -> None:
        consumer = AIOKafkaConsumer(
            *contracts().topics, bootstrap_servers=self._kafka, auto_offset_reset="latest", fetch_max_wait_ms=50
        )
        await consumer.start()
        try:
            for partition in consumer.assignment():
                await consumer.position(partition)
            self._started.set()
            async for record in consumer:
                envelope = Envelope.parse(record.value)
                lag = self._clock.now() - datetime.fromisoformat(envelope.time)
                with self._news:
                    self._heard.append(Heard(envelope, record.topic, lag))
                    self._news.notify_all()
        finally:
            await consumer.stop()

    def wait(self, matches: Callable[[Heard], bool], seconds: float = PATIENCE) -> Heard | None:
        """The first event heard that matches, waiting for it if need be."""
        until = time.monotonic() + seconds
        seen = 0
        with self._news:
            while True:
                for heard in self._heard[seen:]:
                    if matches(heard):
                        return heard
                seen = len(self._heard)
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)

    def of(self, matches: Callable[[Heard], bool]) -> list[Heard]:
        with self._news:
            return [heard for heard in self._heard if matches(heard)]


class Api:
    """One client app: it knows the gateway, and a token once somebody has logged in."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, path: str, **params: Any) -> requests.Response:
        return self._session.get(self.url + path, params=params, headers=self._headers(), timeout=20)

    def post(
        self, path: str, body: Any = None, *, key: str | None = None, data: bytes | None = None, kind: str = ""
    ) -> requests.Response:
        headers = self._headers() | {"Idempotency-Key": key or uuid.uuid4().hex}
        if data is not None:
            return self._session.post(
                self.url + path, data=data, headers=headers | {"Content-Type": kind}, timeout=20
            )
        return self._session.post(self.url + path, json={} if body is None else body, headers=headers, timeout=20)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass
class Stage:
    """Everything a story needs: the gateway, the partners' sandboxes, the clock, Kafka, and the paper to print on."""

    base: int
    clock: SystemClock
    listener: Listener
    console: Console
    verbose: bool = True
    steps: int = 0
    events: int = 0
    tokens: dict[str, str] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, home: Path, base: int) -> Stage:
        """The stage of the stack with its state in `home` and its ports from `base`; Kafka is listened to from now."""
        clock = SystemClock(home / "clock")
        listener = Listener(f"{ports.HOST}:{ports.port('kafka', base)}", clock)
        listener.start()
        width = None if sys.stdout.isatty() else 160
        return cls(base, clock, listener, Console(highlight=False, soft_wrap=True, width=width, record=True))

    def api(self, token: str = "") -> Api:
        return Api(ports.url("gateway", self.base), token)

    def partner(self, name: str) -> Api:
        return Api(ports.url(name, self.base))

    def title(self, name: str, text: str) -> None:
        self.console.print()
        self.console.print(Text.assemble((f"━━ {name} ", "bold cyan"), (text, "bold")))

    def tell(self, who: str, what: str, outcome: str = "") -> None:
        """One line of the timeline: the business time, who, what, and what the API answered."""
        self.steps += 1
        now = self.clock.now().astimezone(SHANGHAI)
        self.console.print(
            Text.assemble(
                (f"{now:%m-%d %H:%M:%S}  ", "dim"), (f"{who:<12}", "yellow"), f"{what}  ", (outcome, "green")
            )
        )

    def asked(
        self, who: str, what: str, response: requests.Response, status: int, show: str | None = None,
        code: str | None = None,
    ) -> Any:
        """Tell what was asked, check the answer's status (and problem code), and return its JSON."""
        body = _json(response)
        if response.status_code != status or (code is not None and body.get("code") != code):
            wanted = f"{status} {code or ''}".strip()
            raise StoryFailed(
                f"{who} {what}: expected {wanted}, got {response.status_code} {response.request.method} "
                f"{response.request.path_url}: {response.text[:600]}"
            )
        if code is not None:
            self.tell(who, what, f"→ {status} {code}: {body['detail']} {body['next']}")
        else:
            self.tell(who, what, f"→ {status} {show}" if show else f"→ {status}")
        return body

    def heard(self, visit_id: str, *names: str) -> list[Envelope]:
        """Wait until each named event of a visit has come over Kafka; print them with their lag."""
        return [self._hear(visit_id, name, lambda envelope: True) for name in names]

    def heard_of(self, visit_id: str, name: str, order_id: str) -> Envelope:
        """The named event of one order of a visit."""
        return self._hear(visit_id, name, lambda envelope: envelope.data.get("order_id") == order_id)

    def _hear(self, visit_id: str, name: str, meant: Callable[[Envelope], bool]) -> Envelope:
        heard = self.listener.wait(
            lambda h: h.envelope.name == name and h.envelope.partitionkey == visit_id and meant(h.envelope)
        )
        if heard is None:
            raise StoryFailed(f"no {name} for visit {visit_id} came over Kafka in {PATIENCE:.0f} s")
        if heard.envelope.id not in self._told:
            self._told.add(heard.envelope.id)
            self.events += 1
            self.console.print(
                Text.assemble(
                    (" " * 28 + "↳ ", "dim"), (heard.envelope.name, "magenta"),
                    (f"  {heard.topic}  +{_milliseconds(heard.lag)}", "dim"),
                )
            )
        return heard.envelope

    def never_heard(self, visit_id: str, *names: str) -> None:
        """Nothing of the kind has come over Kafka for the visit."""
        for heard in self.listener.of(lambda h: h.envelope.name in names and h.envelope.partitionkey == visit_id):
            raise StoryFailed(f"a {heard.envelope.name} of visit {visit_id} came over Kafka, and must not have")

    def until(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `condition` returns once it is true; read models follow the log within milliseconds."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise StoryFailed(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.03)
        return value

    def move_clock(self, to: datetime, why: str) -> None:
        if to > self.clock.now():
            self.clock.move_to(to)
            self.tell("clock", why, f"→ {to.astimezone(SHANGHAI):%Y-%m-%d %H:%M}")

    @contextlib.contextmanager
    def checking(self, what: str) -> Iterator[None]:
        try:
            yield
        except (AssertionError, KeyError, IndexError) as error:
            raise StoryFailed(f"{what}: {type(error).__name__} {error}") from error
        self.tell("check", what, "✔")


def yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02d}"


def instant(moment: datetime) -> str:
    return rfc3339(moment)


def _milliseconds(lag: timedelta) -> str:
    return f"{lag / timedelta(milliseconds=1):.0f} ms"


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return {}
