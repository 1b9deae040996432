"""Sessions and their slots (§9)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from services.registration.events import (
    DiaryEntered,
    Refusal,
    SessionOpened,
    Slot,
    SlotHeld,
    SlotReleased,
    SlotSold,
)

MOST_SLOTS = 60


@dataclass(frozen=True, slots=True)
class OpenSession:
    """`day` is the Shanghai day of `starts_at` and ends at `day_ends_at`; `fee_fen` is that day's tariff (§12)."""

    session_id: str
    doctor_id: str
    department_id: str
    title: str
    day: date
    day_ends_at: datetime
    starts_at: datetime
    ends_at: datetime
    slot_minutes: int
    fee_fen: int


@dataclass(frozen=True, slots=True)
class SlotState:
    """`state`: open, held (somebody is paying) or sold."""

    state: str = "open"
    visit_id: str = ""


def slot_stream(slot_id: str) -> str:
    """§9: a slot is a stream of its own, so that buyers of different slots never meet."""
    return f"slot-{slot_id}"


def evolve_slot(state: SlotState, event: Any) -> SlotState:
    match event:
        case SlotHeld(visit_id=visit_id):
            return SlotState("held", visit_id)
        case SlotSold(visit_id=visit_id):
            return SlotState("sold", visit_id)
        case SlotReleased():
            return SlotState()
    return state


def open_session(
    command: OpenSession, existing: SessionOpened | None, diary: Iterable[DiaryEntered], now: datetime
) -> tuple[SessionOpened, DiaryEntered]:
    """§9: a session lies within one day and holds whole numbered slots; a doctor sits in one session at a time.
    Raises Refusal: session_known, session_over, session_malformed, session_overlaps."""
    if existing is not None:
        raise Refusal("session_known")
    if command.ends_at <= now:
        raise Refusal("session_over")
    length = timedelta(minutes=command.slot_minutes)
    count, rest = divmod(command.ends_at - command.starts_at, length)
    if rest or not 1 <= count <= MOST_SLOTS or command.ends_at > command.day_ends_at:
        raise Refusal("session_malformed", most=MOST_SLOTS)
    if any(entry.starts_at < command.ends_at and command.starts_at < entry.ends_at for entry in diary):
        raise Refusal("session_overlaps")
    return SessionOpened(
        session_id=command.session_id,
        doctor_id=command.doctor_id,
        department_id=command.department_id,
        title=command.title,
        day=command.day,
        starts_at=command.starts_at,
        ends_at=command.ends_at,
        fee_fen=command.fee_fen,
        slots=tuple(
            Slot(f"{command.session_id}-{number + 1:02d}", command.starts_at + number * length)
            for number in range(count)
        ),
    ), DiaryEntered(command.session_id, command.starts_at, command.ends_at)
