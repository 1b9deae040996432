"""The order: given what happened, when a command comes, then these events or this refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from services.payment.domain import order as orders
from services.payment.domain.order import Order
from services.payment.events import (
    CashCollected,
    DecompositionRefused,
    DisputeDecision,
    DisputeResolved,
    InsuranceRefused,
    Leg,
    OfflineSettlementDisputed,
    OrderSettledOffline,
    PrepayCreated,
    Refusal,
)
from tests.unit.payment.given import (
    ALL_CASH,
    CASH,
    CONFIRMING,
    DRUGS,
    EXPIRED,
    FEE,
    FUND,
    HOLD,
    INSURED,
    LATER,
    NOW,
    OPEN_FEE,
    OPEN_RX,
    PAID,
    PREPAID,
    RX,
    RX_AWAITING,
    RX_EXPIRED,
    RX_PAID,
    SETTLED,
    captured,
    collected,
    expired,
    opened,
    order,
    requested,
)

When = Callable[[Order], list[object]]
UNINSURED = replace(OPEN_FEE, card_kind="uninsured")
ELSEWHERE = replace(OPEN_FEE, card_kind="other_insured")
NO_CASH = (opened(), requested(Leg("fund", 4000), Leg("account", 1000), decomposition_id="d1"))
DESK = OrderSettledOffline(
    order_id=RX, visit_id="v1", prescription_id="p1", settlement_id="h1", amount_fen=8000,
    legs=(Leg("fund", 6000), Leg("cash", 2000)), settled_at=NOW,
)
DESK_DISPUTED = OfflineSettlementDisputed(
    order_id=RX, visit_id="v1", prescription_id="p1", settlement_id="h1", amount_fen=8000,
    legs=(Leg("fund", 6000), Leg("cash", 2000)), settled_at=NOW,
)


def opens(command: orders.OpenOrder) -> When:
    return lambda state: orders.open_order(command, state)


def splits(fund: int, account: int, cash: int) -> When:
    return lambda state: orders.request_payment(orders.RequestPayment("d1", fund, account, cash), state)


def is_captured(amount_fen: int = 1000, transaction_id: str = "t1") -> When:
    command = orders.RecordCashCapture(transaction_id, amount_fen, NOW)
    return lambda state: orders.record_cash_capture(command, state)


def insurer_settles(fund: int = 4000, account: int = 0) -> When:
    command = orders.RecordInsuranceSettlement("s1", fund, account)
    return lambda state: orders.record_insurance_settlement(command, state)


def insurer_refuses(state: Order) -> list[object]:
    return orders.record_insurance_refusal(orders.RecordInsuranceRefusal("account_short"), state)


def prepays(state: Order) -> list[object]:
    return orders.record_prepay(orders.RecordPrepay("n1", "wx1"), state, NOW)


def prepays_late(state: Order) -> list[object]:
    return orders.record_prepay(orders.RecordPrepay("n1", "wx1"), state, HOLD)


def confirms(state: Order) -> list[object]:
    return orders.confirm_without_cash(state, NOW)


def expires(state: Order) -> list[object]:
    return orders.expire(state, HOLD)


def expires_early(state: Order) -> list[object]:
    return orders.expire(state, HOLD - timedelta(seconds=1))


def desk_settles(settlement_id: str = "h1", after: timedelta = timedelta(0)) -> When:
    command = orders.SettleOffline(RX, "v1", "p1", settlement_id, 8000, DESK.legs, NOW + after)
    return lambda state: orders.settle_offline(command, state)


def people_decide(decision: DisputeDecision) -> When:
    return lambda state: orders.resolve_dispute(orders.ResolveDispute("h1", decision, "c1", "why"), RX, state)


def decided(decision: DisputeDecision) -> DisputeResolved:
    return DisputeResolved(order_id=RX, settlement_id="h1", decision=decision, cashier="c1", note="why")


TABLE: list[tuple[str, Sequence[object], When, list[object] | str]] = [
    ("§13 the fee of the Beijing-insured is decomposed first", (), opens(OPEN_FEE), [opened()]),
    ("§14 uninsured: self-pay at once", (), opens(UNINSURED),
     [opened(UNINSURED), requested(ALL_CASH, command=UNINSURED)]),
    ("§14 insured elsewhere: self-pay", (), opens(ELSEWHERE),
     [opened(ELSEWHERE), requested(ALL_CASH, command=ELSEWHERE)]),
    ("§13 drugs online are self-pay", (), opens(OPEN_RX), [opened(OPEN_RX), requested(DRUGS, command=OPEN_RX)]),
    ("an order is opened once", INSURED, opens(OPEN_FEE), []),
    ("§23 the desk was faster than the news: only its owner is noted", (DESK,), opens(OPEN_RX), [opened(OPEN_RX)]),
    ("§12 50.00 = 40.00 + 10.00", (opened(),), splits(4000, 0, 1000), [requested(FUND, CASH, decomposition_id="d1")]),
    ("a split that is not the fee", (opened(),), splits(4000, 0, 900), "unbalanced"),
    ("a negative part", (opened(),), splits(6000, -2000, 1000), "unbalanced"),
    ("a split told again", INSURED, splits(4000, 0, 1000), []),
    ("a split after the end", (opened(), expired()), splits(4000, 0, 1000), []),
    ("§14 a refused card pays itself, and why is kept", (opened(),),
     lambda state: orders.request_self_payment(orders.RequestSelfPayment("card_invalid"), state),
     [DecompositionRefused(order_id=FEE, code="card_invalid"), requested(ALL_CASH)]),
    ("prepay", INSURED, prepays, [PrepayCreated(order_id=FEE, out_trade_no="n1", prepay_id="wx1")]),
    ("prepay before the split", (opened(),), prepays, "not_ready"),
    ("prepay of nothing", (), prepays, "not_found"),
    ("§10 prepay when the hold is over", INSURED, prepays_late, "payment_expired"),
    ("prepay of an ended order", EXPIRED, prepays, "payment_expired"),
    ("prepay while the insurer settles", CONFIRMING, prepays, "already_paid"),
    ("prepay of a paid order", PAID, prepays, "already_paid"),
    ("§23 prepay of what the desk settled", (*RX_AWAITING, DESK), prepays, "settled_offline"),
    ("insurance pays all: the patient confirms", NO_CASH, confirms, [collected(0, None)]),
    ("cash is due: no confirming without it", INSURED, confirms, "cash_due"),
    ("§11 cash comes first, then the insurer settles", PREPAID, is_captured(), [collected(1000)]),
    ("a self-paid order is paid with its cash", RX_AWAITING, is_captured(8000),
     [collected(8000, order_id=RX), captured(DRUGS, command=OPEN_RX)]),
    ("a capture that no notice of prepay preceded (charge, then timeout)", INSURED, is_captured(), [collected(1000)]),
    ("the notice comes twice", CONFIRMING, is_captured(), []),
    ("the notice comes after all is paid", PAID, is_captured(), []),
    ("another amount", PREPAID, is_captured(900), "capture_mismatch"),
    ("another transaction", CONFIRMING, is_captured(transaction_id="t2"), "capture_mismatch"),
    ("a capture of nothing", (), is_captured(), "not_found"),
    ("a capture before anything was asked for", (opened(),), is_captured(), "not_found"),
    ("§16 late: the cash leg alone", EXPIRED, is_captured(), [collected(1000), captured(CASH, late=True)]),
    ("§23 late after the desk", (*RX_AWAITING, DESK), is_captured(8000),
     [collected(8000, order_id=RX), captured(DRUGS, late=True, command=OPEN_RX)]),
    ("late, told twice", (*EXPIRED, collected(1000), captured(CASH, late=True)), is_captured(), []),
    ("the insurer settles: paid", CONFIRMING, insurer_settles(), [SETTLED, captured(FUND, CASH)]),
    ("the insurer settles other amounts", CONFIRMING, insurer_settles(fund=3000), "unbalanced"),
    ("the insurer's answer comes twice", PAID, insurer_settles(), []),
    ("the insurer refuses after the cash: over, and the cash is late", CONFIRMING, insurer_refuses,
     [InsuranceRefused(order_id=FEE, code="account_short"), expired(), captured(CASH, late=True)]),
    ("the insurer refuses, and there was no cash", (*NO_CASH, collected(0, None)), insurer_refuses,
     [InsuranceRefused(order_id=FEE, code="account_short"), expired()]),
    ("the insurer refuses what is paid", PAID, insurer_refuses, []),
    ("§10 the hold ends", PREPAID, expires, [expired()]),
    ("§10 the hold ends while the insurer was silent", (opened(),), expires, [expired()]),
    ("never early", PREPAID, expires_early, "too_early"),
    ("a payment of the last second wins", CONFIRMING, expires, []),
    ("a paid order does not expire", PAID, expires, []),
    ("it expires once", EXPIRED, expires, []),
    ("the visit ends before payment", INSURED, orders.close, [expired()]),
    ("the visit ends after payment: payment.refunds sees to it", PAID, orders.close, []),
    ("the visit ends while the insurer settles", CONFIRMING, orders.close, []),
    ("§22 the desk settles", RX_AWAITING, desk_settles(), [DESK]),
    ("§22 the desk's report comes before the prescription's", (), desk_settles(), [DESK]),
    ("the desk's report comes twice", (*RX_AWAITING, DESK), desk_settles(), []),
    ("§23 the desk settles what was paid online", RX_PAID, desk_settles(), [DESK_DISPUTED]),
    ("§23 a dispute is noted once", (*RX_PAID, DESK_DISPUTED), desk_settles(), []),
    ("§22 settled in time, reported late", RX_EXPIRED, desk_settles(), [DESK]),
    ("§23 settled after the three days", RX_EXPIRED, desk_settles(after=timedelta(days=3)),
     [replace(DESK_DISPUTED, settled_at=NOW + timedelta(days=3))]),
    ("a second settlement of one prescription", (*RX_AWAITING, DESK), desk_settles("h2"),
     [replace(DESK_DISPUTED, settlement_id="h2")]),
    ("§23 people decide: ours goes back", (*RX_PAID, DESK_DISPUTED), people_decide("online_goes_back"),
     [decided("online_goes_back")]),
    ("§23 people decide: the desk's goes back", (*RX_PAID, DESK_DISPUTED), people_decide("desk_gives_back"),
     [decided("desk_gives_back")]),
    ("§23 people decide once", (*RX_PAID, DESK_DISPUTED, decided("desk_gives_back")),
     people_decide("online_goes_back"), "already_resolved"),
    ("§23 there is no payment of ours", (*RX_EXPIRED, DESK_DISPUTED), people_decide("online_goes_back"),
     "nothing_captured"),
    ("§23 no dispute", RX_PAID, people_decide("desk_gives_back"), "not_found"),
    ("§23 what the desk rightly settled is no dispute", (*RX_AWAITING, DESK), people_decide("desk_gives_back"),
     "not_found"),
    ("§23 a decided dispute told again", (*RX_PAID, DESK_DISPUTED, decided("desk_gives_back")), desk_settles(), []),
]


@pytest.mark.parametrize(("given", "when", "then"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_order(given: Sequence[object], when: When, then: list[object] | str) -> None:
    state = order(*given)
    if isinstance(then, str):
        with pytest.raises(Refusal, match=then):
            when(state)
    else:
        assert when(state) == then


def test_a_late_capture_leaves_the_order_ended() -> None:
    state = order(*EXPIRED, collected(1000), captured(CASH, late=True))
    assert (state.status, state.captured is not None) == ("expired", True)


def test_money_collected_before_the_hold_ended_is_in_time_however_late_it_is_heard_of() -> None:
    """The end is what the stream says, not the clock: until PaymentExpired stands, a capture counts."""
    heard = orders.RecordCashCapture("t1", 8000, LATER)
    events = orders.record_cash_capture(heard, order(*RX_AWAITING))
    assert [type(event) for event in events] == [CashCollected, type(captured(DRUGS))]
    assert events[1].late is False  # type: ignore[attr-defined]
