"""What others' events make registration do. No partner is called here: what must be told goes out by a job."""

from __future__ import annotations

from collections.abc import Mapping

from eventkit.envelope import Envelope
from eventkit.inbox import Handler, request_for
from services.registration.handlers.messages import Messages
from services.registration.handlers.visits import Visits

POLICIES = "registration.policies"
NOTICES = "registration.notices"
VISIT_FEE = "visit_fee"
PRESCRIPTION = "prescription"
OUT_FOR_DELIVERY = "out_for_delivery"


def inboxes(visits: Visits, messages: Messages) -> Mapping[str, Mapping[str, Handler]]:
    return {POLICIES: _policies(visits), NOTICES: _notices(messages)}


def _policies(visits: Visits) -> Mapping[str, Handler]:
    def captured(envelope: Envelope) -> None:
        """§11; of a prescription's payment registration knows nothing."""
        data = envelope.data
        if data["kind"] == VISIT_FEE:
            visits.complete(request_for(POLICIES, envelope), data["visit_id"], data["order_id"], late=data["late"])

    def expired(envelope: Envelope) -> None:
        """§10: payment says when a hold is over, so that a payment in the last second wins."""
        if envelope.data["kind"] == VISIT_FEE:
            visits.lapse(request_for(POLICIES, envelope), envelope.data["visit_id"], "unpaid")

    def withdrawn(reason: str) -> Handler:
        return lambda envelope: visits.withdraw(request_for(POLICIES, envelope), envelope.data["visit_id"], reason)

    def refused(envelope: Envelope) -> None:
        """§5 at payment and at acceptance; at booking there is no visit yet."""
        data = envelope.data
        if data["checkpoint"] != "booking":
            visits.turn_ineligible(request_for(POLICIES, envelope), data["visit_id"], data["checkpoint"])

    return {
        "PaymentCaptured": captured,
        "PaymentExpired": expired,
        "ConsultMissed": withdrawn("missed"),  # §18
        "ConsultDeclined": withdrawn("declined"),  # §19
        "ConsultAbandoned": withdrawn("silent"),  # §27
        "ConsultAccepted": lambda envelope: visits.accept(request_for(POLICIES, envelope), envelope.data["visit_id"]),
        "ConsultFinished": lambda envelope: visits.finish(request_for(POLICIES, envelope), envelope.data["visit_id"]),
        "EligibilityRefused": refused,
    }


def _notices(messages: Messages) -> Mapping[str, Handler]:
    def tell(template: str) -> Handler:
        return lambda envelope: messages.plan(request_for(NOTICES, envelope), envelope, template)

    def tell_reason(template: str) -> Handler:
        return lambda envelope: messages.plan(
            request_for(NOTICES, envelope), envelope, f"{template}.{envelope.data['reason']}"
        )

    def session_cancelled(envelope: Envelope) -> None:
        """§29; each of its visits is told by VisitWithdrawn."""
        messages.end_waiting(request_for(NOTICES, envelope), envelope)

    def closed(envelope: Envelope) -> None:
        """§23: of a visit's fee nobody is reminded."""
        data = envelope.data
        if data.get("kind", PRESCRIPTION) == PRESCRIPTION:
            messages.close_order(request_for(NOTICES, envelope), data["prescription_id"])

    def parcel_moved(envelope: Envelope) -> None:
        """§21: of its way only the last part asks for something."""
        if envelope.data["status"] == OUT_FOR_DELIVERY:
            tell("parcel_out")(envelope)

    def refunded(envelope: Envelope) -> None:
        amount = envelope.data["amount_fen"]
        yuan = f"{amount // 100}.{amount % 100:02d}"
        messages.plan(request_for(NOTICES, envelope), envelope, "refund_succeeded", amount=yuan)

    return {
        "VisitBooked": tell("visit_booked"),
        "VisitLapsed": tell_reason("visit_lapsed"),
        "VisitWithdrawn": tell_reason("visit_withdrawn"),
        "SessionCancelled": session_cancelled,
        "ConsultAccepted": lambda envelope: messages.plan_accepted(request_for(NOTICES, envelope), envelope),
        "RefundSucceeded": refunded,
        "PrescriptionIssued": lambda envelope: messages.open_order(request_for(NOTICES, envelope), envelope),
        "PrescriptionVoided": closed,
        "PrescriptionExpired": tell("order_expired"),
        "PaymentCaptured": closed,
        "OrderSettledOffline": closed,
        "ParcelHandedOver": tell("parcel_handed_over"),
        "ParcelMoved": parcel_moved,
        "ParcelDelivered": tell("parcel_delivered"),
        "ParcelReturned": tell("parcel_returned"),
    }
