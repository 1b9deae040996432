"""The refund: exactly what was paid, leg by leg, once (§16)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from services.payment.domain import refund as refunds
from services.payment.domain.order import Order
from services.payment.domain.refund import Refund
from services.payment.events import (
    LegName,
    RefundFailed,
    RefundLegAttempted,
    RefundLegResolved,
    RefundLegRetried,
    RefundLegSucceeded,
    RefundRequested,
    RefundSucceeded,
    Refusal,
)
from tests.unit.payment.given import (
    CASH,
    EXPIRED,
    FEE,
    FUND,
    PAID,
    PREPAID,
    REFUND_ID,
    REQUESTED,
    captured,
    collected,
    order,
    refund,
)

When = Callable[[Refund], list[object]]


def attempted(outcome: str, leg: LegName = "cash") -> RefundLegAttempted:
    return RefundLegAttempted(refund_id=REFUND_ID, leg=leg, outcome=outcome)  # type: ignore[arg-type]


def succeeded(leg: LegName, amount_fen: int) -> RefundLegSucceeded:
    return RefundLegSucceeded(refund_id=REFUND_ID, order_id=FEE, visit_id="v1", leg=leg, amount_fen=amount_fen)


def failed(leg: LegName, code: str) -> RefundFailed:
    return RefundFailed(refund_id=REFUND_ID, order_id=FEE, visit_id="v1", leg=leg, code=code)


def retried(leg: LegName, way: str = "again") -> RefundLegRetried:
    return RefundLegRetried(refund_id=REFUND_ID, leg=leg, cashier="c1", way=way)  # type: ignore[arg-type]


DONE = RefundSucceeded(
    refund_id=REFUND_ID, order_id=FEE, visit_id="v1", kind="visit_fee", amount_fen=5000, legs=(FUND, CASH)
)
BOTH_BACK = (REQUESTED, succeeded("fund", 4000), succeeded("cash", 1000), DONE)


def asks(leg: LegName, outcome: str) -> When:
    return lambda state: refunds.record_attempt(refunds.RecordAttempt(leg, outcome), state)  # type: ignore[arg-type]


def brings_back(*amounts: tuple[LegName, int]) -> When:
    return lambda state: refunds.record_success(refunds.RecordSuccess(amounts), state)


def fails(code: str, *legs: LegName) -> When:
    return lambda state: refunds.record_failure(refunds.RecordFailure(legs, code), state)


def person_retries(bank_card: bool = False) -> When:
    return lambda state: refunds.retry_refund(refunds.RetryRefund("c1", bank_card), state)


def person_ends(leg: LegName) -> When:
    return lambda state: refunds.resolve_refund(refunds.ResolveRefund(leg, "c1", "paid_by_hand", "receipt 7"), state)


def ended(leg: LegName, amount_fen: int) -> RefundLegResolved:
    return RefundLegResolved(
        refund_id=REFUND_ID, order_id=FEE, visit_id="v1", leg=leg, amount_fen=amount_fen, cashier="c1",
        reason="paid_by_hand", note="receipt 7",
    )


TABLE: list[tuple[str, Sequence[object], When, list[object] | str]] = [
    ("accepted is not done", (REQUESTED,), asks("cash", "accepted"), [attempted("accepted")]),
    ("an outage is one event", (REQUESTED, attempted("unanswered")), asks("cash", "unanswered"), []),
    ("then it answers", (REQUESTED, attempted("unanswered")), asks("cash", "accepted"), [attempted("accepted")]),
    ("nothing is attempted after success", BOTH_BACK, asks("cash", "accepted"), []),
    ("one leg is back", (REQUESTED,), brings_back(("fund", 4000)), [succeeded("fund", 4000)]),
    ("the last leg completes it", (REQUESTED, succeeded("fund", 4000)), brings_back(("cash", 1000)),
     [succeeded("cash", 1000), DONE]),
    ("told twice", BOTH_BACK, brings_back(("cash", 1000)), []),
    ("another amount", (REQUESTED,), brings_back(("cash", 999)), "refund_mismatch"),
    ("a leg it does not have", (REQUESTED,), brings_back(("account", 1)), "not_found"),
    ("a refund nobody asked for", (), brings_back(("cash", 1000)), "not_found"),
    ("a leg cannot come back by itself", (REQUESTED,), fails("NOT_ENOUGH", "cash"), [failed("cash", "NOT_ENOUGH")]),
    ("told twice that it cannot", (REQUESTED, failed("cash", "ABNORMAL")), fails("ABNORMAL", "cash"), []),
    ("an old failure after success", BOTH_BACK, fails("ABNORMAL", "cash"), []),
    ("success after a failure counts", (REQUESTED, succeeded("fund", 4000), failed("cash", "ABNORMAL")),
     brings_back(("cash", 1000)), [succeeded("cash", 1000), DONE]),
    ("§16 only the failed leg is retried", (REQUESTED, succeeded("fund", 4000), failed("cash", "NOT_ENOUGH")),
     person_retries(), [retried("cash")]),
    ("nothing failed", (REQUESTED,), person_retries(), "nothing_to_retry"),
    ("no refund", (), person_retries(), "not_found"),
    ("the paying account takes nothing: a card is needed", (REQUESTED, failed("cash", "ABNORMAL")), person_retries(),
     "bank_card_needed"),
    ("with the card", (REQUESTED, failed("cash", "ABNORMAL")), person_retries(bank_card=True),
     [retried("cash", "bank_card")]),
    ("without the card the other leg goes", (REQUESTED, failed("cash", "ABNORMAL"), failed("fund", "not_found")),
     person_retries(), [retried("fund")]),
    ("a person ends the last leg", (REQUESTED, succeeded("fund", 4000), failed("cash", "ABNORMAL")),
     person_ends("cash"), [ended("cash", 1000), DONE]),
    ("a person ends one leg, the other is on its way", (REQUESTED, failed("fund", "not_found")), person_ends("fund"),
     [ended("fund", 4000)]),
    ("a leg on its way is not for people", (REQUESTED,), person_ends("cash"), "nothing_to_retry"),
    ("a leg that is back is not for people", BOTH_BACK, person_ends("cash"), "nothing_to_retry"),
    ("ended once", (REQUESTED, failed("cash", "ABNORMAL"), ended("cash", 1000)), person_ends("cash"),
     "nothing_to_retry"),
    ("an ended leg is not sent again", (REQUESTED, failed("cash", "ABNORMAL"), ended("cash", 1000)), person_retries(),
     "nothing_to_retry"),
    ("an ended leg that comes back all the same is counted once",
     (REQUESTED, succeeded("fund", 4000), failed("cash", "ABNORMAL"), ended("cash", 1000), DONE),
     brings_back(("cash", 1000)), []),
    ("an old failure of an ended leg", (REQUESTED, failed("cash", "ABNORMAL"), ended("cash", 1000)),
     fails("ABNORMAL", "cash"), []),
    ("the other leg after a person ended one", (REQUESTED, failed("fund", "not_found"), ended("fund", 4000)),
     brings_back(("cash", 1000)), [succeeded("cash", 1000), DONE]),
    ("no refund to end", (), person_ends("cash"), "not_found"),
]


@pytest.mark.parametrize(("given", "when", "then"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_refund(given: Sequence[object], when: When, then: list[object] | str) -> None:
    state = refund(*given)
    if isinstance(then, str):
        with pytest.raises(Refusal, match=then):
            when(state)
    else:
        assert when(state) == then


COMMAND = refunds.RequestRefund(REFUND_ID, FEE, "missed")


@pytest.mark.parametrize(
    ("paid", "before", "then"),
    [
        (order(*PAID), refund(), [REQUESTED]),
        (order(*PAID), refund(REQUESTED), []),
        (order(*PAID), refund(*BOTH_BACK), []),
        (order(*PREPAID), refund(), "nothing_captured"),
        (order(), refund(), "nothing_captured"),
        (
            order(*EXPIRED, collected(1000), captured(CASH, late=True)),
            refund(),
            [RefundRequested(
                refund_id=REFUND_ID, order_id=FEE, visit_id="v1", kind="visit_fee", reason="missed",
                amount_fen=1000, legs=(CASH,),
            )],
        ),
    ],
    ids=["all legs", "once", "never again", "unpaid", "unknown", "§16 of a late capture the cash alone"],
)
def test_what_goes_back_is_what_the_order_says(paid: Order, before: Refund, then: list[object] | str) -> None:
    if isinstance(then, str):
        with pytest.raises(Refusal, match=then):
            refunds.request_refund(COMMAND, before, paid)
    else:
        assert refunds.request_refund(COMMAND, before, paid) == then


def test_a_closed_refund_number_is_used_up_and_no_other() -> None:
    state = refund(REQUESTED, failed("cash", "NOT_ENOUGH"), retried("cash"))
    assert state.leg("cash").number == 1
    state = refund(REQUESTED, failed("cash", "CLOSED"), retried("cash"))
    assert (state.leg("cash").number, state.leg("cash").status) == (2, "pending")
