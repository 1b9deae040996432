"""Sessions and their slots (§9)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from services.registration.events import (
    DiaryCleared,
    DiaryEntered,
    OfferEnded,
    Refusal,
    SessionCancelled,
    SessionOpened,
    Slot,
    SlotClosed,
    SlotHeld,
    SlotOffered,
    SlotReleased,
    SlotSold,
)

MOST_SLOTS = 60

Events = list[tuple[str, object]]


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
    """`state`: open, held (somebody is paying), sold, offered (to who waited, `offered`), or closed with its session. A
    slot that closes while it is held
    or sold keeps both until its visit is withdrawn; `closed` says that it never goes back on sale."""

    state: str = "open"
    visit_id: str = ""
    closed: bool = False
    offered: SlotOffered | None = None


@dataclass(frozen=True, slots=True)
class Session:
    opened: SessionOpened
    cancelled: bool = False


def slot_stream(slot_id: str) -> str:
    """§9: a slot is a stream of its own, so that buyers of different slots never meet."""
    return f"slot-{slot_id}"


def evolve_slot(state: SlotState, event: Any) -> SlotState:
    match event:
        case SlotHeld(visit_id=visit_id):
            return replace(state, state="held", visit_id=visit_id, offered=None)
        case SlotSold(visit_id=visit_id):
            return replace(state, state="sold", visit_id=visit_id)
        case SlotOffered():
            return SlotState("offered", offered=event)
        case SlotReleased() | OfferEnded():
            return SlotState("closed", closed=True) if state.closed else SlotState()
        case SlotClosed():
            return replace(state, state=state.state if state.visit_id else "closed", closed=True, offered=None)
    return state


def evolve(state: Session | None, event: Any) -> Session | None:
    match event:
        case SessionOpened():
            return Session(event)
        case SessionCancelled() if state is not None:
            return replace(state, cancelled=True)
    return state


def in_diary(events: Iterable[Any]) -> list[DiaryEntered]:
    """The sessions of a doctor's day that still take place."""
    entries: dict[str, DiaryEntered] = {}
    for event in events:
        match event:
            case DiaryEntered():
                entries[event.session_id] = event
            case DiaryCleared():
                entries.pop(event.session_id, None)
    return list(entries.values())


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


def session_stream(session_id: str) -> str:
    return f"session-{session_id}"


def diary_stream(doctor_id: str, day: date) -> str:
    return f"diary-{doctor_id}.{day.isoformat()}"


def cancel(session: Session, by: str, now: datetime, day_ends_at: datetime) -> Events:
    """§29: until its day ends; then visits end by themselves (§18). Every slot closes in the same insert, whatever its
    state: who books at this moment meets SlotClosed. The visits are withdrawn one by one afterwards.
    Raises Refusal: session_cancelled, session_over."""
    opened = session.opened
    if session.cancelled:
        raise Refusal("session_cancelled")
    if now >= day_ends_at:
        raise Refusal("session_over")
    return [
        (session_stream(opened.session_id), SessionCancelled(opened.session_id, by)),
        (diary_stream(opened.doctor_id, opened.day), DiaryCleared(opened.session_id)),
        *((slot_stream(slot.slot_id), SlotClosed(slot.slot_id, opened.session_id)) for slot in opened.slots),
    ]
