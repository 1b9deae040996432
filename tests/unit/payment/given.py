"""Facts that the tests of the payment service start from: one visit of 50.00, one prescription of 80.00."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce

from services.payment.domain import order as orders
from services.payment.domain import refund as refunds
from services.payment.domain.order import OpenOrder, Order
from services.payment.domain.refund import Refund
from services.payment.events import (
    CashCollected,
    InsuranceSettled,
    Leg,
    OrderOpened,
    PaymentCaptured,
    PaymentExpired,
    PaymentRequested,
    PrepayCreated,
    RefundRequested,
)

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
HOLD = NOW + timedelta(minutes=15)
LATER = HOLD + timedelta(minutes=5)
FEE, RX = "fee-v1", "rx-p1"
FUND, CASH, ALL_CASH, DRUGS = Leg("fund", 4000), Leg("cash", 1000), Leg("cash", 5000), Leg("cash", 8000)

OPEN_FEE = OpenOrder(
    order_id=FEE, visit_id="v1", patient_id="pt1", account_id="acc1", kind="visit_fee", card_kind="beijing_insured",
    card_id="card1", title="ordinary", amount_fen=5000, expires_at=HOLD,
)
OPEN_RX = OpenOrder(
    order_id=RX, visit_id="v1", patient_id="pt1", account_id="acc1", kind="prescription", prescription_id="p1",
    card_kind="beijing_insured", amount_fen=8000, expires_at=NOW + timedelta(days=3),
)


def opened(command: OpenOrder = OPEN_FEE) -> OrderOpened:
    events = orders.open_order(command, Order())
    assert isinstance(events[0], OrderOpened)
    return events[0]


def requested(*legs: Leg, command: OpenOrder = OPEN_FEE, decomposition_id: str | None = None) -> PaymentRequested:
    return PaymentRequested(
        order_id=command.order_id, visit_id="v1", patient_id="pt1", account_id="acc1", kind=command.kind,
        prescription_id=command.prescription_id, card_kind=command.card_kind, amount_fen=command.amount_fen,
        legs=legs, decomposition_id=decomposition_id, expires_at=command.expires_at,
    )


def captured(*legs: Leg, late: bool = False, command: OpenOrder = OPEN_FEE) -> PaymentCaptured:
    return PaymentCaptured(
        order_id=command.order_id, visit_id="v1", kind=command.kind, prescription_id=command.prescription_id,
        amount_fen=sum(leg.amount_fen for leg in legs), legs=legs, captured_at=NOW, late=late,
    )


def expired(command: OpenOrder = OPEN_FEE) -> PaymentExpired:
    return PaymentExpired(
        order_id=command.order_id, visit_id="v1", kind=command.kind, prescription_id=command.prescription_id
    )


def collected(amount_fen: int, transaction_id: str | None = "t1", order_id: str = FEE) -> CashCollected:
    return CashCollected(
        order_id=order_id, amount_fen=amount_fen, transaction_id=transaction_id, collected_at=NOW
    )


INSURED = (opened(), requested(FUND, CASH, decomposition_id="d1"))
PREPAID = (*INSURED, PrepayCreated(order_id=FEE, out_trade_no="n1", prepay_id="wx1"))
CONFIRMING = (*PREPAID, collected(1000))
SETTLED = InsuranceSettled(order_id=FEE, settlement_id="s1", fund_fen=4000, account_fen=0)
PAID = (*CONFIRMING, SETTLED, captured(FUND, CASH))
EXPIRED = (*PREPAID, expired())
RX_AWAITING = (opened(OPEN_RX), requested(DRUGS, command=OPEN_RX))
RX_PAID = (*RX_AWAITING, collected(8000, order_id=RX), captured(DRUGS, command=OPEN_RX))
RX_EXPIRED = (*RX_AWAITING, expired(OPEN_RX))

REFUND_ID = "rf-fee-v1"
REQUESTED = RefundRequested(
    refund_id=REFUND_ID, order_id=FEE, visit_id="v1", kind="visit_fee", reason="missed", amount_fen=5000,
    legs=(FUND, CASH),
)


def order(*events: object) -> Order:
    return reduce(orders.evolve, events, Order())


def refund(*events: object) -> Refund:
    return reduce(refunds.evolve, events, Refund())
