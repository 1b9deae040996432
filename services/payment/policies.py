"""What the others did → what the payment service does about it. Group `payment.policies`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from eventkit.envelope import Envelope
from eventkit.inbox import request_for
from services.payment.domain.order import OpenOrder, SettleOffline
from services.payment.events import Leg
from services.payment.handlers import Handlers, fee_order_id, prescription_order_id
from services.payment.read_model import ReadModel

GROUP = "payment.policies"
Handler = Callable[[Envelope], None]


def inboxes(handlers: Handlers, read_model: ReadModel) -> dict[str, dict[str, Handler]]:
    def visit_requested(event: Envelope) -> None:
        data = event.data
        handlers.open_order(request_for(GROUP, event), OpenOrder(
            order_id=fee_order_id(data["visit_id"]),
            visit_id=data["visit_id"],
            patient_id=data["patient_id"],
            account_id=data["account_id"],
            kind="visit_fee",
            card_kind=data["card_kind"],
            card_id=data["card_id"],
            title=data["title"],
            amount_fen=data["fee_fen"],
            expires_at=datetime.fromisoformat(data["hold_until"]),
        ))

    def prescription_issued(event: Envelope) -> None:
        data = event.data
        handlers.open_order(request_for(GROUP, event), OpenOrder(
            order_id=prescription_order_id(data["prescription_id"]),
            visit_id=data["visit_id"],
            patient_id=data["patient_id"],
            account_id=data["account_id"],
            kind="prescription",
            prescription_id=data["prescription_id"],
            card_kind=data["card_kind"],
            amount_fen=data["amount_fen"],
            expires_at=datetime.fromisoformat(data["valid_until"]),
        ))

    def visit_ended(event: Envelope) -> None:
        handlers.close(request_for(GROUP, event), fee_order_id(event.data["visit_id"]))

    def prescription_ended(event: Envelope) -> None:
        handlers.close(request_for(GROUP, event), prescription_order_id(event.data["prescription_id"]))

    def prescription_settled(event: Envelope) -> None:
        data = event.data
        handlers.settle_offline(request_for(GROUP, event), SettleOffline(
            order_id=prescription_order_id(data["prescription_id"]),
            visit_id=data["visit_id"],
            prescription_id=data["prescription_id"],
            settlement_id=data["settlement_id"],
            amount_fen=data["amount_fen"],
            legs=tuple(Leg(leg["leg"], leg["amount_fen"]) for leg in data["legs"]),
            settled_at=datetime.fromisoformat(data["settled_at"]),
        ))

    def refund_due(event: Envelope) -> None:
        handlers.request_refund(request_for(GROUP, event), event.data["order_id"], event.data["reason"])

    def consult_finished(event: Envelope) -> None:
        read_model.earn(fee_order_id(event.data["visit_id"]), "visit_fee", event)

    def prescription_dispensed(event: Envelope) -> None:
        read_model.earn(prescription_order_id(event.data["prescription_id"]), "prescription", event)

    return {
        GROUP: {
            "VisitRequested": visit_requested,
            "VisitLapsed": visit_ended,
            "VisitWithdrawn": visit_ended,
            "PrescriptionIssued": prescription_issued,
            "PrescriptionVoided": prescription_ended,
            "PrescriptionExpired": prescription_ended,
            "PrescriptionSettled": prescription_settled,
            "RefundDue": refund_due,
            "ConsultFinished": consult_finished,
            "PrescriptionDispensed": prescription_dispensed,
        }
    }
