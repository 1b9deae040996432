"""The booking form, saved in parts and resumed on any device (§10)."""

from __future__ import annotations

from typing import Any

from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.web import caller, command_request
from services.registration import schemas
from services.registration.domain.drafts import Draft
from services.registration.http.base import audit, desk, routes

_CONDITION = ("chief_complaint", "present_illness", "past_history", "allergies", "follow_up", "stable", "emergency")
_PARTS = {
    "session_id": "7d1f…", "slot_id": "7d1f…-01", "condition": {"chief_complaint": "胃脘隐痛复诊", "stable": True},
}


@routes.route("/drafts")
class DraftsView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.DraftsSchema, example={"drafts": [{
        "draft_id": "b1d0…", "patient_id": "5c0e…", "session_id": "7d1f…", "slot_id": "7d1f…-01",
        "saved_at": "2026-11-23T08:00:00.000Z",
    }]})
    @routes.refuses("unavailable")
    def get(self) -> ResponseReturnValue:
        """My drafts that were not submitted, the last saved first. A moment behind; one draft read alone is not."""
        found = desk().read_model.drafts_of(caller().subject)
        audit().read_list("drafts", ((draft["patient_id"], caller().subject) for draft in found))
        return {"drafts": found}

    @routes.access("patient")
    @routes.arguments(schemas.BeginDraftSchema, example={"patient_id": "5c0e…", **_PARTS})
    @routes.response(201, schemas.DraftSavedSchema, example={
        "draft_id": "b1d0…", "missing": ["card_id", "entrance", "notice_version"],
    })
    @routes.command
    @routes.refuses("invalid_input", "not_found")
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Begin a draft for one of my patients, with as many parts as there are. No slot is held by it."""
        patient_id = body["patient_id"]
        answer = desk().drafts.begin(command_request(body), caller(), patient_id, _flat(body, without="patient_id"))
        return answer.body, answer.status


@routes.route("/drafts/<draft_id>")
class DraftView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.DraftSchema, example={
        "draft_id": "b1d0…", "patient_id": "5c0e…", "missing": ["card_id", "entrance", "notice_version"], **_PARTS,
    })
    @routes.refuses("not_found", "unavailable")
    def get(self, draft_id: str) -> ResponseReturnValue:
        """A draft as it was saved last; `visit_id` once it was submitted."""
        draft = desk().drafts.draft(caller(), draft_id)
        audit().read("draft", draft_id, draft)
        return _show(draft)


@routes.route("/drafts/<draft_id>/parts")
class DraftPartsView(MethodView):
    @routes.access("patient")
    @routes.arguments(schemas.DraftPartsSchema, example=_PARTS)
    @routes.response(200, schemas.DraftSavedSchema, example={"draft_id": "b1d0…", "missing": ["card_id"]})
    @routes.command
    @routes.refuses("invalid_input", "not_found", "draft_submitted")
    def post(self, body: dict[str, Any], draft_id: str) -> ResponseReturnValue:
        """Save parts: what is named replaces what was saved of it, the rest stays."""
        answer = desk().drafts.save(command_request(body), caller(), draft_id, _flat(body))
        return answer.body, answer.status


@routes.route("/drafts/<draft_id>/submission")
class DraftSubmissionView(MethodView):
    @routes.access("patient")
    @routes.response(201, schemas.VisitHeldSchema, example={
        "visit_id": "c0a8…", "state": "held", "hold_until": "2026-11-23T08:15:00.000Z", "fee_fen": 5000,
    })
    @routes.command
    @routes.refuses(
        "not_found", "draft_incomplete", "draft_submitted", "not_eligible", "slot_taken", "slot_gone", "session_over",
        "session_cancelled", "patient_restricted",
        "already_booked", "booking_paused", "notice_outdated", "card_unknown", "photo_unknown",
        "partner_unavailable",
    )
    def post(self, draft_id: str) -> ResponseReturnValue:
        """Book what the draft says, as `POST visits` does. Refused, the draft stays and can be changed."""
        answer = desk().drafts.submit(command_request(), caller(), draft_id)
        return answer.body, answer.status


def _flat(body: dict[str, Any], without: str = "") -> dict[str, Any]:
    parts = {name: value for name, value in body.items() if name not in ("condition", without)}
    if "photo_ids" in parts:
        parts["photo_ids"] = tuple(parts["photo_ids"])
    return {**parts, **body.get("condition", {})}


def _show(draft: Draft) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "draft_id": draft.draft_id,
        "patient_id": draft.patient_id,
        "missing": draft.missing,
        **{part: value for part, value in draft.parts.items() if part not in _CONDITION},
        "condition": {part: value for part, value in draft.parts.items() if part in _CONDITION},
    }
    if draft.visit_id:
        shown["visit_id"] = draft.visit_id
    return shown
