"""Load → decide → append in memory: one insert a booking, retries, races, who is asked what, and what may leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from eventkit.auth import Caller
from eventkit.calls import PeerRefused, Unanswered
from eventkit.contracts import contracts
from eventkit.events import Refusal
from eventkit.store import Answer
from services.registration.domain.people import BindCard
from services.registration.domain.visits import BookVisit
from services.registration.handlers.sessions import SessionPlan
from tests.unit.registration.story import BOOK, DOCTOR, HOLD, MORNING, NOW, QUARTER, add
from tests.unit.registration.world import World

POLICIES, NOTICES = "registration.policies", "registration.notices"


class Story(World):
    """An account with a patient, a card, and a session to book in."""

    def __init__(self) -> None:
        super().__init__()
        self.account = self.log_in()
        self.patient_id = self.patient(self.account)
        self.bind(self.account, self.patient_id)
        self.session_id = self.session()

    def bind(self, account: str, patient_id: str) -> None:
        caller = Caller(account, frozenset({"patient"}))
        self.people.bind_card(self.asked(account), caller, patient_id, BindCard("1000000001", "insurance_card"))

    def command(self, visit_id: str = "v1", slot: int = 1, **change: Any) -> BookVisit:
        booking = replace(
            BOOK, visit_id=visit_id, account_id=self.account, patient_id=self.patient_id, photo_ids=(),
            session_id=self.session_id, slot_id=f"{self.session_id}-{slot:02d}",
        )
        return replace(booking, **change)

    def book(self, visit_id: str = "v1", slot: int = 1, key: str | None = None, **change: Any) -> Answer:
        return self.booking.book(self.asked(self.account, key), self.command(visit_id, slot, **change))

    def pay(self, visit_id: str = "v1", late: bool = False) -> None:
        order = {"order_id": f"fee-{visit_id}", "visit_id": visit_id, "kind": "visit_fee"}
        self.hear(POLICIES, "PaymentCaptured", **order, late=late)

    def state(self, visit_id: str = "v1") -> str:
        return self.visits.visit(visit_id).state

    def slot(self, number: int = 1) -> str:
        session = self.sessions.session(self.session_id)
        assert session is not None
        return self.sessions.slots(session)[number - 1][1].state


@pytest.fixture
def story() -> Story:
    return Story()


def test_s7_a_phone_has_one_account(story: Story) -> None:
    assert story.log_in() == story.account
    assert story.log_in("19900000009") != story.account


def test_s7_staff_come_out_with_their_role(story: Story) -> None:
    token = story.desk.accounts.log_in("19900010001", "246810", "")
    assert (token.subject, token.roles) == (DOCTOR, ["doctor"])
    assert story.verifier.verify(token.access_token) == Caller(
        DOCTOR, frozenset({"doctor"}), story.verifier.verify(token.access_token).token_id
    )


def test_s7_two_accounts_may_both_add_the_same_person(story: Story) -> None:
    other = story.log_in("19900000009")
    assert story.patient(other) != story.patient_id
    with pytest.raises(Refusal, match="patient_known"):
        story.patient(other)
    assert [patient.added.patient_id for patient in story.people.of_account(story.account)] == [story.patient_id]


def test_s7_whom_the_his_does_not_know_is_not_added(story: Story) -> None:
    story.his.people.clear()
    with pytest.raises(Refusal, match="real_name_unmatched"):
        story.people.add(story.asked("a9"), add(account_id="a9"))


def test_s31_another_accounts_patient_is_not_there(story: Story) -> None:
    with pytest.raises(Refusal, match="not_found"):
        story.bind("a9", story.patient_id)
    with pytest.raises(Refusal, match="not_found"):
        story.book(account_id="a9")


def test_s10_a_booking_is_one_insert_with_its_backstop(story: Story) -> None:
    before = len(story.backend.commits)
    answer = story.book()
    assert answer == Answer(201, {
        "visit_id": "v1", "state": "held", "hold_until": "2026-11-23T08:15:00.000Z", "fee_fen": 5000,
    })
    commit = story.backend.commits[-1]
    assert len(story.backend.commits) == before + 1
    assert [event.type.split(".")[-2] for event in commit.events] == [
        "VisitRequested", "VisitDescribed", "SlotHeld", "VisitClaimed",
    ]
    assert [(due.job, due.at) for due in commit.due] == [("lapse_visit", NOW + HOLD + timedelta(minutes=10))]
    assert (story.state(), story.slot()) == ("held", "held")


def test_s5_eligibility_is_asked_before_with_what_it_needs(story: Story) -> None:
    story.book()
    [(question, key)] = story.eligibility.asked
    assert question == {
        "visit_id": "v1", "patient_id": story.patient_id, "his_patient_id": "P00000001", "birth_date": "1968-03-02",
        "checkpoint": "booking", "day": "2026-11-24",
        "declared": {"follow_up": True, "stable": True, "emergency": False}, "symptoms": "胃脘隐痛复诊\n服药后减轻",
    }
    assert key == "booking:v1"


def test_s5_the_refusal_names_every_failed_rule_and_writes_nothing(story: Story) -> None:
    story.eligibility.failed = ["too_young", "red_flag"]
    before = len(story.backend.commits)
    with pytest.raises(Refusal, match="not_eligible") as refusal:
        story.book()
    assert [rule["code"] for rule in refusal.value.facts["failed"]] == ["too_young", "red_flag"]
    assert (len(story.backend.commits), story.slot()) == (before, "open")


def test_s9_who_cannot_win_does_not_reach_the_his(story: Story) -> None:
    story.book()
    with pytest.raises(Refusal, match="slot_taken"):
        story.book("v2")
    assert len(story.eligibility.asked) == 1


def test_s9_two_buyers_who_meet_in_the_insert_have_one_winner(story: Story) -> None:
    other = story.log_in("19900000009")
    patient = story.patient(other, "P00000002")
    story.bind(other, patient)
    story.backend.first = lambda: story.book("v2", account_id=other, patient_id=patient)
    with pytest.raises(Refusal, match="slot_taken"):
        story.book("v1")
    assert story.state("v2") == "held"


def test_s30_one_live_visit_a_person_whichever_account_books(story: Story) -> None:
    other = story.log_in("19900000009")
    patient = story.patient(other)
    story.bind(other, patient)
    story.book("v1")
    with pytest.raises(Refusal, match="already_booked"):
        story.book("v2", slot=2, account_id=other, patient_id=patient)
    story.visits.withdraw_by_patient(story.asked(story.account), Caller(story.account, frozenset({"patient"})), "v1")
    assert story.book("v2", slot=2, account_id=other, patient_id=patient).status == 201


def test_a_retry_gets_the_same_answer_and_asks_nobody(story: Story) -> None:
    first = story.book(key="k")
    story.clock.advance(timedelta(minutes=1))
    assert story.book(key="k") == first
    assert len(story.eligibility.asked) == 1


def test_s11_payment_completes_the_booking_once(story: Story) -> None:
    story.book()
    story.pay()
    story.pay()
    assert (story.state(), story.slot()) == ("booked", "sold")
    assert [envelope.name for envelope in story.published()].count("VisitBooked") == 1


def test_s16_a_late_payment_books_nothing(story: Story) -> None:
    story.book()
    story.pay(late=True)
    assert story.state() == "held"
    story.hear(POLICIES, "PaymentExpired", visit_id="v1", kind="visit_fee")
    story.pay()
    assert (story.state(), story.slot()) == ("lapsed", "open")


def test_s10_the_backstop_ends_a_hold_that_payment_forgot(story: Story) -> None:
    story.book()
    story.clock.advance(HOLD + timedelta(minutes=9))
    story.run_due()
    assert story.state() == "held"
    story.clock.advance(timedelta(minutes=1))
    story.run_due()
    story.run_due()
    assert (story.state(), story.slot()) == ("lapsed", "open")


def test_a_prescriptions_payment_is_none_of_ours(story: Story) -> None:
    story.book()
    story.hear(POLICIES, "PaymentExpired", visit_id="v1", kind="prescription")
    assert story.state() == "held"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("ConsultMissed", {}, "missed"),  # §18
        ("ConsultDeclined", {}, "declined"),  # §19
        ("ConsultAbandoned", {}, "silent"),  # §27
        ("EligibilityRefused", {"checkpoint": "acceptance"}, "ineligible"),  # §5
    ],
)
def test_visits_without_care_are_withdrawn(story: Story, name: str, data: dict[str, Any], reason: str) -> None:
    story.book()
    story.pay()
    story.hear(POLICIES, name, visit_id="v1", **data)
    story.hear(POLICIES, name, visit_id="v1", **data)
    withdrawn = [envelope.data["reason"] for envelope in story.published() if envelope.name == "VisitWithdrawn"]
    assert (withdrawn, story.state(), story.slot()) == ([reason], "withdrawn", "open")


def test_s29_after_acceptance_the_patient_can_no_longer_withdraw(story: Story) -> None:
    caller = Caller(story.account, frozenset({"patient"}))
    story.book()
    story.pay()
    story.hear(POLICIES, "ConsultAccepted", visit_id="v1")
    with pytest.raises(Refusal, match="already_accepted"):
        story.visits.withdraw_by_patient(story.asked(story.account), caller, "v1")
    story.hear(POLICIES, "ConsultFinished", visit_id="v1")
    assert (story.state(), story.slot()) == ("finished", "sold")


def test_s31_a_visit_is_seen_by_its_account_and_its_booked_doctor(story: Story) -> None:
    doctor = Caller(DOCTOR, frozenset({"doctor"}))
    story.book()
    with pytest.raises(Refusal, match="not_found"):
        story.visits.visit_of(doctor, "v1")
    story.pay()
    assert story.visits.visit_of(doctor, "v1").state == "booked"
    for stranger in (Caller("a9", frozenset({"patient"})), Caller("doctor-bai", frozenset({"doctor"}))):
        with pytest.raises(Refusal, match="not_found"):
            story.visits.visit_of(stranger, "v1")


def test_s5_asking_again_uses_the_condition_as_described(story: Story) -> None:
    story.book()
    visit = story.visits.visit("v1")
    assert story.booking.ask_again(visit, "payment", "k9") == "as1"
    question, key = story.eligibility.asked[-1]
    assert (question["checkpoint"], question["symptoms"], key) == (
        "payment", "胃脘隐痛复诊\n服药后减轻", "payment:v1:k9",
    )
    story.hear(POLICIES, "PaymentExpired", visit_id="v1", kind="visit_fee")
    with pytest.raises(Refusal, match="visit_over"):
        story.booking.ask_again(story.visits.visit("v1"), "payment", "k10")


def test_s18_the_patient_is_told_once_by_phone_number_kept_sealed(story: Story) -> None:
    story.book()
    story.pay()
    story.hear(NOTICES, "VisitWithdrawn", visit_id="v1", reason="missed")
    story.hear(NOTICES, "VisitWithdrawn", visit_id="v1", reason="missed")
    story.sms.failure = Unanswered("sms")
    with pytest.raises(Unanswered):
        story.run_due()
    story.sms.failure = None
    story.run_due()
    story.run_due()
    [sent] = story.sms.sent.values()
    assert sent == ("19900000001", "visit_withdrawn.missed", {"day": "2026-11-24", "time": "08:00"})


def test_s16_the_refund_is_told_in_yuan(story: Story) -> None:
    story.book()
    story.hear(NOTICES, "RefundSucceeded", visit_id="v1", amount_fen=5000)
    story.run_due()
    [(_, template, params)] = story.sms.sent.values()
    assert (template, params["amount"]) == ("refund_succeeded", "50.00")


@pytest.mark.parametrize(("erased", "reason"), [(True, "no_phone"), (False, "bad_phone")])
def test_a_message_that_cannot_be_sent_is_given_up(story: Story, erased: bool, reason: str) -> None:
    story.book()
    story.hear(NOTICES, "VisitLapsed", visit_id="v1", reason="unpaid")
    if erased:
        story.sealer.erased.add(story.account)
    story.sms.failure = PeerRefused(400, {"code": "bad_phone"})
    story.run_due()
    assert story.events()[-1].reason == reason


def test_s12_a_session_is_opened_at_the_tariff_and_kept_in_utc(story: Story) -> None:
    session = story.sessions.session(story.session_id)
    assert session is not None
    assert (session.fee_fen, session.starts_at.utcoffset()) == (5000, timedelta(0))
    plan = SessionPlan("doctor-bai", "spleen-stomach", MORNING, MORNING + QUARTER, 15)
    with pytest.raises(Refusal, match="doctor_unknown"):
        story.sessions.open(story.asked("operator-an"), plan)


def test_s31_what_is_published_keeps_its_contract_and_names_nobody(story: Story) -> None:
    story.book()
    story.pay()
    story.hear(POLICIES, "ConsultMissed", visit_id="v1")
    story.hear(NOTICES, "VisitBooked", visit_id="v1")
    assert {envelope.name for envelope in story.published()} == {
        "SessionOpened", "VisitRequested", "VisitBooked", "VisitWithdrawn",
    }
    for envelope in story.published():
        contracts().validate(envelope)
    open_parts = orjson.dumps([
        [[event.data for event in commit.events], commit.answer.body, [due.args for due in commit.due]]
        for commit in story.backend.commits
    ]).decode()
    for personal in ("林复安", "19900000001", "110100", "1000000001", "胃脘", "1968"):
        assert personal not in open_parts
