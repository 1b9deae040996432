"""Orders and refunds through handlers, jobs, policies and processors, with a provider and an insurer that fail."""

from __future__ import annotations

import pytest

from eventkit.calls import Unanswered
from eventkit.store import Request
from tests.unit.payment.world import World


@pytest.fixture
def world() -> World:
    return World()


def test_an_insured_fee_is_split_paid_and_earned(world: World) -> None:
    """§12, §13: 50.00 = 40.00 + 10.00."""
    fee = world.visit()
    assert world.state(fee) == "opening"
    world.pay(fee)
    assert world.events(fee) == ["PaymentRequested", "PaymentCaptured"]
    assert world.totals() == (5000, 0, 0, 5000)
    assert [envelope.name for envelope in world.derived] == ["FeeDecomposed"]
    world.finish()
    assert world.totals() == (5000, 0, 5000, 0)
    assert world.views.ledger()["by_leg"]["cash"]["earned_fen"] == 1000


def test_finishing_before_the_news_of_the_payment_counts_as_well(world: World) -> None:
    fee = world.visit()
    world.finish()
    world.pay(fee)
    assert world.totals() == (5000, 0, 5000, 0)


def test_a_card_that_insurance_refuses_pays_itself(world: World) -> None:
    """§14"""
    world.insurer.refusal = "card_invalid"
    fee = world.visit()
    world.pay(fee)
    assert world.views.ledger()["by_leg"]["cash"]["paid_fen"] == 5000
    assert world.derived == []


def test_an_insurer_that_does_not_understand_us_costs_the_patient_nothing(world: World) -> None:
    world.insurer.refusal = "trade_no_reused"
    fee = world.visit()
    assert world.run_jobs() == 1
    assert world.state(fee) == "opening"
    world.run_until_quiet()
    assert world.state(fee) == "awaiting_payment"


def test_an_insurer_that_pays_all(world: World) -> None:
    world.insurer.account_fen = 1000
    fee = world.visit()
    world.run_until_quiet()
    assert "prepay_id" not in world.prepay(fee).body
    assert world.state(fee) == "confirming"
    world.run_until_quiet()
    assert (world.state(fee), world.provider.trades) == ("paid", {})
    world.withdraw()
    world.run_until_quiet()
    assert world.refund_state(fee) == "succeeded"
    assert world.totals() == (5000, 5000, 0, 0)


def test_silence_of_the_insurer_is_waited_out(world: World) -> None:
    world.insurer.faults.before = 2
    fee = world.visit()
    world.run_until_quiet()
    world.insurer.faults.after = 1
    world.pay(fee)
    assert (world.state(fee), len(world.insurer.settled)) == ("paid", 1)


def test_an_insurer_that_refuses_after_the_cash(world: World) -> None:
    """The order ends, and the patient's part goes back (§16)."""
    fee = world.visit()
    world.run_until_quiet()
    world.insurer.refusal = "account_short"
    world.pay(fee)
    assert world.events(fee)[:3] == ["PaymentRequested", "PaymentExpired", "PaymentCaptured"]
    world.run_until_quiet()
    assert world.totals() == (1000, 1000, 0, 0)


def test_prepay_is_for_the_owner_who_is_eligible(world: World) -> None:
    """§5, §31"""
    fee = world.visit()
    world.refused("not_ready", world.prepay, fee)
    world.run_until_quiet()
    world.refused("not_found", lambda: world.prepay(fee, account="acc2"))
    world.refused("not_found", world.prepay, "fee-unknown")
    world.registration.refusal = (422, "not_eligible")
    assert world.refused("not_eligible", world.prepay, fee).facts["failed"] == [{"code": "no_recent_visit"}]
    world.registration.refusal = (409, "visit_over")
    world.refused("payment_expired", world.prepay, fee)
    world.registration.refusal = (409, "busy")
    with pytest.raises(Unanswered):
        world.prepay(fee)
    assert fee not in world.provider.trades


def test_a_prescription_is_paid_without_asking_for_eligibility_again(world: World) -> None:
    rx = world.prescription()
    world.pay(rx)
    assert (world.state(rx), world.registration.asked) == ("paid", [])
    world.dispense()
    assert world.totals() == (8000, 0, 8000, 0)


