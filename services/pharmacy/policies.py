"""What other services' events make the pharmacy do."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from eventkit.envelope import Envelope
from eventkit.events import Refusal
from eventkit.inbox import Handler, request_for
from services.pharmacy.events import CareBooked
from services.pharmacy.handlers import Handlers

log = logging.getLogger(__name__)

GROUP = "pharmacy.policies"
WITHDRAWALS = (
    "ConsultDeclined", "ConsultMissed", "ConsultAbandoned", "ConsultCancelled", "VisitWithdrawn",
)  # fmt: skip


def inboxes(handlers: Handlers) -> Mapping[str, Mapping[str, Handler]]:
    def requested(event: Envelope) -> None:
        handlers.note_title(request_for(GROUP, event), event.data["visit_id"], event.data["title"])

    def booked(event: Envelope) -> None:
        data = event.data
        handlers.note_booking(
            request_for(GROUP, event),
            CareBooked(
                data["visit_id"], data["patient_id"], data["account_id"], data["doctor_id"], data["card_kind"]
            ),
        )

    def accepted(event: Envelope) -> None:
        handlers.note_acceptance(request_for(GROUP, event), event.data["visit_id"])

    def finished(event: Envelope) -> None:
        handlers.note_finish(request_for(GROUP, event), event.data["visit_id"])

    def withdrawn(event: Envelope) -> None:
        handlers.withdraw(request_for(GROUP, event), event.data["visit_id"], event.name)

    def captured(event: Envelope) -> None:
        if event.data["kind"] == "prescription" and not event.data["late"]:
            handlers.note_payment(
                request_for(GROUP, event), event.data["prescription_id"], event.data["order_id"]
            )

    def payment_expired(event: Envelope) -> None:
        if event.data["kind"] == "prescription":
            handlers.expire(request_for(GROUP, event), event.data["prescription_id"], unpaid=True)

    def settled_offline(event: Envelope) -> None:
        try:
            handlers.settle_at_desk(request_for(GROUP, event), event.data["prescription_id"])
        except Refusal as refusal:
            # The desk took money for what is void, or already with the courier: people must look at it (§23).
            log.error("%s: the desk settled a prescription that cannot be dispensed: %s", event.id, refusal.code)
            raise

    def dispatch_due(event: Envelope) -> None:
        handlers.begin_dispatch(request_for(GROUP, event), event.data["prescription_id"], event.data["order_id"])

    return {
        GROUP: {
            "VisitRequested": requested,
            "VisitBooked": booked,
            "ConsultAccepted": accepted,
            "ConsultFinished": finished,
            **dict.fromkeys(WITHDRAWALS, withdrawn),
            "PaymentCaptured": captured,
            "PaymentExpired": payment_expired,
            "OrderSettledOffline": settled_offline,
            "CourierDispatchDue": dispatch_due,
        }
    }
