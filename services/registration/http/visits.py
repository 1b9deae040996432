"""Booking, the order centre, the condition, withdrawal (§9, §10, §17, §29)."""

from __future__ import annotations

from typing import Any

from flask import request
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.clock import rfc3339
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.web import KEY_HEADER, caller, command_request
from services.registration import schemas
from services.registration.domain.people import full_years
from services.registration.domain.visits import BookVisit, Visit
from services.registration.http.base import audit, desk, routes

VISIT_EXAMPLE = {
    "visit_id": "c0a8…", "state": "booked", "patient_id": "5c0e…", "doctor_id": "doctor-shen",
    "department_id": "spleen-stomach", "session_id": "7d1f…", "slot_id": "7d1f…-01", "day": "2026-11-24",
    "starts_at": "2026-11-24T00:00:00.000Z", "entrance": "mini_program", "card_kind": "beijing_insured",
    "fee_fen": 5000, "hold_until": "2026-11-23T08:15:00.000Z",
}
_CONDITION = {
    "chief_complaint": "胃脘隐痛复诊", "present_illness": "服药两周后疼痛减轻,无发热,无呕血。",
    "past_history": "慢性胃炎三年", "allergies": "无", "follow_up": True, "stable": True, "emergency": False,
}


@routes.route("/visits")
class VisitsView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.VisitsSchema, example={"visits": [VISIT_EXAMPLE]})
    @routes.refuses("unavailable")
    def get(self) -> ResponseReturnValue:
        """The order centre: my visits, the latest first (§17). A moment behind; one visit read alone is not."""
        found = desk().read_model.visits_of(caller().subject)
        audit().read_list("visits", ((visit["patient_id"], caller().subject) for visit in found))
        return {"visits": found}

    @routes.access("patient")
    @routes.arguments(schemas.BookVisitSchema, example={
        "patient_id": "5c0e…", "card_id": "C00000001", "session_id": "7d1f…", "slot_id": "7d1f…-01",
        "entrance": "mini_program", "notice_version": "9f86d081884c7d65…", "condition": _CONDITION,
        "photo_ids": ["e41b…"],
    })
    @routes.response(201, schemas.VisitHeldSchema, example={
        "visit_id": "c0a8…", "state": "held", "hold_until": "2026-11-23T08:15:00.000Z", "fee_fen": 5000,
    })
    @routes.command
    @routes.refuses(
        "invalid_input", "not_found", "not_eligible", "slot_taken", "slot_gone", "session_over", "session_cancelled",
        "already_booked", "patient_restricted",
        "booking_paused", "notice_outdated", "card_unknown", "photo_unknown", "partner_unavailable",
    )
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Hold a slot while its visit is paid for (§9, §10). Only payment completes the booking (§11)."""
        details = {name: value for name, value in body.items() if name not in ("condition", "photo_ids")}
        command = BookVisit(
            visit_id=derived_id("visit", caller().subject, request.headers[KEY_HEADER]),
            account_id=caller().subject,
            photo_ids=tuple(body["photo_ids"]),
            **details,
            **body["condition"],
        )
        answer = desk().booking.book(command_request(body), command)
        return answer.body, answer.status


@routes.route("/visits/<visit_id>")
class VisitView(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(200, schemas.VisitSchema, example=VISIT_EXAMPLE)
    @routes.refuses("not_found", "unavailable")
    def get(self, visit_id: str) -> ResponseReturnValue:
        """One visit, for its account and its doctor."""
        visit = desk().visits.visit_of(caller(), visit_id)
        audit().read("visit", visit_id, visit.request)
        return show(visit)


@routes.route("/visits/<visit_id>/condition")
class ConditionView(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(200, schemas.VisitConditionSchema, example={
        "visit_id": "c0a8…", "patient": {"name": "林复安", "sex": "female", "age": 58}, "photo_ids": ["e41b…"],
        **_CONDITION,
    })
    @routes.refuses("not_found", "unavailable")
    def get(self, visit_id: str) -> ResponseReturnValue:
        """What the patient described (§10), for the account and for the doctor who was booked."""
        visit = desk().visits.visit_of(caller(), visit_id)
        described, patient = visit.described, desk().people.patient(visit.request.patient_id).added
        if described is None or patient.birth_date is None:
            raise Refusal("not_found")
        audit().read("condition", visit_id, visit.request)
        return {
            "visit_id": visit_id,
            "patient": {
                "name": patient.name, "sex": patient.sex, "age": full_years(patient.birth_date, visit.request.day),
            },
            "chief_complaint": described.chief_complaint,
            "present_illness": described.present_illness,
            "past_history": described.past_history,
            "allergies": described.allergies,
            "follow_up": described.follow_up,
            "stable": described.stable,
            "emergency": described.emergency,
            "photo_ids": list(described.photo_ids),
        }


@routes.route("/visits/<visit_id>/withdrawal")
class WithdrawalView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.WithdrawnSchema, example={"visit_id": "c0a8…", "state": "withdrawn"})
    @routes.command
    @routes.refuses("not_found", "already_accepted", "visit_over")
    def post(self, visit_id: str) -> ResponseReturnValue:
        """Withdraw before the doctor accepts; what was paid is refunded in full (§29)."""
        answer = desk().visits.withdraw_by_patient(command_request(), caller(), visit_id)
        return answer.body, answer.status


def show(visit: Visit) -> dict[str, Any]:
    asked = visit.request
    return {
        "visit_id": asked.visit_id,
        "state": visit.state,
        "patient_id": asked.patient_id,
        "doctor_id": asked.doctor_id,
        "department_id": asked.department_id,
        "session_id": asked.session_id,
        "slot_id": asked.slot_id,
        "day": asked.day.isoformat(),
        "starts_at": rfc3339(asked.starts_at),
        "entrance": asked.entrance,
        "card_kind": asked.card_kind,
        "fee_fen": asked.fee_fen,
        "hold_until": rfc3339(asked.hold_until),
    }