def test_the_same_prepay_again_gets_the_same_answer(world: World) -> None:
    fee = world.visit()
    world.run_until_quiet()
    first = world.prepay(fee, key="k")
    world.provider.pay(fee)
    world.notice_of_payment(fee)
    assert world.prepay(fee, key="k") == first
    world.refused("already_paid", world.prepay, fee)


def test_charge_then_timeout(world: World) -> None:
    """Prepay is never answered, but the money is taken: the retry finds it."""
    fee = world.visit()
    world.run_until_quiet()
    world.provider.charge_during_next_prepay = True
    with pytest.raises(Unanswered):
        world.prepay(fee, key="k")
    assert world.prepay(fee, key="k").body["state"] == "confirming"
    world.run_until_quiet()
    assert world.state(fee) == "paid"


def test_a_payment_that_nobody_told_is_found(world: World) -> None:
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.provider.pay(fee)
    assert world.run_jobs() == 0  # not asked yet: the notice has its time
    world.advance(seconds=20)
    world.run_until_quiet()
    assert world.state(fee) == "paid"


def test_the_last_second_wins(world: World) -> None:
    """Paid just before the hold ends, never told, and the provider is silent just then."""
    rx = world.prescription()
    world.prepay(rx)
    world.advance(days=2, hours=23, minutes=59, seconds=59)
    assert world.provider.pay(rx)
    world.advance(seconds=1)
    world.provider.faults.before = 3
    world.run_until_quiet()
    assert (world.state(rx), world.events(rx)) == ("paid", ["PaymentRequested", "PaymentCaptured"])


def test_unpaid_the_hold_ends_and_the_trade_is_closed(world: World) -> None:
    """§10"""
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.advance(minutes=15)
    world.run_until_quiet()
    assert world.events(fee) == ["PaymentRequested", "PaymentExpired"]
    assert not world.provider.pay(fee)
    world.refused("payment_expired", world.prepay, fee)


def test_an_order_whose_insurer_never_answered_expires(world: World) -> None:
    fee = world.visit()
    world.insurer.faults.before = 10_000
    world.run_jobs()
    world.advance(minutes=15)
    world.run_until_quiet()
    assert world.events(fee) == ["PaymentExpired"]


def test_late_capture_after_close_goes_back(world: World) -> None:
    """§16, §23: told late and twice; the fund was never asked."""
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.advance(minutes=15)
    world.run_until_quiet()
    assert world.provider.pay(fee, late=True)
    world.notice_of_payment(fee)
    world.notice_of_payment(fee)
    world.run_until_quiet()
    assert world.events(fee)[2:] == ["PaymentCaptured", "RefundRequested", "RefundSucceeded"]
    assert (world.totals(), world.insurer.settled) == ((1000, 1000, 0, 0), {})


def test_late_money_that_nobody_tells_of_is_found(world: World) -> None:
    """§16: paid after the close, and every notice of it was lost."""
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.advance(minutes=15)
    world.run_until_quiet()
    world.provider.pay(fee, late=True)
    world.advance(hours=24)
    world.run_until_quiet()
    assert world.totals() == (0, 0, 0, 0)
    world.advance(hours=1)
    world.run_until_quiet()
    assert world.totals() == (1000, 1000, 0, 0)


def test_a_visit_that_ends_unpaid_closes_its_order(world: World) -> None:
    """§29: the session is cancelled while the patient is about to pay."""
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.withdraw(reason="session_cancelled")
    world.run_until_quiet()
    assert world.events(fee) == ["PaymentRequested", "PaymentExpired"]
    assert world.provider.trades[fee]["closed"]


def test_paid_while_the_withdrawal_was_under_way(world: World) -> None:
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.provider.pay(fee)
    world.withdraw(reason="patient")
    world.run_until_quiet()
    assert world.events(fee) == [
        "PaymentRequested", "PaymentExpired", "PaymentCaptured", "RefundRequested", "RefundSucceeded"
    ]
    assert world.totals() == (1000, 1000, 0, 0)


