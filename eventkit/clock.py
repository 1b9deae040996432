"""The one clock (design rule 5).

Business time is wall time plus an offset that lives in a small memory-mapped file, so that every process of a stack
sees a move at once and reading costs no system call. In production the file is not set and the offset is zero.
Tokens and signatures do not use this clock: an attacker must gain nothing from a moved one.

    python -m eventkit.clock now | advance SECONDS | to 2026-11-24T00:00:00+08:00 | reset
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
_OFFSET = struct.Struct("<q")  # microseconds


class Clock(Protocol):
    def now(self) -> datetime:
        """The business instant, aware, in UTC."""
        ...


class SystemClock:
    """Wall time plus the offset in `path`, if one is given."""

    def __init__(self, path: str | Path | None = None) -> None:
        self._map: mmap.mmap | None = None
        if path:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if os.fstat(descriptor).st_size < _OFFSET.size:
                    os.ftruncate(descriptor, _OFFSET.size)
                self._map = mmap.mmap(descriptor, _OFFSET.size)
            finally:
                os.close(descriptor)

    @classmethod
    def from_env(cls) -> SystemClock:
        return cls(os.environ.get("FUZHEN_CLOCK_FILE") or None)

    @property
    def offset(self) -> timedelta:
        if self._map is None:
            return timedelta(0)
        return timedelta(microseconds=_OFFSET.unpack_from(self._map)[0])

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def move_to(self, instant: datetime) -> None:
        """Move business time for every process that maps the file. Raises ValueError for a step back: time that
        has been written into events must not return."""
        if self._map is None:
            raise ValueError("this clock cannot be moved: FUZHEN_CLOCK_FILE is not set")
        offset = instant - datetime.now(UTC)
        if offset < self.offset:
            raise ValueError(f"the clock only moves forward: it is {self.now().isoformat()} already")
        _OFFSET.pack_into(self._map, 0, offset // timedelta(microseconds=1))

    def advance(self, step: timedelta) -> None:
        self.move_to(self.now() + step)

    def reset(self) -> None:
        if self._map is not None:
            _OFFSET.pack_into(self._map, 0, 0)


class FixedClock:
    """A clock for tests: stands still until told."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant

    def advance(self, step: timedelta) -> None:
        self.instant += step


def shanghai_day(instant: datetime) -> date:
    """The hospital's calendar day of an instant; every day boundary of the rules is Asia/Shanghai."""
    return instant.astimezone(SHANGHAI).date()


def day_end(day: date) -> datetime:
    """The first instant after `day` in Asia/Shanghai, in UTC."""
    return datetime.combine(day + timedelta(days=1), time(), SHANGHAI).astimezone(UTC)


def rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(arguments: list[str]) -> int:
    clock = SystemClock.from_env()
    match arguments:
        case ["now"]:
            pass
        case ["advance", seconds]:
            clock.advance(timedelta(seconds=float(seconds)))
        case ["to", instant]:
            clock.move_to(datetime.fromisoformat(instant))
        case ["reset"]:
            clock.reset()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print(clock.now().astimezone(SHANGHAI).isoformat(timespec="seconds"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
