"""For our services and the HIS: events carry ids, and who may know more asks here (§31)."""

from __future__ import annotations

from typing import Any

from flask import request
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.clock import rfc3339
from eventkit.web import KEY_HEADER
from services.registration import schemas
from services.registration.http.base import audit, desk, routes
from services.registration.http.visits import VISIT_EXAMPLE, show


@routes.route("/internal/patients/<patient_id>")
class InternalPatientView(MethodView):
    @routes.access("service", "his")
    @routes.response(200, schemas.InternalPatientSchema, example={
        "patient_id": "5c0e…", "account_id": "2f7c…", "his_patient_id": "P00000001", "name": "林复安",
        "document": "resident_id",
        "id_number": "11010019680302042X", "phone": "19900000001", "birth_date": "1968-03-02", "sex": "female",
        "relation": "self", "guardian_consented": False,
    })
    @routes.refuses("not_found", "unavailable")
    def get(self, patient_id: str) -> ResponseReturnValue:
        """Who a patient is."""
        added = desk().people.patient(patient_id).added
        audit().read("patient", patient_id, added)
        return {
            "patient_id": added.patient_id,
            "account_id": added.account_id,
            "his_patient_id": added.his_patient_id,
            "name": added.name,
            "document": added.document,
            "id_number": added.id_number,
            "phone": added.phone,
            "birth_date": added.birth_date.isoformat() if added.birth_date else None,
            "sex": added.sex,
            "relation": added.relation,
            "guardian_consented": added.guardian_consented_at is not None,
        }


@routes.route("/internal/visits/<visit_id>")
class InternalVisitView(MethodView):
    @routes.access("service", "his")
    @routes.response(200, schemas.InternalVisitSchema, example={
        **VISIT_EXAMPLE, "account_id": "2f7c…", "card_id": "C00000001", "title": "chief", "assessment_id": "a3d9…",
        "notice_version": "9f86d081884c7d65…", "notice_confirmed_at": "2026-11-23T08:00:00.000Z",
        "notice_confirmed_by": "2f7c…", "order_id": "fee-c0a8…",
    })
    @routes.refuses("not_found", "unavailable")
    def get(self, visit_id: str) -> ResponseReturnValue:
        """A visit with what its own services need; `order_id` once it is paid."""
        visit = desk().visits.visit(visit_id)
        audit().read("visit", visit_id, visit.request)
        shown: dict[str, Any] = {
            **show(visit),
            "account_id": visit.request.account_id,
            "card_id": visit.request.card_id,
            "title": visit.request.title,
            "assessment_id": visit.request.assessment_id,
        }
        if visit.order_id:
            shown["order_id"] = visit.order_id
        if described := visit.described:
            shown |= {
                "notice_version": described.notice_version,
                "notice_confirmed_at": rfc3339(described.notice_confirmed_at),
                "notice_confirmed_by": described.notice_confirmed_by,
            }
        return shown


@routes.route("/internal/visits/<visit_id>/eligibility")
class InternalEligibilityView(MethodView):
    @routes.access("service")
    @routes.arguments(schemas.CheckpointSchema, example={"checkpoint": "payment"})
    @routes.response(200, schemas.AssessedSchema, example={"visit_id": "c0a8…", "assessment_id": "b7e2…"})
    @routes.command
    @routes.refuses("invalid_input", "not_found", "not_eligible", "visit_over", "partner_unavailable")
    def post(self, body: dict[str, Any], visit_id: str) -> ResponseReturnValue:
        """Ask again at payment and at acceptance (§5), with the condition as it was described. A refusal also ends the
        visit, through EligibilityRefused."""
        visit = desk().visits.visit(visit_id)
        assessment_id = desk().booking.ask_again(visit, body["checkpoint"], request.headers[KEY_HEADER])
        return {"visit_id": visit_id, "assessment_id": assessment_id}
