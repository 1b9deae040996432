"""A visit after the hold: booked by payment, ended by time, doctor or patient. Used by policies, jobs and HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from eventkit.auth import Caller
from eventkit.clock import shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.store import Answer, Decision, Histories, Request, fold
from services.registration.domain import sessions, visits, waiting
from services.registration.domain.sessions import SlotState, slot_stream
from services.registration.domain.visits import Visit, holds_stream
from services.registration.domain.waiting import Waiting, waiting_stream
from services.registration.events import SlotReleased
from services.registration.handlers.waiting import offers_due
from services.registration.policy import policy_on

ATTENDED = ("booked", "accepted", "finished")


class Visits:
    def __init__(self, core: Core) -> None:
        self._core = core

    def visit(self, visit_id: str) -> Visit:
        """Raises Refusal("not_found")."""
        stream = visits.visit_stream(visit_id)
        state: Visit | None = fold(visits.evolve, None, self._core.store.load(stream)[stream])
        if state is None:
            raise Refusal("not_found")
        return state

    def visit_of(self, caller: Caller, visit_id: str) -> Visit:
        """§31: the patient's own, or one the doctor was booked for. Raises Refusal("not_found")."""
        visit = self.visit(visit_id)
        if caller.has("patient") and visit.request.account_id == caller.subject:
            return visit
        if caller.has("doctor") and visit.request.doctor_id == caller.subject and visit.state in ATTENDED:
            return visit
        raise Refusal("not_found")

    def complete(self, request: Request, visit_id: str, order_id: str, *, late: bool) -> None:
        """§11 CompleteBooking."""
        self._change(request, visit_id, lambda visit, _: visits.complete(visit, order_id, late=late))

    def lapse(self, request: Request, visit_id: str, reason: str) -> None:
        """§10 LapseVisit."""
        self._change(request, visit_id, lambda visit, now: visits.lapse(visit, reason, now))

    def withdraw(self, request: Request, visit_id: str, reason: str) -> None:
        """§18, §19, §27, §29 WithdrawVisit."""
        self._change(request, visit_id, lambda visit, _: visits.withdraw(visit, reason))

    def turn_ineligible(self, request: Request, visit_id: str, checkpoint: str) -> None:
        """§5."""
        self._change(request, visit_id, lambda visit, now: visits.turn_ineligible(visit, checkpoint, now))

    def accept(self, request: Request, visit_id: str) -> None:
        self._change(request, visit_id, lambda visit, _: visits.accept(visit))

    def finish(self, request: Request, visit_id: str) -> None:
        self._change(request, visit_id, lambda visit, _: visits.finish(visit))

    def withdraw_by_patient(self, request: Request, caller: Caller, visit_id: str) -> Answer:
        """§29. Raises Refusal: not_found, already_accepted, visit_over."""
        self.visit_of(caller, visit_id)
        answer = Answer(200, {"visit_id": visit_id, "state": "withdrawn"})
        return self._change(request, visit_id, lambda visit, _: visits.withdraw_by_patient(visit), answer)

    def _change(
        self,
        request: Request,
        visit_id: str,
        decide: Callable[[Visit, datetime], visits.Events],
        answer: Answer = Answer(),
    ) -> Answer:
        """The visit, its slot and its claim change together or not at all; a slot that comes free is offered to who
        waits for it in the same insert (§9)."""
        before = self.visit(visit_id)
        booked = before.request
        visit, slot = visits.visit_stream(visit_id), slot_stream(booked.slot_id)
        queue = waiting_stream(booked.session_id)
        streams = [visit, slot, queue, holds_stream(booked.account_id)]
        if before.described is not None:
            streams.append(before.described.claim)

        def decision(histories: Histories) -> Decision:
            state = fold(visits.evolve, None, histories[visit])
            now = self._core.clock.now()
            events = decide(state, now) if state else []
            if any(isinstance(event, SlotReleased) for _, event in events):
                closed = fold(sessions.evolve_slot, SlotState(), histories[slot]).closed
                waits = fold(waiting.evolve, Waiting(), histories[queue])
                lasts = policy_on(shanghai_day(now)).offer
                if not closed:
                    events += waiting.offer_next(
                        waits, booked.session_id, booked.slot_id, booked.starts_at, now, lasts
                    )
            return Decision(events, offers_due(events, now), answer)

        return self._core.store.execute(request, streams, decision)
