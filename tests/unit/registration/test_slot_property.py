"""§9, §10, §11, §16, §29, §30 as properties: whatever is booked, paid, lapsed, withdrawn, cancelled and waited for, in
whichever order and however often it is said, a slot is sold once and released exactly once."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventkit.auth import Caller
from eventkit.events import Refusal
from services.registration.domain.visits import visit_stream
from services.registration.events import (
    OfferEnded,
    SessionCancelled,
    SlotHeld,
    SlotOffered,
    SlotReleased,
    SlotSold,
    VisitFinished,
    VisitLapsed,
    VisitRequested,
    VisitWithdrawn,
)
from tests.unit.registration.story import DOCTOR, HOLD
from tests.unit.registration.test_waiting import OFFER, Crowd

PEOPLE = st.integers(1, 4)
SLOTS = st.integers(1, 2)
VISITS = st.integers(0, 5)  # the last so many visits: told of again long after their end


class SlotLife(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.crowd = Crowd()
        self.visits = {"v1": 1, "v2": 2}

    def visit(self, back: int) -> str:
        known = list(self.visits)
        return known[max(len(known) - 1 - back, 0)]

    @rule(number=PEOPLE, slot=SLOTS)
    def book(self, number: int, slot: int) -> None:
        visit_id = f"v{len(self.visits) + 1}"
        with contextlib.suppress(Refusal):
            self.crowd.book_as(number, visit_id, slot)
            self.visits[visit_id] = number

    @rule(back=VISITS, late=st.sampled_from([False, False, False, True]), twice=st.booleans())
    def paid(self, back: int, late: bool, twice: bool) -> None:
        visit_id = self.visit(back)
        for _ in range(1 + twice):
            self.crowd.visits.complete(self.crowd.asked("payment"), visit_id, f"fee-{visit_id}", late=late)

    @rule(back=VISITS, twice=st.booleans())
    def expired(self, back: int, twice: bool) -> None:
        for _ in range(1 + twice):
            self.crowd.visits.lapse(self.crowd.asked("payment"), self.visit(back), "unpaid")

    @rule(back=VISITS, reason=st.sampled_from(["missed", "declined", "silent"]))
    def without_care(self, back: int, reason: str) -> None:
        self.crowd.visits.withdraw(self.crowd.asked("consult"), self.visit(back), reason)

    @rule(back=VISITS, checkpoint=st.sampled_from(["payment", "acceptance"]))
    def ineligible(self, back: int, checkpoint: str) -> None:
        self.crowd.visits.turn_ineligible(self.crowd.asked("eligibility"), self.visit(back), checkpoint)

    @rule(back=VISITS)
    def accepted(self, back: int) -> None:
        self.crowd.visits.accept(self.crowd.asked("consult"), self.visit(back))

    @rule(back=VISITS)
    def finished(self, back: int) -> None:
        self.crowd.visits.finish(self.crowd.asked("consult"), self.visit(back))

    @rule(back=VISITS)
    def patient_withdraws(self, back: int) -> None:
        visit_id = self.visit(back)
        number = self.visits[visit_id]
        caller = self.crowd.caller(number)
        with contextlib.suppress(Refusal):
            self.crowd.visits.withdraw_by_patient(self.crowd.asked(caller.subject), caller, visit_id)

    @rule(number=PEOPLE)
    def waits(self, number: int) -> None:
        with contextlib.suppress(Refusal):
            self.crowd.wait(number)

    @rule(number=PEOPLE)
    def waits_no_longer(self, number: int) -> None:
        for entry in self.crowd.waiting.mine(self.crowd.caller(number), self.crowd.session_id):
            self.crowd.leave(number, entry["entry_id"])

    @rule()
    def session_is_cancelled(self) -> None:
        with contextlib.suppress(Refusal):
            doctor = Caller(DOCTOR, frozenset({"doctor"}))
            self.crowd.sessions.cancel(self.crowd.asked(DOCTOR), doctor, self.crowd.session_id)

    @rule(step=st.sampled_from([OFFER, HOLD, 2 * HOLD]))
    def time_passes(self, step: Any) -> None:
        self.crowd.clock.advance(step)

    @rule()
    def jobs_run_and_run_again(self) -> None:
        self.crowd.run_due()

    @invariant()
    def each_slot_is_held_sold_and_released_in_turn(self) -> None:
        """A hold only on a free slot, or on one offered to that very patient; a sale only of what this visit holds; a
        release by who holds it; nothing new on a slot once its session is cancelled."""
        holder: dict[str, str] = {}
        offered: dict[str, str] = {}
        released: Counter[str] = Counter()
        patient_of, cancelled = {}, False
        for event in self.crowd.events():
            match event:
                case VisitRequested():
                    patient_of[event.visit_id] = event.patient_id
                case SlotHeld():
                    assert event.slot_id not in holder
                    assert not cancelled
                    assert offered.pop(event.slot_id, patient_of[event.visit_id]) == patient_of[event.visit_id]
                    holder[event.slot_id] = event.visit_id
                case SlotSold():
                    assert holder[event.slot_id] == event.visit_id
                case SlotReleased():
                    assert holder.pop(event.slot_id) == event.visit_id
                    released[event.visit_id] += 1
                case SlotOffered():
                    assert event.slot_id not in holder
                    assert not cancelled
                    offered[event.slot_id] = event.patient_id
                case SessionCancelled():
                    cancelled = True
                case OfferEnded():
                    offered.pop(event.slot_id, None)
        ended = {
            event.visit_id for event in self.crowd.events() if isinstance(event, VisitLapsed | VisitWithdrawn)
        }
        assert released == Counter(dict.fromkeys(ended, 1))

    @invariant()
    def no_event_of_a_visit_contradicts_an_earlier_one(self) -> None:
        for visit_id in self.visits:
            history = self.crowd.store.load(visit_stream(visit_id))[visit_stream(visit_id)]
            said = Counter(type(recorded.event).__name__ for recorded in history)
            assert set(said.values()) == {1}
            assert not (said["VisitLapsed"] and said["VisitBooked"])
            assert said["VisitLapsed"] + said["VisitWithdrawn"] + said["VisitFinished"] <= 1
            if said["VisitAccepted"]:
                assert said["VisitBooked"] == 1

    @invariant()
    def one_live_visit_a_person_doctor_and_day(self) -> None:
        live: dict[str, set[str]] = defaultdict(set)
        for event in self.crowd.events():
            match event:
                case VisitRequested():
                    live[event.patient_id].add(event.visit_id)
                case VisitLapsed() | VisitWithdrawn() | VisitFinished():
                    for visits in live.values():
                        visits.discard(event.visit_id)
        assert all(len(visits) <= 1 for visits in live.values())

    def teardown(self) -> None:
        """Once every job has run, a cancelled session has no live visit, and no offer outlives its time."""
        if not hasattr(self, "crowd"):
            return
        self.crowd.run_due()
        if any(isinstance(event, SessionCancelled) for event in self.crowd.events()):
            assert {self.crowd.state(visit_id) for visit_id in self.visits} <= {"finished", "lapsed", "withdrawn"}
        self.crowd.clock.advance(OFFER)
        for _ in range(5):  # an offer that passes may make the next one
            self.crowd.run_due()
            self.crowd.clock.advance(OFFER)
        assert "offered" not in {self.crowd.slot(1), self.crowd.slot(2)}


TestSlotLife = SlotLife.TestCase
TestSlotLife.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
