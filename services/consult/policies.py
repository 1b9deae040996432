"""Other services' events in, own commands out. A visit that lapsed was never booked and has no consult to cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import msgspec

from eventkit.clock import day_end
from eventkit.envelope import Envelope
from eventkit.inbox import Handler, request_for
from services.consult.domain import CancelConsult, ScheduleConsult, ShowPrescription
from services.consult.events import CancelReason
from services.consult.handlers import Handlers

GROUP = "consult.policies"


@dataclass(frozen=True, slots=True)
class VisitBooked:
    """What this service reads of the event; so with the two below."""

    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    day: date
    starts_at: datetime


@dataclass(frozen=True, slots=True)
class VisitWithdrawn:
    visit_id: str
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class PrescriptionIssued:
    visit_id: str
    prescription_id: str


def inboxes(handlers: Handlers) -> Mapping[str, Mapping[str, Handler]]:
    def visit_booked(envelope: Envelope) -> None:
        visit = msgspec.convert(envelope.data, VisitBooked)
        handlers.schedule(
            request_for(GROUP, envelope),
            ScheduleConsult(
                visit_id=visit.visit_id,
                patient_id=visit.patient_id,
                account_id=visit.account_id,
                doctor_id=visit.doctor_id,
                day=visit.day,
                starts_at=visit.starts_at,
                day_ends_at=day_end(visit.day),
            ),
        )

    def visit_withdrawn(envelope: Envelope) -> None:
        visit = msgspec.convert(envelope.data, VisitWithdrawn)
        handlers.cancel(request_for(GROUP, envelope), visit.visit_id, CancelConsult(visit.reason))

    def prescription_issued(envelope: Envelope) -> None:
        issued = msgspec.convert(envelope.data, PrescriptionIssued)
        command = ShowPrescription(issued.prescription_id)
        handlers.show_prescription(request_for(GROUP, envelope), issued.visit_id, command)

    return {
        GROUP: {
            "VisitBooked": visit_booked,
            "VisitWithdrawn": visit_withdrawn,
            "PrescriptionIssued": prescription_issued,
        }
    }
