"""What the payment service writes down. Events with a topic are the contract of `events/schemas/payment`; the others
are private to this log. Amounts are integer fen, instants UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from eventkit.events import Refusal, Registry

__all__ = ["Refusal"]

registry = Registry("payment")
ORDER_TOPIC = "payment.order.v1"
REFUND_TOPIC = "payment.refund.v1"

LegName = Literal["fund", "account", "cash"]
Kind = Literal["visit_fee", "prescription"]
CardKind = Literal["beijing_insured", "other_insured", "uninsured"]
RefundReason = Literal[
    "missed", "declined", "silent", "patient", "session_cancelled", "ineligible", "lapsed", "expired",
    "settled_offline", "voided",
]


ResolveReason = Literal["paid_by_hand", "already_back"]
DisputeDecision = Literal["desk_gives_back", "online_goes_back"]
Party = Literal["wechatpay", "insurer"]
What = Literal["payment", "refund"]
MovementState = Literal["done", "pending", "failed", "by_hand"]
DifferenceKind = Literal["only_ours", "only_theirs", "amount_differs", "state_differs"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One payer's part of an amount: the insurance fund, the patient's personal account with it, the patient."""

    leg: LegName
    amount_fen: int


Legs = tuple[Leg, ...]


# --- the order


@registry.event("OrderOpened")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOpened:
    """Somebody owes an amount; how it is split is asked before payment is requested. `decomposed` says that an insurer
    is asked (§13). `title` and `card_id` are what the insurer needs for that."""

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
    decomposed: bool
    expires_at: datetime


@registry.event("DecompositionRefused")
@dataclass(frozen=True, slots=True, kw_only=True)
class DecompositionRefused:
    """The insurer does not take this fee; the patient pays all of it (§14)."""

    order_id: str
    code: str


