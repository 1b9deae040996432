"""§9: a freed slot is offered to who waited; §10: who does not pay again and again books nothing for a while."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from eventkit.auth import Caller
from eventkit.events import Refusal
from eventkit.store import Answer
from services.registration.domain import visits
from services.registration.events import HoldUnpaid
from tests.unit.registration.story import HOLD, MORNING, NOW, SECOND
from tests.unit.registration.test_handlers import Story

OFFER = timedelta(minutes=10)


class Crowd(Story):
    """A session of two slots, both held; two more patients, each of an account of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts = {1: self.account}
        self.patients = {1: self.patient_id}
        for number in (2, 3, 4):
            self.accounts[number] = self.log_in(f"1990000000{number}")
            self.patients[number] = self.patient(self.accounts[number], f"P0000000{number}")
            self.bind(self.accounts[number], self.patients[number])
        self.book_as(1, "v1", 1)
        self.book_as(2, "v2", 2)

    def caller(self, number: int) -> Caller:
        return Caller(self.accounts[number], frozenset({"patient"}))

    def book_as(self, number: int, visit_id: str, slot: int) -> Answer:
        account, patient = self.accounts[number], self.patients[number]
        return self.book(visit_id, slot, account_id=account, patient_id=patient)

    def wait(self, number: int) -> str:
        caller = self.caller(number)
        answer = self.waiting.join(self.asked(caller.subject), caller, self.session_id, self.patients[number])
        return str(answer.body["entry_id"])

    def leave(self, number: int, entry_id: str) -> None:
        self.waiting.leave(self.asked(self.accounts[number]), self.caller(number), self.session_id, entry_id)

    def free(self, visit_id: str = "v1") -> None:
        number = 1 if visit_id == "v1" else 2
        self.visits.withdraw_by_patient(self.asked(self.accounts[number]), self.caller(number), visit_id)

    def offered(self, number: int) -> bool:
        return any("offer" in entry for entry in self.waiting.mine(self.caller(number), self.session_id))


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def test_s9_a_freed_slot_is_offered_in_the_same_insert_and_only_they_can_book_it(crowd: Crowd) -> None:
    crowd.wait(3)
    crowd.wait(4)
    crowd.free()
    names = [event.type.split(".")[-2] for event in crowd.backend.commits[-1].events]
    assert names == ["VisitWithdrawn", "SlotReleased", "ClaimReleased", "SlotOffered", "SlotOffered"]
    assert (crowd.offered(3), crowd.offered(4), crowd.slot()) == (True, False, "offered")
    for number in (1, 4):
        with pytest.raises(Refusal, match="slot_taken"):
            crowd.book_as(number, f"again{number}", 1)
    assert crowd.book_as(3, "v3", 1).status == 201
    assert crowd.waiting.mine(crowd.caller(3), crowd.session_id) == []
    assert [entry["position"] for entry in crowd.waiting.mine(crowd.caller(4), crowd.session_id)] == [1]


def test_s9_who_waited_is_told_once_until_when(crowd: Crowd) -> None:
    crowd.wait(3)
    crowd.free()
    crowd.run_due()
    crowd.run_due()
    [(phone, template, params)] = crowd.sms.sent.values()
    assert (phone, template) == ("19900000003", "slot_offered")
    assert params == {"day": "2026-11-24", "time": "08:00", "until": "16:10"}


def test_s9_an_offer_lasts_to_its_last_second_and_then_goes_on(crowd: Crowd) -> None:
    crowd.wait(3)
    crowd.wait(4)
    crowd.free()
    crowd.clock.advance(OFFER - SECOND)
    crowd.run_due()
    assert crowd.offered(3)
    crowd.clock.advance(SECOND)
    with pytest.raises(Refusal, match="slot_taken"):
        crowd.book_as(3, "v3", 1)
    crowd.run_due()
    crowd.run_due()
    assert (crowd.offered(3), crowd.offered(4)) == (False, True)
    crowd.clock.advance(OFFER)
    crowd.run_due()
    assert (crowd.offered(4), crowd.slot()) == (False, "open")
    assert crowd.book_as(3, "v3", 1).status == 201


def test_s9_an_offer_that_is_declined_goes_on_at_once(crowd: Crowd) -> None:
    first = crowd.wait(3)
    crowd.wait(4)
    crowd.free()
    crowd.leave(3, first)
    assert (crowd.offered(3), crowd.offered(4)) == (False, True)
    with pytest.raises(Refusal, match="not_found"):
        crowd.leave(3, first)


def test_s9_two_freed_slots_are_two_offers(crowd: Crowd) -> None:
    crowd.wait(3)
    crowd.wait(4)
    crowd.free("v1")
    crowd.free("v2")
    assert (crowd.offered(3), crowd.offered(4)) == (True, True)


