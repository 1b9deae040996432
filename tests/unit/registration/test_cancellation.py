"""§29 停诊: a session is called off while people book, pay and wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventkit.auth import Caller
from eventkit.contracts import contracts
from eventkit.events import Refusal
from eventkit.store import Answer
from services.registration.handlers.sessions import SessionPlan
from tests.unit.registration.story import DAY_ENDS, DOCTOR, MORNING, QUARTER
from tests.unit.registration.test_handlers import POLICIES, Story

OWN_DOCTOR = Caller(DOCTOR, frozenset({"doctor"}))
OPERATOR = Caller("operator-an", frozenset({"operator"}))


@pytest.fixture
def story() -> Story:
    return Story()


def cancel(story: Story, caller: Caller = OWN_DOCTOR, key: str | None = None) -> Answer:
    return story.sessions.cancel(story.asked(caller.subject, key), caller, story.session_id)


def other_books(story: Story, visit_id: str, slot: int) -> None:
    account = story.log_in("19900000009")
    patient = story.patient(account, "P00000002")
    story.bind(account, patient)
    story.book(visit_id, slot, account_id=account, patient_id=patient)


def withdrawals(story: Story) -> list[tuple[str, str]]:
    return [
        (envelope.data["visit_id"], envelope.data["reason"])
        for envelope in story.published()
        if envelope.name == "VisitWithdrawn"
    ]


def test_s29_paid_and_unpaid_visits_are_withdrawn_once_by_jobs(story: Story) -> None:
    story.book("v1", 1)
    story.pay("v1")
    other_books(story, "v2", 2)
    assert cancel(story) == Answer(200, {"session_id": story.session_id, "visits": 2})
    assert (story.state("v1"), story.state("v2")) == ("booked", "held")
    story.run_due()
    story.run_due()  # as after a kill -9 between effect and mark
    assert withdrawals(story) == [("v1", "session_cancelled"), ("v2", "session_cancelled")]
    assert (story.slot(1), story.slot(2)) == ("closed", "closed")
    for envelope in story.published():
        contracts().validate(envelope)


def test_s29_a_payment_that_arrives_between_is_booked_and_withdrawn_so_that_it_is_refunded(story: Story) -> None:
    story.book()
    cancel(story)
    story.pay()
    story.run_due()
    names = [envelope.name for envelope in story.published()]
    assert names[-3:] == ["SessionCancelled", "VisitBooked", "VisitWithdrawn"]


def test_s29_nobody_books_afterwards(story: Story) -> None:
    cancel(story)
    with pytest.raises(Refusal, match="session_cancelled"):
        story.book()


def test_s29_who_books_at_this_very_moment_loses_in_the_insert(story: Story) -> None:
    story.backend.first = lambda: cancel(story)
    with pytest.raises(Refusal, match="session_cancelled"):
        story.book()
    assert story.due() == []


def test_s29_who_booked_a_moment_before_is_withdrawn(story: Story) -> None:
    story.backend.first = story.book
    assert cancel(story).body["visits"] == 1
    story.run_due()
    assert story.state() == "withdrawn"


def test_s29_an_accepted_visit_is_withdrawn_and_a_finished_one_stays(story: Story) -> None:
    story.book("v1", 1)
    story.pay("v1")
    story.hear(POLICIES, "ConsultAccepted", visit_id="v1")
    story.hear(POLICIES, "ConsultFinished", visit_id="v1")
    other_books(story, "v2", 2)
    story.pay("v2")
    story.hear(POLICIES, "ConsultAccepted", visit_id="v2")
    cancel(story)
    story.run_due()
    assert (story.state("v1"), story.state("v2")) == ("finished", "withdrawn")


def test_s29_the_same_key_is_the_same_cancellation_and_another_is_refused(story: Story) -> None:
    assert cancel(story, key="k") == cancel(story, key="k")
    with pytest.raises(Refusal, match="session_cancelled"):
        cancel(story)


def test_s29_the_doctor_may_sit_elsewhere_at_that_time(story: Story) -> None:
    plan = SessionPlan(DOCTOR, "spleen-stomach", MORNING, MORNING + QUARTER, 15)
    with pytest.raises(Refusal, match="session_overlaps"):
        story.sessions.open(story.asked(DOCTOR), plan)
    cancel(story)
    assert story.sessions.open(story.asked(DOCTOR), plan).status == 201


@pytest.mark.parametrize(
    ("caller", "reason"), [(OWN_DOCTOR, "doctor"), (OPERATOR, "hospital")],
)
def test_s29_by_its_doctor_or_an_operator(story: Story, caller: Caller, reason: str) -> None:
    cancel(story, caller)
    assert story.published()[-1].data == {"session_id": story.session_id, "reason": reason}


def test_s29_by_nobody_else_and_not_after_its_day(story: Story) -> None:
    with pytest.raises(Refusal, match="forbidden"):
        cancel(story, Caller("doctor-bai", frozenset({"doctor"})))
    story.clock.instant = DAY_ENDS - timedelta(milliseconds=1)
    assert cancel(story, key="k").status == 200
    later = Story()
    later.clock.instant = DAY_ENDS
    with pytest.raises(Refusal, match="session_over"):
        cancel(later)
