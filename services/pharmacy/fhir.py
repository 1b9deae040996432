"""Prescriptions as the hospital's own system reads them: FHIR R4, read only, for the role his (docs/adr/0009).

One resource a drug, as FHIR wants it; `groupIdentifier` is the prescription. What never took effect does not exist here
(§24), nor does what was erased (§32). Addresses stay with the courier's order (§31). Refusals stay problems (RFC 9457),
like everywhere in this API.
"""

from __future__ import annotations

from decimal import Decimal

from flask import Response
from flask.views import MethodView

from eventkit.audit import Audit
from eventkit.clock import rfc3339
from eventkit.fhir import CONTENT_TYPE, IDS, EncounterQuery, Resource, reference, searchset, searchset_example, written
from eventkit.web import Routes
from services.pharmacy.domain.parcel import Parcel
from services.pharmacy.domain.prescription import DISPENSED, EXPIRED, ISSUED, VOIDED, Prescription
from services.pharmacy.events import Dosing, Line, Sheet
from services.pharmacy.handlers import Handlers
from services.pharmacy.problems import CATALOGUE

UCUM = "http://unitsofmeasure.org"
REQUEST_STATUS = {ISSUED: "active", DISPENSED: "completed", EXPIRED: "stopped", VOIDED: "cancelled"}


def medication_requests(prescription: Prescription) -> list[Resource]:
    """MedicationRequest, R4, of every drug on the sheet; none of a prescription that never took effect."""
    signed, sheet = prescription.facts, _sheet(prescription)
    if sheet is None:
        return []
    return [
        {
            "resourceType": "MedicationRequest",
            "id": f"{signed.prescription_id}-{number}",
            "groupIdentifier": {"system": f"{IDS}prescription", "value": signed.prescription_id},
            "status": REQUEST_STATUS[prescription.state],
            "intent": "order",
            "medicationCodeableConcept": _medication(line),
            "subject": reference("Patient", "patient", signed.patient_id),
            "encounter": reference("Encounter", "visit", signed.visit_id),
            "authoredOn": rfc3339(signed.signed_at),
            "requester": reference("Practitioner", "doctor", signed.doctor_id),
            "reasonCode": [{"text": sheet.diagnosis}],
            "dosageInstruction": [_dosage(sheet, line)],
            "dispenseRequest": {
                "validityPeriod": {"start": rfc3339(signed.signed_at), "end": rfc3339(signed.valid_until)},
                "quantity": _quantity(sheet, line),
            },
        }
        for number, line in enumerate(sheet.lines, start=1)
    ]


def medication_dispenses(prescription: Prescription, parcel: Parcel) -> list[Resource]:
    """MedicationDispense, R4, of every drug that is on its way (in-progress), came back (on-hold), or was given out
    (completed). `parcel` is the latest. The desk tells no hour, so only a delivery has `whenHandedOver`."""
    if prescription.came_back:
        status = "on-hold"
    elif prescription.state == DISPENSED:
        status = "completed"
    elif prescription.dispatching:
        status = "in-progress"
    else:
        return []
    signed, issued, sheet = prescription.facts, prescription.issued, _sheet(prescription)
    if sheet is None:
        return []
    shown: list[Resource] = []
    for number, line in enumerate(sheet.lines, start=1):
        resource: Resource = {
            "resourceType": "MedicationDispense",
            "id": f"{signed.prescription_id}-{number}",
            "identifier": [{"system": f"{IDS}prescription", "value": signed.prescription_id}],
            "status": status,
            "medicationCodeableConcept": _medication(line),
            "subject": reference("Patient", "patient", signed.patient_id),
            "context": reference("Encounter", "visit", signed.visit_id),
            "authorizingPrescription": [
                {"reference": f"MedicationRequest/{signed.prescription_id}-{number}", "type": "MedicationRequest"}
            ],
            "quantity": _quantity(sheet, line),
        }
        if issued is not None:
            resource["performer"] = [{"actor": reference("Practitioner", "pharmacist", issued.pharmacist_id)}]
        if parcel.delivered is not None:
            resource["whenHandedOver"] = rfc3339(parcel.delivered.delivered_at)
        shown.append(resource)
    return shown


def _sheet(prescription: Prescription) -> Sheet | None:
    return prescription.facts.sheet if prescription.issued else None


def _medication(line: Line) -> Resource:
    return {"coding": [{"system": f"{IDS}drug", "code": line.drug_code, "display": line.name}], "text": line.name}


