"""Giving back exactly what was paid, leg by leg, once (§16): an aggregate of attempts, one an order.

Accepted is not done: a leg has succeeded only when its provider says so. A leg that asking again cannot bring back
waits for a person, and is then tried alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from services.payment.domain.order import Order
from services.payment.events import (
    LegName,
    RefundFailed,
    RefundLegAttempted,
    RefundLegResolved,
    RefundLegRetried,
    RefundLegSucceeded,
    RefundReason,
    RefundRequested,
    RefundSucceeded,
    Refusal,
    ResolveReason,
)

Event = object
LegStatus = Literal["pending", "accepted", "succeeded", "failed", "resolved"]
BACK = ("succeeded", "resolved")
CLOSED = "CLOSED"  # the provider ended a refund without paying it: its number is used up
ABNORMAL = "ABNORMAL"  # the account that paid takes nothing: only another account helps


@dataclass(frozen=True, slots=True)
class RefundLeg:
    """`retries` counts how often a person sent it again, `number` the refund numbers used: 1, and one more for each
    that the provider closed without paying. `resolved`: a person ended it, and `code` is the reason."""

    leg: LegName
    amount_fen: int
    status: LegStatus = "pending"
    last: str = ""
    code: str = ""
    retries: int = 0
    number: int = 1


@dataclass(frozen=True, slots=True)
class Refund:
    requested: RefundRequested | None = None
    legs: tuple[RefundLeg, ...] = ()

    @property
    def status(self) -> Literal["unknown", "requested", "stuck", "succeeded"]:
        if self.requested is None:
            return "unknown"
        if any(leg.status == "failed" for leg in self.legs):
            return "stuck"
        return "succeeded" if all(leg.status in BACK for leg in self.legs) else "requested"

    def leg(self, name: LegName) -> RefundLeg:
        """Raises Refusal `not_found`."""
        for leg in self.legs:
            if leg.leg == name:
                return leg
        raise Refusal("not_found")


def evolve(refund: Refund, event: Event) -> Refund:
    match event:
        case RefundRequested(legs=legs):
            return Refund(event, tuple(RefundLeg(leg.leg, leg.amount_fen) for leg in legs))
        case RefundLegAttempted(leg=name, outcome=outcome, code=code):
            status = "accepted" if outcome == "accepted" else refund.leg(name).status
            return _with(refund, name, last=f"{outcome} {code}".strip(), status=status)
        case RefundLegSucceeded(leg=name):
            return _with(refund, name, status="succeeded", code="")
        case RefundLegResolved(leg=name, reason=reason):
            return _with(refund, name, status="resolved", code=reason)
        case RefundFailed(leg=name, code=code):
            return _with(refund, name, status="failed", code=code)
        case RefundLegRetried(leg=name, way=way):
            leg = refund.leg(name)
            return _with(
                refund,
                name,
                status="accepted" if way == "bank_card" else "pending",
                last="",
                retries=leg.retries + 1,
                number=leg.number + (leg.code == CLOSED),
            )
        case _:
            return refund


def _with(refund: Refund, name: LegName, **changes: object) -> Refund:
    legs = tuple(replace(leg, **changes) if leg.leg == name else leg for leg in refund.legs)  # type: ignore[arg-type]
    return replace(refund, legs=legs)


@dataclass(frozen=True, slots=True)
class RequestRefund:
    refund_id: str
    order_id: str
    reason: RefundReason


def request_refund(command: RequestRefund, refund: Refund, order: Order) -> list[Event]:
    """What goes back is what the order's own log says was captured, whatever the caller believes; once. Raises Refusal
    `nothing_captured`."""
    if refund.requested is not None:
        return []
    paid = order.captured
    if paid is None:
        raise Refusal("nothing_captured")
    return [
        RefundRequested(
            refund_id=command.refund_id,
            order_id=command.order_id,
            visit_id=paid.visit_id,
            kind=paid.kind,
            reason=command.reason,
            amount_fen=paid.amount_fen,
            legs=paid.legs,
        )
    ]


@dataclass(frozen=True, slots=True)
class RecordAttempt:
    leg: LegName
    outcome: Literal["accepted", "unanswered"]
    code: str = ""


def record_attempt(command: RecordAttempt, refund: Refund) -> list[Event]:
    """Only what differs from the last attempt is written: an outage of hours is one event, not thousands."""
    leg = refund.leg(command.leg)
    if refund.requested is None or leg.status in (*BACK, "failed"):
        return []
    if leg.last == f"{command.outcome} {command.code}".strip():
        return []
    return [
        RefundLegAttempted(
            refund_id=refund.requested.refund_id, leg=command.leg, outcome=command.outcome, code=command.code
        )
    ]


@dataclass(frozen=True, slots=True)
class RecordSuccess:
    """The provider has given back these legs, in fen: the insurer both of its own at once."""

    amounts: tuple[tuple[LegName, int], ...]


def record_success(command: RecordSuccess, refund: Refund) -> list[Event]:
    """Told again it changes nothing; told after a failure it still counts. Told after a person ended the leg it is not
    counted twice: the statement of the day shows it to people. Raises Refusal `refund_mismatch` for an
    amount that was not asked for, `not_found`."""
    if refund.requested is None:
        raise Refusal("not_found")
    requested = refund.requested
    events: list[Event] = []
    for name, amount_fen in command.amounts:
        leg = refund.leg(name)
        if leg.amount_fen != amount_fen:
            raise Refusal("refund_mismatch")
        if leg.status not in BACK:
            events.append(
                RefundLegSucceeded(
                    refund_id=requested.refund_id,
                    order_id=requested.order_id,
                    visit_id=requested.visit_id,
                    leg=name,
                    amount_fen=amount_fen,
                )
            )
    return [*events, *_done(requested, refund, events)]


def _done(requested: RefundRequested, refund: Refund, events: list[Event]) -> list[Event]:
    """RefundSucceeded, when these events bring the last leg back."""
    for event in events:
        refund = evolve(refund, event)
    if not events or refund.status != "succeeded":
        return []
    return [
        RefundSucceeded(
            refund_id=requested.refund_id,
            order_id=requested.order_id,
            visit_id=requested.visit_id,
            kind=requested.kind,
            amount_fen=requested.amount_fen,
            legs=requested.legs,
        )
    ]


@dataclass(frozen=True, slots=True)
class RecordFailure:
    """These legs do not come back by asking again."""

    legs: tuple[LegName, ...]
    code: str


def record_failure(command: RecordFailure, refund: Refund) -> list[Event]:
    if refund.requested is None:
        raise Refusal("not_found")
    requested = refund.requested
    return [
        RefundFailed(
            refund_id=requested.refund_id,
            order_id=requested.order_id,
            visit_id=requested.visit_id,
            leg=name,
            code=command.code,
        )
        for name in command.legs
        if refund.leg(name).status in ("pending", "accepted")
    ]


@dataclass(frozen=True, slots=True)
class RetryRefund:
    """A person sends the failed legs again; `bank_card` when the provider was given another card to pay the cash to."""

    cashier: str
    bank_card: bool = False


def retry_refund(command: RetryRefund, refund: Refund) -> list[Event]:
    """Only the failed legs: the others have come back or are on their way (§16). A leg that needs a bank card stays
    failed without one. Raises Refusal `not_found`, `nothing_to_retry`, `bank_card_needed`."""
    if refund.requested is None:
        raise Refusal("not_found")
    failed = [leg for leg in refund.legs if leg.status == "failed"]
    if not failed:
        raise Refusal("nothing_to_retry")
    if not command.bank_card:
        failed = [leg for leg in failed if not needs_bank_card(leg)]
        if not failed:
            raise Refusal("bank_card_needed")
    return [
        RefundLegRetried(
            refund_id=refund.requested.refund_id,
            leg=leg.leg,
            cashier=command.cashier,
            way="bank_card" if needs_bank_card(leg) else "again",
        )
        for leg in failed
    ]


@dataclass(frozen=True, slots=True)
class ResolveRefund:
    """A person ends what cannot come back by the way it was paid."""

    leg: LegName
    cashier: str
    reason: ResolveReason
    note: str


def resolve_refund(command: ResolveRefund, refund: Refund) -> list[Event]:
    """One failed leg, for good: it counts as given back, once. Raises Refusal `not_found`, `nothing_to_retry` for a leg
    that is back, on its way, or already ended by a person."""
    if refund.requested is None:
        raise Refusal("not_found")
    leg = refund.leg(command.leg)
    if leg.status != "failed":
        raise Refusal("nothing_to_retry")
    requested = refund.requested
    events: list[Event] = [
        RefundLegResolved(
            refund_id=requested.refund_id,
            order_id=requested.order_id,
            visit_id=requested.visit_id,
            leg=leg.leg,
            amount_fen=leg.amount_fen,
            cashier=command.cashier,
            reason=command.reason,
            note=command.note,
        )
    ]
    return [*events, *_done(requested, refund, events)]


def refund_number(refund_id: str, number: int) -> str:
    """One number for all attempts; another only after the provider has closed the last one without paying."""
    return refund_id if number == 1 else f"{refund_id}@{number}"


def refund_of_number(number: str) -> str:
    return number.partition("@")[0]


def needs_bank_card(leg: RefundLeg) -> bool:
    return leg.status == "failed" and leg.leg == "cash" and leg.code == ABNORMAL
