"""Doctors' sessions (§9, §12)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from eventkit.auth import Caller
from eventkit.clock import day_end, shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.store import Answer, Decision, Due, Histories, Request, fold
from services.registration.directory import Directory
from services.registration.domain import sessions
from services.registration.domain.sessions import Session, SlotState, diary_stream, session_stream, slot_stream
from services.registration.events import SessionOpened, Slot
from services.registration.policy import INTERNET, fee_on


@dataclass(frozen=True, slots=True)
class SessionPlan:
    doctor_id: str
    department_id: str
    starts_at: datetime
    ends_at: datetime
    slot_minutes: int


class Sessions:
    def __init__(self, core: Core, directory: Directory) -> None:
        self._core = core
        self._directory = directory

    def open(self, request: Request, plan: SessionPlan) -> Answer:
        """Raises Refusal: doctor_unknown and those of `sessions.open_session`."""
        doctor = self._directory.doctor(plan.doctor_id)
        if doctor is None or plan.department_id not in doctor.department_ids:
            raise Refusal("doctor_unknown")
        day = shanghai_day(plan.starts_at)
        command = sessions.OpenSession(
            session_id=derived_id("session", request.caller, request.key or ""),
            doctor_id=doctor.doctor_id,
            department_id=plan.department_id,
            title=doctor.title,
            day=day,
            day_ends_at=day_end(day),
            starts_at=plan.starts_at.astimezone(UTC),
            ends_at=plan.ends_at.astimezone(UTC),
            slot_minutes=plan.slot_minutes,
            fee_fen=fee_on(day, INTERNET, doctor.title),
        )
        session, diary = session_stream(command.session_id), diary_stream(doctor.doctor_id, day)

        def decide(histories: Histories) -> Decision:
            existing = histories[session][0].event if histories[session] else None
            entries = sessions.in_diary(recorded.event for recorded in histories[diary])
            opened, entered = sessions.open_session(command, existing, entries, self._core.clock.now())
            return Decision(
                events=[(session, opened), (diary, entered)],
                answer=Answer(201, {"session_id": opened.session_id, "fee_fen": opened.fee_fen}),
            )

        return self._core.store.execute(request, [session, diary], decide)

    def cancel(self, request: Request, caller: Caller, session_id: str) -> Answer:
        """§29 停诊. Who holds or has a slot then is withdrawn by a job of their own, which a crash or a thousand others
        cannot lose. Raises Refusal: not_found, forbidden, session_cancelled, session_over."""
        found = self.session(session_id)
        if found is None:
            raise Refusal("not_found")
        if not caller.has("operator") and caller.subject != found.doctor_id:
            raise Refusal("forbidden")
        session, diary = session_stream(session_id), diary_stream(found.doctor_id, found.day)
        slots = [slot_stream(slot.slot_id) for slot in found.slots]

        def decide(histories: Histories) -> Decision:
            state: Session | None = fold(sessions.evolve, None, histories[session])
            if state is None:
                raise Refusal("not_found")
            now = self._core.clock.now()
            by = "doctor" if caller.subject == found.doctor_id else "hospital"
            events = sessions.cancel(state, by, now, day_end(found.day))
            states = [fold(sessions.evolve_slot, SlotState(), histories[slot]) for slot in slots]
            due = [
                Due(f"session-cancelled:{slot.visit_id}", now, "withdraw_visit",
                    {"visit_id": slot.visit_id, "reason": "session_cancelled"})
                for slot in states if slot.visit_id
            ]
            return Decision(events, due, Answer(200, {"session_id": session_id, "visits": len(due)}))

        return self._core.store.execute(request, [session, diary, *slots], decide)

    def slots(self, session: SessionOpened) -> list[tuple[Slot, SlotState]]:
        """Each slot with its state at this moment."""
        streams = [slot_stream(slot.slot_id) for slot in session.slots]
        histories = self._core.store.load(*streams)
        states = (fold(sessions.evolve_slot, SlotState(), histories[stream]) for stream in streams)
        return list(zip(session.slots, states, strict=True))

    def session(self, session_id: str) -> SessionOpened | None:
        stream = session_stream(session_id)
        history = self._core.store.load(stream)[stream]
        return history[0].event if history else None