def test_withdrawn_while_the_insurer_settles(world: World) -> None:
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.provider.pay(fee)
    world.notice_of_payment(fee)
    world.withdraw(reason="patient")
    world.run_until_quiet()
    assert (world.totals(), len(world.insurer.reversed)) == ((5000, 5000, 0, 0), 1)


def test_a_missed_visit_is_refunded_leg_by_leg(world: World) -> None:
    """§16, §18"""
    fee = world.visit()
    world.pay(fee)
    world.withdraw(reason="missed")
    world.run_jobs()
    assert world.totals() == (5000, 4000, 0, 1000)  # the insurer is done, the cash is on its way and still held
    world.run_until_quiet()
    assert world.totals() == (5000, 5000, 0, 0)
    assert [e.data["reason"] for e in world.public if e.name == "RefundRequested"] == ["missed"]
    assert world.derived[-1].name == "DecompositionReversed"


def test_a_refund_is_not_earned_however_the_news_cross(world: World) -> None:
    fee = world.visit()
    world.pay(fee)
    world.withdraw()
    world.finish()
    world.run_jobs()
    assert world.totals() == (5000, 4000, 0, 1000)


def test_refunds_survive_silence_before_and_after_the_effect(world: World) -> None:
    fee = world.visit()
    world.pay(fee)
    world.provider.faults.before = 3
    world.insurer.faults.after = 2
    world.withdraw()
    for _ in range(4):
        world.run_jobs()
    world.provider.faults.after = 2
    world.run_until_quiet()
    assert (world.totals(), list(world.provider.refunds)) == ((5000, 5000, 0, 0), [f"rf-{fee}"])


def test_a_refund_notice_that_comes_first_twice_and_late(world: World) -> None:
    fee = world.visit()
    world.pay(fee)
    world.withdraw()
    world.run_jobs()
    world.provider.settle_refunds()
    world.notice_of_refund(f"rf-{fee}")
    world.run_until_quiet()
    world.notice_of_refund(f"rf-{fee}")
    assert world.counts()[(f"refund-rf-{fee}", "RefundSucceeded")] == 1


def test_a_refused_refund_waits_for_a_person_and_is_retried_alone(world: World) -> None:
    """§16: the partial failure alone."""
    fee = world.visit()
    world.pay(fee)
    world.provider.refusal = "NOT_ENOUGH"
    world.withdraw()
    world.run_until_quiet()
    assert (world.refund_state(fee), world.views.stuck()) == ("stuck", [f"rf-{fee}"])
    world.retry(fee)
    assert world.views.stuck() == []
    world.run_until_quiet()
    assert (world.totals(), len(world.insurer.reversed)) == ((5000, 5000, 0, 0), 1)
    world.refused("nothing_to_retry", world.retry, fee)


def test_an_abnormal_refund_goes_to_a_bank_card(world: World) -> None:
    fee = world.visit()
    world.pay(fee)
    world.provider.fate = "abnormal"
    world.withdraw()
    world.run_until_quiet()
    world.refused("bank_card_needed", lambda: world.retry(fee, None))
    world.provider.faults.after = 1
    with pytest.raises(Unanswered):
        world.retry(fee)
    world.retry(fee)
    world.provider.fate = "succeeded"
    world.run_until_quiet()
    assert world.refund_state(fee) == "succeeded"
    kept = b"".join(str(event.data).encode() for commit in world.backend.commits for event in commit.events)
    assert b"6222000011112222" not in kept


def test_money_that_comes_back_after_it_was_paid_by_hand_is_counted_once_and_shown(world: World) -> None:
    """§16: the provider mended what people had given up. The ledger is right; the statement calls people."""
    fee = world.visit()
    world.pay(fee)
    world.provider.fate = "abnormal"
    world.withdraw()
    world.run_until_quiet()
    world.pay_by_hand(fee)
    world.run_until_quiet()
    world.provider.refunds[f"rf-{fee}"]["state"] = "succeeded"
    world.notice_of_refund(f"rf-{fee}")
    world.advance(days=1, hours=2)
    world.run_until_quiet()
    assert world.totals() == (5000, 5000, 0, 0)
    assert world.counts()[(f"refund-rf-{fee}", "RefundSucceeded")] == 1
    assert world.differences() == [("2026-11-24", "state_differs", f"rf-{fee}", "open")]


