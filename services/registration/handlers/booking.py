"""BookVisit, and asking eligibility: before the hold, at payment, at acceptance (§5, §9, §10)."""

from __future__ import annotations

from datetime import date

from eventkit.calls import Peer, PeerRefused
from eventkit.clock import day_end, rfc3339, shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.store import Answer, Decision, Due, Histories, Request, fold
from services.registration.domain import drafts, sessions, visits, waiting
from services.registration.domain.drafts import draft_stream
from services.registration.domain.people import Patient
from services.registration.domain.sessions import slot_stream
from services.registration.domain.visits import BookVisit, Offer, Visit, holds_stream
from services.registration.domain.waiting import Waiting, waiting_stream
from services.registration.events import VisitDescribed, VisitRequested
from services.registration.handlers.people import People, photo_stream
from services.registration.handlers.sessions import Sessions
from services.registration.notice import Notice
from services.registration.policy import policy_on


class Booking:
    def __init__(self, core: Core, people: People, sessions: Sessions, eligibility: Peer, notice: Notice) -> None:
        self._core = core
        self._people = people
        self._sessions = sessions
        self._eligibility = eligibility
        self._notice = notice

    def book(self, request: Request, command: BookVisit, draft_id: str | None = None) -> Answer:
        """`command.visit_id` follows from the caller and the key, so that a retry names the same visit and the same
        assessment. The draft it comes from ends with it. What can be refused here is refused before eligibility, and
        the HIS behind it, are asked.
        Raises Refusal: those of `visits.book`, not_eligible, draft_submitted; Unanswered."""
        patient = self._people.patient(command.patient_id, command.account_id)
        if patient.restricted:
            raise Refusal("patient_restricted")
        session = self._sessions.session(command.session_id)
        if session is None:
            raise Refusal("slot_gone")
        visit, slot = visits.visit_stream(command.visit_id), slot_stream(command.slot_id)
        claim = visits.claim_stream(patient.added.his_patient_id, session)
        photos = [photo_stream(photo_id) for photo_id in command.photo_ids]
        holds, queue = holds_stream(command.account_id), waiting_stream(command.session_id)
        draft = [draft_stream(draft_id)] if draft_id else []
        assessment_id = ""

        def decide(histories: Histories) -> Decision:
            now = self._core.clock.now()
            policy = policy_on(shanghai_day(now))
            offer = Offer(
                patient=patient,
                session=session,
                slot=fold(sessions.evolve_slot, sessions.SlotState(), histories[slot]),
                claimed_by=visits.claimant(recorded.event for recorded in histories[claim]),
                notice_version=self._notice.version,
                photos=[histories[photo][0].event for photo in photos if histories[photo]],
                now=now,
                hold=policy.hold,
                day_ends_at=day_end(session.day),
                waiting=fold(waiting.evolve, Waiting(), histories[queue]),
                paused_until=visits.paused_until(
                    [recorded.event for recorded in histories[holds]],
                    policy.unpaid_holds, policy.unpaid_window, policy.unpaid_pause,
                ),
            )
            submitted = [
                (stream, drafts.submit(fold(drafts.evolve, None, histories[stream]), command.visit_id))
                for stream in draft
            ]
            return _held([*visits.book(command, offer, assessment_id), *submitted])

        streams = [visit, slot, claim, holds, queue, *photos, *draft]
        histories = self._core.store.load(*streams)
        if not histories[visit]:
            decide(histories)
            assessment_id = self._assess(
                command.visit_id, "booking", session.day, command, patient, key=f"booking:{command.visit_id}"
            )
        return self._core.store.execute(request, streams, decide)

    def ask_again(self, visit: Visit, checkpoint: str, key: str) -> str:
        """§5 at payment and at acceptance, with the condition as it was described. -> assessment id.
        Raises Refusal("not_eligible" | "visit_over"), Unanswered."""
        asked = visit.request
        if visit.state in ("lapsed", "withdrawn"):
            raise Refusal("visit_over")
        if visit.described is None:
            raise Refusal("not_found")
        return self._assess(
            asked.visit_id, checkpoint, asked.day, visit.described, self._people.patient(asked.patient_id),
            key=f"{checkpoint}:{asked.visit_id}:{key}",
        )

    def _assess(
        self, visit_id: str, checkpoint: str, day: date, told: BookVisit | VisitDescribed, patient: Patient, key: str
    ) -> str:
        born = patient.added.birth_date
        if born is None:  # the person is erased
            raise Refusal("not_found")
        question = {
            "visit_id": visit_id,
            "patient_id": patient.added.patient_id,
            "his_patient_id": patient.added.his_patient_id,
            "birth_date": born.isoformat(),
            "checkpoint": checkpoint,
            "day": day.isoformat(),
            "declared": {"follow_up": told.follow_up, "stable": told.stable, "emergency": told.emergency},
            "symptoms": f"{told.chief_complaint or ''}\n{told.present_illness or ''}",
        }
        try:
            granted = self._eligibility.post("/api/eligibility/assessments", question, key=key)
        except PeerRefused as refused:
            if refused.code == "not_eligible":
                raise Refusal("not_eligible", failed=refused.body["failed"]) from refused
            raise
        return str(granted["assessment_id"])


def _held(events: visits.Events) -> Decision:
    """With the backstop: should payment never tell how the hold ended, registration ends it by itself."""
    held = next(event for _, event in events if isinstance(event, VisitRequested))
    backstop = held.hold_until + policy_on(held.day).backstop
    return Decision(
        events=events,
        due=[Due(f"lapse:{held.visit_id}", backstop, "lapse_visit", {"visit_id": held.visit_id})],
        answer=Answer(201, {
            "visit_id": held.visit_id,
            "state": "held",
            "hold_until": rfc3339(held.hold_until),
            "fee_fen": held.fee_fen,
        }),
    )
