"""One amount that somebody owes: from what is asked to what was paid, once and by one way (§11-§16, §23).

The order's stream decides every race: between the patient's payment and the end of the hold, between WeChat and the
desk, between the notice and the query. Whatever comes after its end is late, and late money goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from services.payment.events import (
    CardKind,
    CashCollected,
    DecompositionRefused,
    DisputeDecision,
    DisputeResolved,
    InsuranceRefused,
    InsuranceSettled,
    Kind,
    Leg,
    Legs,
    OfflineSettlementDisputed,
    OrderOpened,
    OrderSettledOffline,
    PaymentCaptured,
    PaymentExpired,
    PaymentRequested,
    PrepayCreated,
    Refusal,
)

Status = Literal["unknown", "opening", "awaiting_payment", "confirming", "paid", "expired", "settled_offline"]
Event = object


@dataclass(frozen=True, slots=True)
class Order:
    """`unknown` until it is opened; `confirming` while the insurer settles its part of what the patient has paid.
    `captured` stands beside an end (`expired`, `settled_offline`) when the money was late. `disputed` are the desk's
    settlements that must not stand beside ours, `decided` those of them that people have seen to."""

    status: Status = "unknown"
    opened: OrderOpened | None = None
    legs: Legs = ()
    decomposition_id: str | None = None
    prepaid: bool = False
    collected: CashCollected | None = None
    insurance_settlement_id: str | None = None
    captured: PaymentCaptured | None = None
    settled_offline: OrderSettledOffline | None = None
    disputed: frozenset[str] = field(default=frozenset())
    decided: frozenset[str] = field(default=frozenset())

    @property
    def cash_fen(self) -> int:
        return amount_of(self.legs, "cash")

    @property
    def insured_fen(self) -> int:
        return sum(leg.amount_fen for leg in self.legs if leg.leg != "cash")


def amount_of(legs: Legs, name: str) -> int:
    return sum(leg.amount_fen for leg in legs if leg.leg == name)


def evolve(order: Order, event: Event) -> Order:
    match event:
        case OrderOpened():
            status: Status = "opening" if order.status == "unknown" else order.status
            return replace(order, status=status, opened=event)
        case PaymentRequested(legs=legs, decomposition_id=decomposition_id):
            return replace(order, status="awaiting_payment", legs=legs, decomposition_id=decomposition_id)
        case PrepayCreated():
            return replace(order, prepaid=True)
        case CashCollected():
            status = "confirming" if order.status == "awaiting_payment" else order.status
            return replace(order, status=status, collected=event)
        case InsuranceSettled(settlement_id=settlement_id):
            return replace(order, insurance_settlement_id=settlement_id)
        case PaymentCaptured(late=late):
            return replace(order, status=order.status if late else "paid", captured=event)
        case PaymentExpired():
            return replace(order, status="expired")
        case OrderSettledOffline():
            return replace(order, status="settled_offline", settled_offline=event)
        case OfflineSettlementDisputed(settlement_id=settlement_id):
            return replace(order, disputed=order.disputed | {settlement_id})
        case DisputeResolved(settlement_id=settlement_id):
            return replace(order, decided=order.decided | {settlement_id})
        case _:
            return order


# --- opening


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    order_id: str
    visit_id: str
    patient_id: str
    account_id: str
    kind: Kind
    prescription_id: str | None = None
    card_kind: CardKind
    card_id: str | None = None
    title: str | None = None
    amount_fen: int
    expires_at: datetime


def open_order(command: OpenOrder, order: Order) -> list[Event]:
    """Online the insurer is asked for the medical service fee of the Beijing-insured alone; all else is self-pay
    (§13, §14). The desk may have been faster than the news of the prescription: then only the owner is noted."""
    if order.opened is not None:
        return []
    decomposed = command.kind == "visit_fee" and command.card_kind == "beijing_insured"
    opened = OrderOpened(
        order_id=command.order_id,
        visit_id=command.visit_id,
        patient_id=command.patient_id,
        account_id=command.account_id,
        kind=command.kind,
        prescription_id=command.prescription_id,
        card_kind=command.card_kind,
        card_id=command.card_id,
        title=command.title,
        amount_fen=command.amount_fen,
        decomposed=decomposed,
        expires_at=command.expires_at,
    )
    if decomposed or order.status != "unknown":
        return [opened]
    return [opened, _requested(opened, (Leg("cash", command.amount_fen),))]


@dataclass(frozen=True, slots=True)
class RequestPayment:
    """The insurer's split, in fen."""

    decomposition_id: str
    fund_fen: int
    account_fen: int
    self_fen: int