def _quantity(sheet: Sheet, line: Line) -> Resource:
    """Of all doses: a herbal line counts grams a dose (剂)."""
    return {"value": line.quantity * (sheet.herbal.doses if sheet.herbal else 1), "unit": line.unit}


def _dosage(sheet: Sheet, line: Line) -> Resource:
    parts = (line.dose, line.usage, sheet.herbal.usage if sheet.herbal else "")
    shown: Resource = {"text": " ".join(part for part in parts if part) or line.name}
    return {**shown, **_dosing(line.dosing)} if line.dosing else shown


def _dosing(dosing: Dosing) -> Resource:
    return {
        "timing": {"repeat": {
            "boundsDuration": {"value": dosing.days, "unit": "d", "system": UCUM, "code": "d"},
            "frequency": dosing.times_per_day,
            "period": 1,
            "periodUnit": "d",
        }},
        "doseAndRate": [{"doseQuantity": {"value": Decimal(dosing.amount), "unit": dosing.unit}}],
    }


_DRUG = {"coding": [{"system": f"{IDS}drug", "code": "W007", "display": "苏黄止咳胶囊"}], "text": "苏黄止咳胶囊"}
REQUESTS_EXAMPLE = searchset_example("pharmacy", {
    "resourceType": "MedicationRequest", "id": "3f1c9a52-1", "status": "active", "intent": "order",
    "groupIdentifier": {"system": f"{IDS}prescription", "value": "3f1c9a52"},
    "medicationCodeableConcept": _DRUG,
    "subject": reference("Patient", "patient", "p1a2b3c4d5"),
    "encounter": reference("Encounter", "visit", "v7c1d2e3f4a5"),
    "authoredOn": "2026-11-24T01:50:00.000Z",
    "requester": reference("Practitioner", "doctor", "d-lin"),
    "reasonCode": [{"text": "咳嗽变异性哮喘"}],
    "dosageInstruction": [{"text": "3粒 口服"}],
    "dispenseRequest": {
        "validityPeriod": {"start": "2026-11-24T01:50:00.000Z", "end": "2026-11-27T01:50:00.000Z"},
        "quantity": {"value": 2, "unit": "盒"},
    },
})
DISPENSES_EXAMPLE = searchset_example("pharmacy", {
    "resourceType": "MedicationDispense", "id": "3f1c9a52-1", "status": "completed",
    "identifier": [{"system": f"{IDS}prescription", "value": "3f1c9a52"}],
    "medicationCodeableConcept": _DRUG,
    "subject": reference("Patient", "patient", "p1a2b3c4d5"),
    "context": reference("Encounter", "visit", "v7c1d2e3f4a5"),
    "authorizingPrescription": [{"reference": "MedicationRequest/3f1c9a52-1", "type": "MedicationRequest"}],
    "performer": [{"actor": reference("Practitioner", "pharmacist", "pharmacist-he")}],
    "quantity": {"value": 2, "unit": "盒"},
    "whenHandedOver": "2026-11-24T10:50:00.000Z",
})


def make_routes(handlers: Handlers, audit: Audit) -> Routes:
    routes = Routes("pharmacy/fhir", CATALOGUE, "Prescriptions as FHIR R4, for the hospital's own system.")

    def of_visit(query: dict[str, str]) -> list[Prescription]:
        """Those that took effect, each with a line about who looked (§31)."""
        care = handlers.care(query["encounter"].removeprefix("Encounter/"))
        found = [each for each in handlers.prescriptions(care.prescriptions) if each.issued]
        for each in found:
            audit.read("prescription", each.facts.prescription_id, each.facts)
        return found

    @routes.route("/MedicationRequest")
    class MedicationRequests(MethodView):
        @routes.access("his")
        @routes.arguments(EncounterQuery, location="query")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=REQUESTS_EXAMPLE)
        @routes.refuses("invalid_input", "unavailable")
        def get(self, query: dict[str, str]) -> Response:
            """The prescribed drugs of a visit as FHIR R4 MedicationRequests"""
            found = of_visit(query)
            return written(searchset(each for one in found for each in medication_requests(one)))

    @routes.route("/MedicationDispense")
    class MedicationDispenses(MethodView):
        @routes.access("his")
        @routes.arguments(EncounterQuery, location="query")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=DISPENSES_EXAMPLE)
        @routes.refuses("invalid_input", "unavailable")
        def get(self, query: dict[str, str]) -> Response:
            """What of it is on its way or was given out, as FHIR R4 MedicationDispenses"""
            found = of_visit(query)
            return written(searchset(
                each for one in found for each in medication_dispenses(one, handlers.parcel(one.parcel_id))
            ))

    return routes