@registry.event("PaymentRequested", topic=ORDER_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequested:
    order_id: str
    visit_id: str
    patient_id: str
    account_id: str
    kind: Kind
    prescription_id: str | None = None
    card_kind: CardKind
    amount_fen: int
    legs: Legs
    decomposition_id: str | None = None
    expires_at: datetime


@registry.event("PrepayCreated")
@dataclass(frozen=True, slots=True, kw_only=True)
class PrepayCreated:
    """The provider may take the cash leg now; from here on it is asked whether it did."""

    order_id: str
    out_trade_no: str
    prepay_id: str


@registry.event("CashCollected")
@dataclass(frozen=True, slots=True, kw_only=True)
class CashCollected:
    """The provider has the patient's part. An order without a cash leg is confirmed by the patient with 0 and no
    transaction. The order is not paid before the insurer has settled its part."""

    order_id: str
    amount_fen: int
    transaction_id: str | None = None
    collected_at: datetime


@registry.event("InsuranceSettled")
@dataclass(frozen=True, slots=True, kw_only=True)
class InsuranceSettled:
    order_id: str
    settlement_id: str
    fund_fen: int
    account_fen: int


@registry.event("InsuranceRefused")
@dataclass(frozen=True, slots=True, kw_only=True)
class InsuranceRefused:
    """The insurer does not pay its part although it had split the fee: the order ends, and what was collected is
    late."""

    order_id: str
    code: str


@registry.event("PaymentCaptured", topic=ORDER_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptured:
    """Once an order. `late`: it came after the order's end, holds the cash leg alone, and is refunded (§16)."""

    order_id: str
    visit_id: str
    kind: Kind
    prescription_id: str | None = None
    amount_fen: int
    legs: Legs
    captured_at: datetime
    late: bool


@registry.event("PaymentExpired", topic=ORDER_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentExpired:
    """The order can no longer be paid: its time is over, or what it was for has ended."""

    order_id: str
    visit_id: str
    kind: Kind
    prescription_id: str | None = None


@registry.event("OrderSettledOffline", topic=ORDER_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettledOffline:
    order_id: str
    visit_id: str
    prescription_id: str
    settlement_id: str
    amount_fen: int
    legs: Legs
    settled_at: datetime


@registry.event("OfflineSettlementDisputed")
@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineSettlementDisputed:
    """The desk took money for an order that was paid online or had ended: people decide who gives back (§23)."""

    order_id: str
    visit_id: str
    prescription_id: str
    settlement_id: str
    amount_fen: int
    legs: Legs
    settled_at: datetime


@registry.event("DisputeResolved")
@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeResolved:
    """A cashier decided who gives back. `note` says why, without names."""

    order_id: str
    settlement_id: str
    decision: DisputeDecision
    cashier: str
    note: str


# --- the refund


@registry.event("RefundRequested", topic=REFUND_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequested:
    refund_id: str
    order_id: str
    visit_id: str
    kind: Kind
    reason: RefundReason
    amount_fen: int
    legs: Legs


@registry.event("RefundLegAttempted")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLegAttempted:
    """What came of asking for a leg, written when it differs from what came last. `code` is the provider's word."""

    refund_id: str
    leg: LegName
    outcome: Literal["accepted", "unanswered"]
    code: str = ""


@registry.event("RefundLegSucceeded")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLegSucceeded:
    refund_id: str
    order_id: str
    visit_id: str
    leg: LegName
    amount_fen: int


@registry.event("RefundFailed", topic=REFUND_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFailed:
    """A leg does not come back by asking again; it waits for a person. The other legs go their own way."""

    refund_id: str
    order_id: str
    visit_id: str
    leg: LegName
    code: str


@registry.event("RefundLegRetried")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLegRetried:
    """A cashier sent a failed leg on its way again. `way` bank_card: the provider was told a card to pay to instead."""

    refund_id: str
    leg: LegName
    cashier: str
    way: Literal["again", "bank_card"]


@registry.event("RefundLegResolved")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLegResolved:
    """A cashier ended a failed leg that the provider or the insurer will not give back: the hospital paid it another
    way (`paid_by_hand`), or the other side's books show it back (`already_back`). `note` says how, without names."""

    refund_id: str
    order_id: str
    visit_id: str
    leg: LegName
    amount_fen: int
    cashier: str
    reason: ResolveReason
    note: str


@registry.event("RefundSucceeded", topic=REFUND_TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundSucceeded:
    refund_id: str
    order_id: str
    visit_id: str
    kind: Kind
    amount_fen: int
    legs: Legs


# --- the daily comparison with the provider's and the insurer's statements, all private


@dataclass(frozen=True, slots=True)
class Movement:
    """One leg that moved or is on its way, as one side books it. `number` is what both sides call it: the order's id
    for a payment, the refund's number for a refund. `order_id` is empty where theirs is none of ours. `by_hand`: the
    hospital gave it back another way."""

    party: Party
    what: What
    leg: LegName
    number: str
    amount_fen: int
    state: MovementState
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class StatedTotal:
    """What a statement sums up to: lines and fen."""

    party: str
    what: str
    lines: int
    amount_fen: int


@registry.event("ReconciliationBegun")
@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationBegun:
    """From this day on, each day is compared. A day is `YYYY-MM-DD` in Asia/Shanghai."""

    day: str


@registry.event("DayReconciled")
@dataclass(frozen=True, slots=True, kw_only=True)
class DayReconciled:
    """The statements of the day were compared. `agreed` counts the legs that are the same on both sides."""

    day: str
    stated: tuple[StatedTotal, ...]
    agreed: int


@registry.event("DifferenceFound")
@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceFound:
    day: str
    difference_id: str
    kind: DifferenceKind
    party: Party
    what: What
    leg: LegName
    number: str
    order_id: str
    ours_fen: int | None = None
    theirs_fen: int | None = None
    ours_state: MovementState | None = None
    theirs_state: MovementState | None = None


@registry.event("DifferenceCured")
@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceCured:
    """The other side was asked, and what it said was written down or agrees. `how` is a code."""

    day: str
    difference_id: str
    how: str


@registry.event("DifferenceResolved")
@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceResolved:
    """A cashier has seen to it; `note` says how, without names."""

    day: str
    difference_id: str
    cashier: str
    note: str