def test_a_closed_refund_is_asked_for_again_under_a_new_number(world: World) -> None:
    fee = world.visit()
    world.pay(fee)
    world.provider.fate = "closed"
    world.withdraw()
    world.run_until_quiet()
    world.provider.fate = "succeeded"
    world.retry(fee)
    world.run_jobs()
    world.provider.settle_refunds()
    world.notice_of_refund(f"rf-{fee}@2")
    world.run_until_quiet()
    assert (world.refund_state(fee), sorted(world.provider.refunds)) == ("succeeded", [f"rf-{fee}", f"rf-{fee}@2"])


def test_paid_drugs_go_back_when_their_prescription_is_voided(world: World) -> None:
    """§16, §24: pharmacy voided what it did not know to be paid yet."""
    rx = world.prescription()
    world.pay(rx)
    world.void()
    world.void()
    world.run_until_quiet()
    assert world.totals() == (8000, 8000, 0, 0)
    assert [e.data["reason"] for e in world.derived if e.name == "RefundDue"] == ["voided"]


def test_a_void_that_is_heard_of_before_the_payment(world: World) -> None:
    """§24: the provider took the money before the void was heard of; it is late, and goes back."""
    rx = world.prescription()
    world.prepay(rx)
    world.provider.pay(rx)
    world.void()
    world.run_until_quiet()
    assert world.events(rx)[1:3] == ["PaymentExpired", "PaymentCaptured"]
    assert world.totals() == (8000, 8000, 0, 0)


def test_the_desk_settles_and_the_trade_is_closed(world: World) -> None:
    """§22, §23"""
    rx = world.prescription()
    world.prepay(rx)
    world.desk_settles()
    world.run_until_quiet()
    assert world.events(rx) == ["PaymentRequested", "OrderSettledOffline"]
    assert world.provider.trades[rx]["closed"]
    world.refused("settled_offline", world.prepay, rx)
    world.dispense(way="desk")
    assert (world.totals(), world.views.ledger()["settled_offline_fen"]) == ((0, 0, 0, 0), 8000)
    assert [e.name for e in world.derived] == ["OfflineSettlementOpened", "OfflineSettlementClosed"]


def test_the_desk_before_the_prescription_is_heard_of(world: World) -> None:
    world.desk_settles()
    rx = world.prescription()
    world.run_until_quiet()
    assert (world.state(rx), world.events(rx)) == ("settled_offline", ["OrderSettledOffline"])
    assert world.handlers.order(rx).opened is not None


def test_both_ways_at_once_pays_one_of_them_back(world: World) -> None:
    """§23: the patient pays online at the very moment the desk settles."""
    rx = world.prescription()
    world.prepay(rx)
    world.provider.pay(rx)
    world.desk_settles()
    world.run_until_quiet()
    world.dispense(way="desk")
    assert world.totals() == (8000, 8000, 0, 0)
    [due] = [e for e in world.derived if e.name == "RefundDue"]
    assert due.data["reason"] == "settled_offline"


def test_the_desk_settles_what_was_paid_online(world: World) -> None:
    """§23: it is not taken over, and people are told."""
    rx = world.prescription()
    world.pay(rx)
    world.desk_settles()
    assert (world.state(rx), list(world.views.documents["disputes"])) == ("paid", ["h1"])


def test_a_wrong_amount_is_not_taken(world: World) -> None:
    rx = world.prescription()
    world.prepay(rx)
    world.provider.pay(rx)
    world.provider.trades[rx]["amount"] = 7999
    world.refused("capture_mismatch", world.notice_of_payment, rx)
    assert world.totals() == (0, 0, 0, 0)


def test_a_refund_of_what_was_never_captured_is_refused(world: World) -> None:
    fee = world.visit()
    world.refused("nothing_captured", world.handlers.request_refund, Request("t", "r", "k"), fee, "missed")
