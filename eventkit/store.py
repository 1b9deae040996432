"""The event store: what a commit is, what a backend must do, and the one loop every command goes through.

A commit is one insert. It carries the events of one command, for one stream or several, together with the caller's
idempotency key, the answer, and the jobs that became due. Each event takes the position `<stream>/<version>`, and no
position is ever taken twice: who comes second loads again and decides again. That one rule sells a slot once (§9),
keeps one live visit a patient, doctor and day (§30), and orders every aggregate.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

import orjson

from eventkit.clock import Clock
from eventkit.events import Recorded, Refusal, Registry

MAX_ATTEMPTS = 12
S = TypeVar("S")


class Conflict(Exception):
    """Somebody else took one of the positions first."""


class KeyTaken(Exception):
    """The idempotency key stands in the log already; `answer` is what was answered then."""

    def __init__(self, answer: Answer, fingerprint: str) -> None:
        super().__init__("idempotency key taken")
        self.answer = answer
        self.fingerprint = fingerprint


class StoreUnavailable(Exception):
    """The log could not be reached in time. Whether the commit stands is unknown: ask again with the same key."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what, under which key. `fingerprint` tells a retry from another request that reuses the key."""

    caller: str
    route: str
    key: str | None
    fingerprint: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""

    @property
    def idempotency(self) -> str | None:
        """The key as stored, unique in a service on (caller, route, key)."""
        if self.key is None:
            return None
        return hashlib.sha256(orjson.dumps([self.caller, self.route, self.key])).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told. It is kept with the commit, so it must hold nothing personal (§31): ids and states."""

    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Due:
    """Work to be done at `at` or soon after: a deadline, or (when `at` is now) a call to a partner. `id` names the
    work, so that the row exists once however often it is written."""

    id: str
    at: datetime
    job: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command comes to: events with the stream of each, in order, jobs, and the answer."""

    events: Sequence[tuple[str, object]] = ()
    due: Sequence[Due] = ()
    answer: Answer = Answer()


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event as a backend keeps it; `sealed` is the encrypted personal part, for the key of `person`."""

    stream: str
    version: int
    type: str
    data: dict[str, Any]
    sealed: bytes | None
    person: str | None
    topic: str | None
    partitionkey: str | None

    @property
    def position(self) -> str:
        return position(self.stream, self.version)


@dataclass(frozen=True, slots=True)
class Commit:
    events: tuple[LoggedEvent, ...]
    time: datetime
    request: Request
    answer: Answer
    due: tuple[Due, ...] = ()


class Backend(Protocol):
    """What a database must do to hold the log. `tests/integration/store_suite.py` runs against each."""

    def append(self, commit: Commit) -> None:
        """Raises Conflict, KeyTaken or StoreUnavailable; on return the commit is durable on a majority."""
        ...

    def read(self, streams: Iterable[str]) -> list[tuple[LoggedEvent, datetime]]:
        """All events of the streams, each stream in order of its versions."""
        ...

    def answered(self, idempotency: str) -> tuple[Answer, str] | None:
        """The answer and fingerprint that stand under an idempotency key."""
        ...


class Sealer(Protocol):
    """Encrypts personal values under a person's key (`eventkit.vault`)."""

    def seal(self, person: str, values: dict[str, Any], context: str) -> bytes: ...

    def open(self, person: str, sealed: bytes, context: str) -> dict[str, Any]:
        """Empty once the person's key is erased."""
        ...


def position(stream: str, version: int) -> str:
    return f"{stream}/{version:010d}"


Histories = Mapping[str, Sequence[Recorded]]


class Store:
    """The log of one service."""

    def __init__(self, backend: Backend, registry: Registry, sealer: Sealer, clock: Clock) -> None:
        self._backend = backend
        self._registry = registry
        self._sealer = sealer
        self._clock = clock

    def load(self, *streams: str) -> Histories:
        """The history of each stream, empty where there is none."""
        histories: dict[str, list[Recorded]] = defaultdict(list)
        for logged, instant in self._backend.read(streams):
            private = (
                self._sealer.open(logged.person, logged.sealed, logged.position)
                if logged.sealed is not None and logged.person is not None
                else None
            )
            event = self._registry.decode(logged.type, logged.data, private)
            histories[logged.stream].append(Recorded(logged.stream, logged.version, event, instant))
        return {stream: histories[stream] for stream in streams}

    def execute(
        self, request: Request, streams: Sequence[str], decide: Callable[[Histories], Decision]
    ) -> Answer:
        """Load `streams`, decide, append; decide again whenever somebody was first.

        The same key gets the same answer, also after a crash between the insert and the answer. A decision without
        events writes nothing, so it has nothing to remember and is simply taken again. Raises Refusal (the rule's, or
        `key_reused`, or `busy` when a stream stays contended), StoreUnavailable.
        """
        for attempt in range(MAX_ATTEMPTS):
            histories = self.load(*streams)
            try:
                decision = decide(histories)
            except Refusal:
                # The refusal may be caused by this very command having succeeded before.
                if earlier := self._earlier(request):
                    return earlier
                raise
            if not decision.events:
                return self._earlier(request) or decision.answer
            try:
                self._backend.append(self._commit(request, histories, decision))
            except KeyTaken as taken:
                return _same(request, taken.answer, taken.fingerprint)
            except Conflict:
                time.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 5)))
                continue
            return decision.answer
        raise Refusal("busy")

    def _earlier(self, request: Request) -> Answer | None:
        if request.idempotency is None:
            return None
        found = self._backend.answered(request.idempotency)
        return _same(request, *found) if found else None

    def _commit(self, request: Request, histories: Histories, decision: Decision) -> Commit:
        versions = {stream: len(history) for stream, history in histories.items()}
        logged = []
        for stream, event in decision.events:
            versions[stream] += 1
            encoded = self._registry.encode(event)
            sealed = (
                self._sealer.seal(encoded.person, encoded.private, position(stream, versions[stream]))
                if encoded.private and encoded.person
                else None
            )
            logged.append(
                LoggedEvent(
                    stream=stream,
                    version=versions[stream],
                    type=encoded.type,
                    data=encoded.data,
                    sealed=sealed,
                    person=encoded.person,
                    topic=encoded.topic,
                    partitionkey=encoded.partitionkey,
                )
            )
        return Commit(tuple(logged), self._clock.now(), request, decision.answer, tuple(decision.due))


def _same(request: Request, answer: Answer, fingerprint: str) -> Answer:
    if fingerprint != request.fingerprint:
        raise Refusal("key_reused")
    return answer


def fold(evolve: Callable[[S, Any], S], initial: S, history: Iterable[Recorded]) -> S:
    """The state that a history leaves behind."""
    state = initial
    for recorded in history:
        state = evolve(state, recorded.event)
    return state
