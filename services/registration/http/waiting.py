"""Waiting for a full session (§9)."""

from __future__ import annotations

from typing import Any

from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.web import caller, command_request
from services.registration import schemas
from services.registration.http.base import audit, desk, routes


@routes.route("/sessions/<session_id>/waiting")
class WaitingView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.WaitingSchema, example={"entries": [{
        "entry_id": "3f70…", "patient_id": "5c0e…", "position": 1,
        "offer": {"slot_id": "7d1f…-01", "until": "2026-11-23T08:10:00.000Z"},
    }]})
    @routes.refuses("unavailable")
    def get(self, session_id: str) -> ResponseReturnValue:
        """Where my patients stand in the waiting list, and which slot is offered to them."""
        found = desk().waiting.mine(caller(), session_id)
        audit().read_list("waiting", ((entry["patient_id"], caller().subject) for entry in found))
        return {"entries": found}

    @routes.access("patient")
    @routes.arguments(schemas.JoinWaitingSchema, example={"patient_id": "5c0e…"})
    @routes.response(201, schemas.WaitingJoinedSchema, example={"entry_id": "3f70…", "position": 1})
    @routes.command
    @routes.refuses(
        "invalid_input", "not_found", "session_cancelled", "session_over", "slots_left", "already_waiting"
    )
    def post(self, body: dict[str, Any], session_id: str) -> ResponseReturnValue:
        """Wait for a full session: a slot that comes free is offered to the first who waits, for ten minutes, and a
        text message says so. It is booked like any other."""
        asked = command_request(body)  # which refuses half a character before anything is looked up by it
        desk().people.patient(body["patient_id"], caller().subject)
        answer = desk().waiting.join(asked, caller(), session_id, body["patient_id"])
        return answer.body, answer.status


@routes.route("/sessions/<session_id>/waiting/<entry_id>/departure")
class WaitingDepartureView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.WaitingLeftSchema, example={"entry_id": "3f70…"})
    @routes.command
    @routes.refuses("not_found")
    def post(self, session_id: str, entry_id: str) -> ResponseReturnValue:
        """Wait no longer; a slot that was offered goes to the next one."""
        answer = desk().waiting.leave(command_request(), caller(), session_id, entry_id)
        return answer.body, answer.status
