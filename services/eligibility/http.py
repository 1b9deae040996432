"""The HTTP face of eligibility: one question."""

from __future__ import annotations

from typing import Any

from flask import request
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.problems import Catalogue
from eventkit.web import KEY_HEADER, Routes, caller, command_request
from services.eligibility.domain import Assess
from services.eligibility.handlers import Handlers
from services.eligibility.problems import PROBLEMS, failures
from services.eligibility.schemas import AssessSchema, GrantedSchema


class EligibilityRoutes(Routes):
    """The blueprint, with the handlers that `__main__` puts behind it when the process starts."""

    handlers: Handlers


routes = EligibilityRoutes(
    "eligibility", Catalogue(PROBLEMS), "May this patient be seen online on that day? (§1, §2, §3, §5)"
)


@routes.route("/assessments")
class AssessmentsView(MethodView):
    @routes.access("service")
    @routes.arguments(AssessSchema, example={
        "visit_id": "c0a8…", "patient_id": "5c0e…", "his_patient_id": "P00000001", "birth_date": "1968-03-02",
        "checkpoint": "booking", "day": "2026-11-24",
        "declared": {"follow_up": True, "stable": True, "emergency": False},
        "symptoms": "胃脘隐痛复诊,服药后减轻,无发热。",
    })
    @routes.response(200, GrantedSchema, example={"assessment_id": "a3d9…", "evidence_id": "R00000001"})
    @routes.command
    @routes.refuses("invalid_input", "not_eligible", "partner_unavailable")
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Assess a patient for the day of a visit (§5). The evidence is the HIS record that granted it (§2); a refusal
        lists every failed rule in `failed`. Birth date and symptoms are not kept."""
        command = Assess(
            assessment_id=derived_id("assessment", caller().subject, request.headers[KEY_HEADER]),
            visit_id=body["visit_id"],
            patient_id=body["patient_id"],
            checkpoint=body["checkpoint"],
            day=body["day"],
            birth_date=body["birth_date"],
            symptoms=body["symptoms"],
            **body["declared"],
        )
        answer = routes.handlers.assess(command_request(body), command, body["his_patient_id"])
        if answer.status == 422:
            raise Refusal("not_eligible", failed=failures(answer.body["failed"]))
        return answer.body, answer.status