def request_payment(command: RequestPayment, order: Order) -> list[Event]:
    """Raises Refusal `unbalanced` when the insurer's parts are not the amount."""
    if order.status != "opening" or order.opened is None:
        return []
    parts = (Leg("fund", command.fund_fen), Leg("account", command.account_fen), Leg("cash", command.self_fen))
    if any(leg.amount_fen < 0 for leg in parts) or sum(leg.amount_fen for leg in parts) != order.opened.amount_fen:
        raise Refusal("unbalanced")
    legs = tuple(leg for leg in parts if leg.amount_fen)
    return [_requested(order.opened, legs, command.decomposition_id)]


@dataclass(frozen=True, slots=True)
class RequestSelfPayment:
    """The insurer refused the fee or the card, with this code."""

    code: str


def request_self_payment(command: RequestSelfPayment, order: Order) -> list[Event]:
    """A card that insurance does not take is treated as §14 treats the uninsured: self-pay, and why is kept."""
    if order.status != "opening" or order.opened is None:
        return []
    opened = order.opened
    return [
        DecompositionRefused(order_id=opened.order_id, code=command.code),
        _requested(opened, (Leg("cash", opened.amount_fen),)),
    ]


def _requested(opened: OrderOpened, legs: Legs, decomposition_id: str | None = None) -> PaymentRequested:
    return PaymentRequested(
        order_id=opened.order_id,
        visit_id=opened.visit_id,
        patient_id=opened.patient_id,
        account_id=opened.account_id,
        kind=opened.kind,
        prescription_id=opened.prescription_id,
        card_kind=opened.card_kind,
        amount_fen=opened.amount_fen,
        legs=legs,
        decomposition_id=decomposition_id,
        expires_at=opened.expires_at,
    )


# --- paying


def must_be_payable(order: Order, now: datetime) -> OrderOpened:
    """Raises Refusal: `not_found`, `not_ready`, `already_paid`, `payment_expired`, `settled_offline`."""
    if order.opened is None:
        raise Refusal("not_found")
    match order.status:
        case "awaiting_payment" if now < order.opened.expires_at:
            return order.opened
        case "opening" if now < order.opened.expires_at:
            raise Refusal("not_ready")
        case "confirming" | "paid":
            raise Refusal("already_paid")
        case "settled_offline":
            raise Refusal("settled_offline")
        case _:
            raise Refusal("payment_expired")


@dataclass(frozen=True, slots=True)
class RecordPrepay:
    out_trade_no: str
    prepay_id: str


def record_prepay(command: RecordPrepay, order: Order, now: datetime) -> list[Event]:
    """Refuses as `must_be_payable`: the provider may have answered after the order's end."""
    opened = must_be_payable(order, now)
    return [PrepayCreated(order_id=opened.order_id, out_trade_no=command.out_trade_no, prepay_id=command.prepay_id)]


def confirm_without_cash(order: Order, now: datetime) -> list[Event]:
    """Insurance pays all of it: the patient confirms, and there is nothing for the provider to take."""
    opened = must_be_payable(order, now)
    if order.cash_fen:
        raise Refusal("cash_due")
    return [CashCollected(order_id=opened.order_id, amount_fen=0, collected_at=now)]


@dataclass(frozen=True, slots=True)
class RecordCashCapture:
    """The provider says that it took the money, by notice or when asked."""

    transaction_id: str
    amount_fen: int
    captured_at: datetime


def record_cash_capture(command: RecordCashCapture, order: Order) -> list[Event]:
    """The same capture told again changes nothing. Raises Refusal `not_found`, and `capture_mismatch` for an amount or
    a second transaction that this order never asked for."""
    if order.opened is None or not order.legs:
        raise Refusal("not_found")
    if command.amount_fen != order.cash_fen:
        raise Refusal("capture_mismatch")
    if order.collected is not None:
        if order.collected.transaction_id != command.transaction_id:
            raise Refusal("capture_mismatch")
        return []
    opened = order.opened
    collected = CashCollected(
        order_id=opened.order_id,
        amount_fen=command.amount_fen,
        transaction_id=command.transaction_id,
        collected_at=command.captured_at,
    )
    if order.status in ("expired", "settled_offline"):
        return [collected, _captured(order, opened, collected, late=True)]
    if order.insured_fen:
        return [collected]
    return [collected, _captured(order, opened, collected, late=False)]


@dataclass(frozen=True, slots=True)
class RecordInsuranceSettlement:
    settlement_id: str
    fund_fen: int
    account_fen: int


