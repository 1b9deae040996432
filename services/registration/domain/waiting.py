"""The waiting list of a session that is full (§9): a slot that comes free is offered to the first who waits, for some
minutes, before anybody else can have it. The offer is made in the insert that frees the slot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.registration.domain.sessions import Session, SlotState, slot_stream
from services.registration.events import OfferEnded, Refusal, SlotOffered, WaitingJoined, WaitingLeft

Events = list[tuple[str, object]]


@dataclass(frozen=True, slots=True)
class Entry:
    entry_id: str
    account_id: str
    patient_id: str
    offer: SlotOffered | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits, in the order of coming."""

    entries: tuple[Entry, ...] = ()

    def of_patient(self, patient_id: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.patient_id == patient_id), None)


NOBODY = Waiting()


def waiting_stream(session_id: str) -> str:
    return f"waiting-{session_id}"


def evolve(state: Waiting, event: Any) -> Waiting:
    match event:
        case WaitingJoined():
            entry = Entry(event.entry_id, event.account_id, event.patient_id)
            return Waiting((*state.entries, entry))
        case SlotOffered():
            return Waiting(tuple(
                replace(entry, offer=event) if entry.entry_id == event.entry_id else entry for entry in state.entries
            ))
        case WaitingLeft():
            return Waiting(tuple(entry for entry in state.entries if entry.entry_id != event.entry_id))
    return state


def join(
    waiting: Waiting, entry: Entry, session: Session | None, slots: Iterable[SlotState], now: datetime
) -> WaitingJoined:
    """Raises Refusal: not_found, session_cancelled, session_over, slots_left, already_waiting."""
    if session is None:
        raise Refusal("not_found")
    if session.cancelled:
        raise Refusal("session_cancelled")
    if max(slot.starts_at for slot in session.opened.slots) <= now:
        raise Refusal("session_over")
    if waiting.of_patient(entry.patient_id):
        raise Refusal("already_waiting")
    if any(
        state.state == "open" and slot.starts_at > now
        for slot, state in zip(session.opened.slots, slots, strict=True)
    ):
        raise Refusal("slots_left")
    return WaitingJoined(session.opened.session_id, entry.entry_id, entry.account_id, entry.patient_id)


def offer_next(
    waiting: Waiting, session_id: str, slot_id: str, starts_at: datetime, now: datetime, lasts: timedelta
) -> Events:
    """A freed slot goes to the first who has no offer yet; to nobody once its time has come."""
    entry = next((entry for entry in waiting.entries if entry.offer is None), None)
    if entry is None or starts_at <= now:
        return []
    until = min(now + lasts, starts_at)
    offered = SlotOffered(
        session_id, slot_id, entry.entry_id, entry.account_id, entry.patient_id, until, starts_at
    )
    return [(slot_stream(slot_id), offered), (waiting_stream(session_id), offered)]


def leave(
    waiting: Waiting, session_id: str, entry_id: str, slot: SlotState, reason: str, now: datetime, lasts: timedelta
) -> Events:
    """The entry ends (`reason`: left, passed), if it still stands; the slot that was offered to it, if it still is,
    goes to the next one or back on sale. `slot` is that slot."""
    left = WaitingLeft(entry_id, reason)
    events: Events = []
    if any(entry.entry_id == entry_id for entry in waiting.entries):
        events.append((waiting_stream(session_id), left))
    offer = slot.offered
    if offer is not None and offer.entry_id == entry_id:
        ended = OfferEnded(offer.slot_id, session_id, entry_id)
        rest = evolve(waiting, left)
        events += [
            (slot_stream(offer.slot_id), ended),
            *offer_next(rest, session_id, offer.slot_id, offer.starts_at, now, lasts),
        ]
    return events
