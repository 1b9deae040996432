"""Who waits for a full session, and what happens to an offer (§9)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from eventkit.auth import Caller
from eventkit.clock import rfc3339, shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.store import Answer, Decision, Due, Histories, Request, fold
from services.registration.domain import sessions, waiting
from services.registration.domain.sessions import SlotState, session_stream, slot_stream
from services.registration.domain.waiting import Entry, Waiting, waiting_stream
from services.registration.events import SlotOffered
from services.registration.policy import policy_on


class WaitingLists:
    def __init__(self, core: Core) -> None:
        self._core = core

    def join(self, request: Request, caller: Caller, session_id: str, patient_id: str) -> Answer:
        """For one of the caller's own patients, which the entry point has seen to.
        Raises Refusal: not_found, session_cancelled, session_over, slots_left, already_waiting."""
        entry = Entry(derived_id("waiting", session_id, caller.subject, request.key or ""), caller.subject, patient_id)
        session, queue = session_stream(session_id), waiting_stream(session_id)
        opened = fold(sessions.evolve, None, self._core.store.load(session)[session])
        slots = [slot_stream(slot.slot_id) for slot in opened.opened.slots] if opened else []

        def decide(histories: Histories) -> Decision:
            waits = fold(waiting.evolve, Waiting(), histories[queue])
            states = [fold(sessions.evolve_slot, SlotState(), histories[slot]) for slot in slots]
            now_open = fold(sessions.evolve, None, histories[session])
            joined = waiting.join(waits, entry, now_open, states, self._core.clock.now())
            answer = Answer(201, {"entry_id": entry.entry_id, "position": len(waits.entries) + 1})
            return Decision([(queue, joined)], answer=answer)

        return self._core.store.execute(request, [queue, session, *slots], decide)

    def leave(self, request: Request, caller: Caller, session_id: str, entry_id: str) -> Answer:
        """Raises Refusal("not_found") for an entry that is not there or not the caller's."""
        entry = self._entry(session_id, entry_id)
        if entry is None or entry.account_id != caller.subject:
            raise Refusal("not_found")
        return self._end(request, session_id, entry_id, _slot_of(entry), "left")

    def end_offer(self, request: Request, session_id: str, entry_id: str, slot_id: str) -> None:
        """The offer ran out: the next one's turn."""
        self._end(request, session_id, entry_id, slot_id, "passed")

    def mine(self, caller: Caller, session_id: str) -> list[dict[str, Any]]:
        """The caller's patients who wait, with their place and what is offered to them."""
        return [
            {"entry_id": entry.entry_id, "patient_id": entry.patient_id, "position": place, **_offer(entry.offer)}
            for place, entry in enumerate(self._waiting(session_id).entries, 1)
            if entry.account_id == caller.subject
        ]

    def _waiting(self, session_id: str) -> Waiting:
        stream = waiting_stream(session_id)
        return fold(waiting.evolve, Waiting(), self._core.store.load(stream)[stream])

    def _entry(self, session_id: str, entry_id: str) -> Entry | None:
        return next((entry for entry in self._waiting(session_id).entries if entry.entry_id == entry_id), None)

    def _end(self, request: Request, session_id: str, entry_id: str, slot_id: str, reason: str) -> Answer:
        """`slot_id` is the slot offered to the entry, empty where none was."""
        queue, slot = waiting_stream(session_id), slot_stream(slot_id)
        answer = Answer(200, {"entry_id": entry_id})

        def decide(histories: Histories) -> Decision:
            waits = fold(waiting.evolve, Waiting(), histories[queue])
            if any(entry.entry_id == entry_id and _slot_of(entry) != slot_id for entry in waits.entries):
                raise Refusal("busy")  # offered a moment ago, and that slot was not loaded
            state = fold(sessions.evolve_slot, SlotState(), histories[slot])
            now = self._core.clock.now()
            lasts = policy_on(shanghai_day(now)).offer
            events = waiting.leave(waits, session_id, entry_id, state, reason, now, lasts)
            return Decision(events, offers_due(events, now), answer)

        return self._core.store.execute(request, [queue, slot], decide)


def offers_due(events: Iterable[tuple[str, object]], now: datetime) -> list[Due]:
    """What a new offer brings with it: it is told at once, and it ends."""
    due: dict[str, Due] = {}
    for _, event in events:
        if isinstance(event, SlotOffered):
            args = {"session_id": event.session_id, "entry_id": event.entry_id, "slot_id": event.slot_id}
            told = {
                **args, "account_id": event.account_id, "starts_at": rfc3339(event.starts_at),
                "until": rfc3339(event.until),
            }
            due["told"] = Due(f"offer-told:{event.entry_id}", now, "tell_offer", told)
            due["ends"] = Due(f"offer-ends:{event.entry_id}", event.until, "end_offer", args)
    return list(due.values())


def _slot_of(entry: Entry) -> str:
    return entry.offer.slot_id if entry.offer else ""


def _offer(offer: SlotOffered | None) -> dict[str, Any]:
    return {"offer": {"slot_id": offer.slot_id, "until": rfc3339(offer.until)}} if offer else {}
