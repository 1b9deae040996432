"""The log in memory: for unit tests and the simulation, never for patients."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime

from eventkit.store import Answer, Commit, Conflict, KeyTaken, LoggedEvent


class MemoryBackend:
    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self._positions: dict[str, tuple[LoggedEvent, datetime]] = {}
        self._answers: dict[str, tuple[Answer, str]] = {}
        self._lock = threading.Lock()

    def append(self, commit: Commit) -> None:
        with self._lock:
            key = commit.request.idempotency
            if key is not None and key in self._answers:
                raise KeyTaken(*self._answers[key])
            if any(event.position in self._positions for event in commit.events):
                raise Conflict
            self.commits.append(commit)
            self._positions.update({event.position: (event, commit.time) for event in commit.events})
            if key is not None:
                self._answers[key] = (commit.answer, commit.request.fingerprint)

    def read(self, streams: Iterable[str]) -> list[tuple[LoggedEvent, datetime]]:
        wanted = set(streams)
        with self._lock:
            found = [entry for entry in self._positions.values() if entry[0].stream in wanted]
        return sorted(found, key=lambda entry: entry[0].position)

    def answered(self, idempotency: str) -> tuple[Answer, str] | None:
        with self._lock:
            return self._answers.get(idempotency)
