"""A booked visit as the hospital's own system reads it: FHIR R4, read only, for the role his (docs/adr/0009).

No name, phone or word of the patient is in it: the HIS knows the person by `his_patient_id` and has them on file (§31).
Refusals stay problems (RFC 9457), like everywhere in this API.
"""

from __future__ import annotations

from datetime import datetime

from flask import Response
from flask.views import MethodView

from eventkit.audit import Audit
from eventkit.clock import rfc3339
from eventkit.events import Refusal
from eventkit.fhir import CONTENT_TYPE, IDS, Resource, written
from eventkit.problems import Catalogue
from eventkit.web import Routes
from services.registration.domain.visits import Visit
from services.registration.events import SessionOpened
from services.registration.handlers.people import People
from services.registration.handlers.sessions import Sessions
from services.registration.handlers.visits import Visits
from services.registration.problems import PROBLEMS

STATUS = {
    "held": "pending", "booked": "booked", "accepted": "arrived", "finished": "fulfilled", "lapsed": "cancelled",
    "withdrawn": "cancelled",
}  # fmt: skip
EXAMPLE: Resource = {
    "resourceType": "Appointment", "id": "c0a8", "status": "booked",
    "contained": [{"resourceType": "Patient", "id": "patient", "identifier": [
        {"system": f"{IDS}patient", "value": "5c0e"}, {"system": f"{IDS}his-patient", "value": "P00000001"},
    ]}],
    "identifier": [{"system": f"{IDS}visit", "value": "c0a8"}],
    "serviceType": [{"coding": [{"system": f"{IDS}department", "code": "spleen-stomach"}]}],
    "start": "2026-11-24T00:00:00.000Z", "end": "2026-11-24T00:15:00.000Z", "minutesDuration": 15,
    "participant": [
        {"actor": {"reference": "#patient", "type": "Patient"}, "status": "accepted"},
        {
            "actor": {
                "type": "Practitioner", "identifier": {"system": f"{IDS}doctor", "value": "doctor-shen"},
            },
            "status": "accepted",
        },
    ],
}  # fmt: skip


def appointment(visit: Visit, ends_at: datetime, his_patient_id: str) -> Resource:
    """Appointment, R4. The doctor's place in it was accepted when the session was opened; that the doctor takes the
    case (§18) is the Encounter's to say. The patient has still to pay while the slot is held (§10)."""
    asked = visit.request
    return {
        "resourceType": "Appointment",
        "id": asked.visit_id,
        "status": STATUS[visit.state],
        "contained": [{
            "resourceType": "Patient",
            "id": "patient",
            "identifier": [
                {"system": f"{IDS}patient", "value": asked.patient_id},
                {"system": f"{IDS}his-patient", "value": his_patient_id},
            ],
        }],
        "identifier": [{"system": f"{IDS}visit", "value": asked.visit_id}],
        "serviceType": [{"coding": [{"system": f"{IDS}department", "code": asked.department_id}]}],
        "start": rfc3339(asked.starts_at),
        "end": rfc3339(ends_at),
        "minutesDuration": int((ends_at - asked.starts_at).total_seconds()) // 60,
        "participant": [
            {
                "actor": {"reference": "#patient", "type": "Patient"},
                "status": "needs-action" if visit.state == "held" else "accepted",
            },
            {
                "actor": {
                    "type": "Practitioner", "identifier": {"system": f"{IDS}doctor", "value": asked.doctor_id},
                },
                "status": "accepted",
            },
        ],
    }


def slot_end(session: SessionOpened, slot_id: str) -> datetime:
    """Where the next slot begins, or the session ends."""
    starts = [slot.starts_at for slot in session.slots]
    own = next(slot.starts_at for slot in session.slots if slot.slot_id == slot_id)
    return min((start for start in starts if start > own), default=session.ends_at)


def make_routes(visits: Visits, sessions: Sessions, people: People, audit: Audit) -> Routes:
    routes = Routes("registration/fhir", Catalogue(PROBLEMS), "Visits as FHIR R4, for the hospital's own system.")

    @routes.route("/Appointment/<visit_id>")
    class AppointmentView(MethodView):
        @routes.access("his")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=EXAMPLE)
        @routes.refuses("not_found", "unavailable")
        def get(self, visit_id: str) -> Response:
            """A visit as a FHIR R4 Appointment"""
            visit = visits.visit(visit_id)
            session = sessions.session(visit.request.session_id)
            if session is None:
                raise Refusal("not_found")
            person = people.patient(visit.request.patient_id).added.his_patient_id
            audit.read("visit", visit_id, visit.request)
            return written(appointment(visit, slot_end(session, visit.request.slot_id), person))

    return routes
