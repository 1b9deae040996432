"""`payment.refunds`: which orders must be refunded (§16, §18, §19, §24, §27, §29).

A fee that was paid goes back when its visit ends without care, and drugs that were paid when their prescription is
voided, for nobody will dispense them; money that came after an order's end goes back whatever it was for. Payments and
ends stand on different topics, so either may be seen first; each order is due once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from eventkit.envelope import Envelope
from eventkit.streams import Output, Processor

DUE = "org.fuzhen.payment.RefundDue.v1"


@dataclass(frozen=True, slots=True)
class Paid:
    """What was captured of an order."""

    kind: str
    amount_fen: int
    legs: tuple[tuple[str, int], ...]
    late: bool
    prescription_id: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit's payments and its end. `ended` is why its fee goes back, `closed` why an order took no more money,
    `voided` are prescriptions that will never be dispensed, `due` the orders whose refund has been derived."""

    ended: str = ""
    paid: dict[str, Paid] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)
    due: tuple[str, ...] = ()
    voided: tuple[str, ...] = ()


def derive(state: Visit | None, event: Envelope) -> tuple[Visit, list[Output]]:
    visit = _seen(state or Visit(), event)
    outputs = []
    for order_id, paid in visit.paid.items():
        if order_id in visit.due or not (reason := _reason(visit, order_id, paid)):
            continue
        visit = replace(visit, due=(*visit.due, order_id))
        outputs.append(_due(event, order_id, paid, reason))
    return visit, outputs


def _seen(visit: Visit, event: Envelope) -> Visit:
    data = event.data
    match event.name:
        case "PaymentCaptured":
            legs = tuple((leg["leg"], leg["amount_fen"]) for leg in data["legs"])
            paid = Paid(data["kind"], data["amount_fen"], legs, data["late"], data.get("prescription_id", ""))
            return replace(visit, paid={**visit.paid, data["order_id"]: paid})
        case "PaymentExpired":
            return replace(visit, closed={**visit.closed, data["order_id"]: "expired"})
        case "OrderSettledOffline":
            return replace(visit, closed={**visit.closed, data["order_id"]: "settled_offline"})
        case "PrescriptionVoided":
            return replace(visit, voided=(*visit.voided, data["prescription_id"]))
    if not visit.ended and (reason := _end(event)):
        return replace(visit, ended=reason)
    return visit


def _end(event: Envelope) -> str:
    match event.name:
        case "VisitWithdrawn" | "ConsultCancelled":
            return str(event.data["reason"])
        case "VisitLapsed":
            return "lapsed"
        case "ConsultMissed":
            return "missed"
        case "ConsultDeclined":
            return "declined"
        case "ConsultAbandoned":
            return "silent"
        case _:
            return ""


def _reason(visit: Visit, order_id: str, paid: Paid) -> str:
    if paid.late:  # its end stands before it on the same topic
        return visit.closed.get(order_id, "expired")
    if paid.kind == "visit_fee":
        return visit.ended
    return "voided" if paid.prescription_id in visit.voided else ""


def _due(event: Envelope, order_id: str, paid: Paid, reason: str) -> Output:
    return Output(
        type=DUE,
        subject=order_id,
        cause=("refund-due", order_id),
        data={
            "order_id": order_id,
            "visit_id": event.data["visit_id"],
            "kind": paid.kind,
            "reason": reason,
            "amount_fen": paid.amount_fen,
            "legs": [{"leg": leg, "amount_fen": fen} for leg, fen in paid.legs],
        },
    )


refunds = Processor(
    app_id="payment.refunds",
    sources=("registration.visit.v1", "consult.consult.v1", "pharmacy.prescription.v1", "payment.order.v1"),
    output_topic="payment.refund-due.v1",
    state=Visit,
    derive=derive,
)