def record_insurance_settlement(command: RecordInsuranceSettlement, order: Order) -> list[Event]:
    """Raises Refusal `unbalanced` when the insurer settled other amounts than it had split."""
    if order.status != "confirming" or order.opened is None or order.collected is None:
        return []
    if (command.fund_fen, command.account_fen) != (amount_of(order.legs, "fund"), amount_of(order.legs, "account")):
        raise Refusal("unbalanced")
    settled = InsuranceSettled(
        order_id=order.opened.order_id,
        settlement_id=command.settlement_id,
        fund_fen=command.fund_fen,
        account_fen=command.account_fen,
    )
    return [settled, _captured(order, order.opened, order.collected, late=False)]


@dataclass(frozen=True, slots=True)
class RecordInsuranceRefusal:
    code: str


def record_insurance_refusal(command: RecordInsuranceRefusal, order: Order) -> list[Event]:
    """The fee was not paid in full and cannot be: the order ends, and what the patient paid goes back (§16)."""
    if order.status != "confirming" or order.opened is None or order.collected is None:
        return []
    opened = order.opened
    events: list[Event] = [InsuranceRefused(order_id=opened.order_id, code=command.code), _expired(opened)]
    if order.collected.amount_fen:
        events.append(_captured(order, opened, order.collected, late=True))
    return events


def _captured(order: Order, opened: OrderOpened, collected: CashCollected, *, late: bool) -> PaymentCaptured:
    """Of late money there is the cash leg alone: the insurer is never asked for its part of an ended order."""
    legs = (Leg("cash", collected.amount_fen),) if late else order.legs
    return PaymentCaptured(
        order_id=opened.order_id,
        visit_id=opened.visit_id,
        kind=opened.kind,
        prescription_id=opened.prescription_id,
        amount_fen=sum(leg.amount_fen for leg in legs),
        legs=legs,
        captured_at=collected.collected_at,
        late=late,
    )


# --- ending


def expire(order: Order, now: datetime) -> list[Event]:
    """The hold, or the three days, are over (§10, §23). Nothing happens to what is paid or has ended; a deadline that
    comes early is refused as `too_early`."""
    if order.opened is not None and now < order.opened.expires_at:
        raise Refusal("too_early")
    return close(order)


def close(order: Order) -> list[Event]:
    """What was to be paid has ended: the visit lapsed or was withdrawn, the prescription is void. What is paid already
    stays paid; `payment.refunds` finds it."""
    if order.status not in ("opening", "awaiting_payment") or order.opened is None:
        return []
    return [_expired(order.opened)]


def _expired(opened: OrderOpened) -> PaymentExpired:
    return PaymentExpired(
        order_id=opened.order_id, visit_id=opened.visit_id, kind=opened.kind, prescription_id=opened.prescription_id
    )


@dataclass(frozen=True, slots=True)
class SettleOffline:
    """The HIS reports that the desk settled a prescription, in the legs that the desk's insurance made of it."""

    order_id: str
    visit_id: str
    prescription_id: str
    settlement_id: str
    amount_fen: int
    legs: Legs
    settled_at: datetime


def settle_offline(command: SettleOffline, order: Order) -> list[Event]:
    """One way only (§23). The desk wins unless the order was paid online before its report came, or it settled after
    the order's end; then the desk's money is disputed. A report that comes late of a settlement made in time still
    counts."""
    if order.settled_offline is not None and order.settled_offline.settlement_id == command.settlement_id:
        return []
    if command.settlement_id in order.disputed:
        return []
    in_time = order.opened is None or command.settled_at < order.opened.expires_at
    free = order.status in ("unknown", "opening", "awaiting_payment") or (order.status == "expired" and in_time)
    kind = OrderSettledOffline if free else OfflineSettlementDisputed
    return [
        kind(
            order_id=command.order_id,
            visit_id=command.visit_id,
            prescription_id=command.prescription_id,
            settlement_id=command.settlement_id,
            amount_fen=command.amount_fen,
            legs=command.legs,
            settled_at=command.settled_at,
        )
    ]


@dataclass(frozen=True, slots=True)
class ResolveDispute:
    settlement_id: str
    decision: DisputeDecision
    cashier: str
    note: str


def resolve_dispute(command: ResolveDispute, order_id: str, order: Order) -> list[Event]:
    """A person decides who gives back (§23): the desk, outside of here, or our payment, which is then refunded. Raises
    Refusal `not_found`, `already_resolved`, `nothing_captured` when there is no payment of ours to give back."""
    if command.settlement_id not in order.disputed:
        raise Refusal("not_found")
    if command.settlement_id in order.decided:
        raise Refusal("already_resolved")
    if command.decision == "online_goes_back" and order.captured is None:
        raise Refusal("nothing_captured")
    return [
        DisputeResolved(
            order_id=order_id,
            settlement_id=command.settlement_id,
            decision=command.decision,
            cashier=command.cashier,
            note=command.note,
        )
    ]
