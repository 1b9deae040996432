"""The doctor's side of a visit as the hospital's own system reads it: FHIR R4, read only, for the role his (adr/0009).

Who, when and how it ended; never a word of what was said or found: conversation and record stay between patient and
doctor (§31). Refusals stay problems (RFC 9457), like everywhere in this API.
"""

from __future__ import annotations

from flask import Response
from flask.views import MethodView

from eventkit.audit import Audit
from eventkit.clock import rfc3339
from eventkit.events import Refusal
from eventkit.fhir import CONTENT_TYPE, IDS, EncounterQuery, Resource, reference, searchset, written
from eventkit.problems import Catalogue
from eventkit.store import Store, fold
from eventkit.web import Routes
from services.consult.domain import Consult, evolve
from services.consult.events import MessagePosted
from services.consult.handlers import consult_stream, conversation_stream
from services.consult.problems import PROBLEMS

ACT_CODES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
STATUS = {"waiting": "planned", "accepted": "in-progress", "finished": "finished"}  # every other end: cancelled


def encounter(consult: Consult) -> Resource:
    """Encounter, R4, of a consult that was scheduled."""
    visit = consult.visit
    assert visit is not None  # the caller refuses a visit that is not there
    shown: Resource = {
        "resourceType": "Encounter",
        "id": visit.visit_id,
        "identifier": [{"system": f"{IDS}visit", "value": visit.visit_id}],
        "status": STATUS.get(consult.status, "cancelled"),
        "class": {"system": ACT_CODES, "code": "VR", "display": "virtual"},
        "subject": reference("Patient", "patient", visit.patient_id),
        "participant": [{"individual": reference("Practitioner", "doctor", visit.doctor_id)}],
        "appointment": [reference("Appointment", "visit", visit.visit_id)],
    }
    if consult.accepted_at is not None:
        shown["period"] = {"start": rfc3339(consult.accepted_at)}
        if consult.finished is not None:
            shown["period"]["end"] = rfc3339(consult.finished.finished_at)
    return shown


def communication(message: MessagePosted, doctor_id: str) -> Resource:
    """Communication, R4: that a message was sent, by whom, of which kind. Without its payload."""
    sender = {
        "patient": reference("Patient", "patient", message.patient_id),
        "doctor": reference("Practitioner", "doctor", doctor_id),
        "system": {"type": "Organization", "display": "复诊 Fuzhen"},
    }[message.sender]
    shown: Resource = {
        "resourceType": "Communication",
        "id": message.message_id,
        "status": "completed",
        "category": [{"coding": [{"system": f"{IDS}message-kind", "code": message.kind}]}],
        "subject": reference("Patient", "patient", message.patient_id),
        "encounter": reference("Encounter", "visit", message.visit_id),
        "sent": rfc3339(message.posted_at),
        "sender": sender,
    }
    if message.prescription_id is not None:
        shown["about"] = [reference("MedicationRequest", "prescription", message.prescription_id)]
    return shown


ENCOUNTER_EXAMPLE: Resource = {
    "resourceType": "Encounter", "id": "v7c1d2e3f4a5", "status": "in-progress",
    "identifier": [{"system": f"{IDS}visit", "value": "v7c1d2e3f4a5"}],
    "class": {"system": ACT_CODES, "code": "VR", "display": "virtual"},
    "subject": reference("Patient", "patient", "p1a2b3c4d5"),
    "participant": [{"individual": reference("Practitioner", "doctor", "d-lin")}],
    "appointment": [reference("Appointment", "visit", "v7c1d2e3f4a5")],
    "period": {"start": "2026-11-24T01:31:02.000Z"},
}
COMMUNICATIONS_EXAMPLE: Resource = {
    "resourceType": "Bundle", "type": "searchset", "total": 1,
    "link": [{
        "relation": "self",
        "url": "https://fuzhen.example/api/consult/fhir/Communication?encounter=v7c1d2e3f4a5",
    }],
    "entry": [{
        "fullUrl": "https://fuzhen.example/api/consult/fhir/Communication/v7c1d2e3f4a5-3",
        "search": {"mode": "match"},
        "resource": {
            "resourceType": "Communication", "id": "v7c1d2e3f4a5-3", "status": "completed",
            "category": [{"coding": [{"system": f"{IDS}message-kind", "code": "text"}]}],
            "subject": reference("Patient", "patient", "p1a2b3c4d5"),
            "encounter": reference("Encounter", "visit", "v7c1d2e3f4a5"),
            "sent": "2026-11-24T01:33:00.000Z",
            "sender": reference("Practitioner", "doctor", "d-lin"),
        },
    }],
}


def make_routes(store: Store, audit: Audit) -> Routes:
    routes = Routes("consult/fhir", Catalogue(PROBLEMS), "Consults as FHIR R4, for the hospital's own system.")

    @routes.route("/Encounter/<visit_id>")
    class Encounter(MethodView):
        @routes.access("his")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=ENCOUNTER_EXAMPLE)
        @routes.refuses("not_found", "unavailable")
        def get(self, visit_id: str) -> Response:
            """A consult as a FHIR R4 Encounter"""
            consult = _read(store, visit_id)
            if consult.visit is None:
                raise Refusal("not_found")
            audit.read("visit", visit_id, consult.visit)
            return written(encounter(consult))

    @routes.route("/Communication")
    class Communications(MethodView):
        @routes.access("his")
        @routes.arguments(EncounterQuery, location="query")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=COMMUNICATIONS_EXAMPLE)
        @routes.refuses("invalid_input", "unavailable")
        def get(self, query: dict[str, str]) -> Response:
            """The messages of a visit as FHIR R4 Communications, without what they say"""
            visit_id = query["encounter"].removeprefix("Encounter/")
            visit = _read(store, visit_id).visit
            if visit is None:
                return written(searchset([]))
            audit.read("conversation", visit_id, visit)
            stream = conversation_stream(visit_id)
            said = (recorded.event for recorded in store.load(stream)[stream])
            return written(searchset(communication(event, visit.doctor_id) for event in said))

    return routes


def _read(store: Store, visit_id: str) -> Consult:
    return fold(evolve, Consult(), store.load(consult_stream(visit_id))[consult_stream(visit_id)])