def test_s9_who_books_another_slot_lets_the_offered_one_go(crowd: Crowd) -> None:
    crowd.wait(3)
    crowd.free("v1")
    crowd.free("v2")
    crowd.book_as(3, "v3", 2)
    assert crowd.slot(1) == "offered"
    crowd.clock.advance(OFFER)
    crowd.run_due()
    assert (crowd.slot(1), crowd.slot(2)) == ("open", "held")


def test_s9_no_offer_outlasts_the_slots_own_time(crowd: Crowd) -> None:
    crowd.pay("v1")
    crowd.wait(3)
    crowd.clock.instant = MORNING - SECOND
    crowd.free()
    crowd.clock.advance(SECOND)
    crowd.run_due()
    assert crowd.slot() == "open"


def test_s29_a_cancelled_session_takes_its_offers_back(crowd: Crowd) -> None:
    crowd.wait(3)
    crowd.free()
    doctor = Caller("doctor-shen", frozenset({"doctor"}))
    crowd.sessions.cancel(crowd.asked("doctor-shen"), doctor, crowd.session_id)
    with pytest.raises(Refusal, match="session_cancelled"):
        crowd.book_as(3, "v3", 1)
    crowd.clock.advance(OFFER)
    crowd.run_due()
    assert (crowd.slot(1), crowd.slot(2)) == ("closed", "closed")
    with pytest.raises(Refusal, match="session_cancelled"):
        crowd.wait(4)


def test_s9_who_cannot_wait(crowd: Crowd) -> None:
    crowd.wait(3)
    with pytest.raises(Refusal, match="already_waiting"):
        crowd.wait(3)
    crowd.clock.instant = MORNING + timedelta(minutes=15)
    with pytest.raises(Refusal, match="session_over"):
        crowd.wait(4)
    empty = Story()
    caller = Caller(empty.account, frozenset({"patient"}))
    with pytest.raises(Refusal, match="slots_left"):
        empty.waiting.join(empty.asked(empty.account), caller, empty.session_id, empty.patient_id)
    with pytest.raises(Refusal, match="not_found"):
        empty.waiting.join(empty.asked(empty.account), caller, "s0", empty.patient_id)


def test_s31_only_the_own_entries_are_seen_and_left(crowd: Crowd) -> None:
    entry = crowd.wait(3)
    assert crowd.waiting.mine(crowd.caller(4), crowd.session_id) == []
    with pytest.raises(Refusal, match="not_found"):
        crowd.leave(4, entry)


def unpaid(*at: datetime) -> list[HoldUnpaid]:
    return [HoldUnpaid("a1", f"v{number}", instant) for number, instant in enumerate(at)]


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ([], None),
        ([NOW, NOW], None),
        ([NOW, NOW, NOW], NOW + 7 * DAY),
        ([NOW - 30 * DAY + SECOND, NOW - DAY, NOW], NOW + 7 * DAY),
        ([NOW - 30 * DAY, NOW - DAY, NOW], None),  # thirty days are over
        ([NOW, NOW - DAY, NOW - 2 * DAY], NOW + 7 * DAY),  # in whichever order they were written
    ],
)
def test_s10_three_unpaid_holds_within_thirty_days_pause_an_account(at: list[datetime], until: datetime | None) -> None:
    assert visits.paused_until(unpaid(*at), 3, timedelta(days=30), timedelta(days=7)) == until


def test_s10_the_pause_says_until_when_and_ends_then() -> None:
    story = Story()
    for number in range(3):
        story.book(f"v{number}")
        story.clock.advance(HOLD)
        story.visits.lapse(story.asked("payment"), f"v{number}", "unpaid")
        story.visits.lapse(story.asked("backstop"), f"v{number}", "unpaid")
    last = story.clock.now()
    with pytest.raises(Refusal, match="booking_paused") as refusal:
        story.book("v3")
    assert refusal.value.facts == {"until": "2026-11-30 16:45"}
    story.clock.instant = last + 7 * DAY
    with pytest.raises(Refusal, match="session_over"):
        story.book("v3")


def test_s10_a_hold_given_back_or_ended_as_ineligible_counts_for_nothing() -> None:
    story = Story()
    caller = Caller(story.account, frozenset({"patient"}))
    for number in range(3):
        story.book(f"v{number}")
        story.visits.withdraw_by_patient(story.asked(story.account), caller, f"v{number}")
        story.book(f"w{number}")
        story.visits.turn_ineligible(story.asked("eligibility"), f"w{number}", "payment")
    assert story.book("v3").status == 201
