"""What is on offer: the notice, departments, doctors, sessions with their slots (§4, §9)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.clock import rfc3339, shanghai_day
from eventkit.events import Refusal
from eventkit.web import caller, command_request
from services.registration import schemas
from services.registration.handlers.sessions import SessionPlan
from services.registration.http.base import desk, routes
from services.registration.policy import INTERNET, fee_on

_SESSION = {
    "session_id": "7d1f…", "doctor_id": "doctor-shen", "department_id": "spleen-stomach", "title": "chief",
    "day": "2026-11-24", "starts_at": "2026-11-24T00:00:00Z", "ends_at": "2026-11-24T04:00:00Z", "fee_fen": 5000,
    "state": "open",
    "slots": [{"slot_id": "7d1f…-01", "starts_at": "2026-11-24T00:00:00Z", "state": "open"}],
}


@routes.route("/notice")
class NoticeView(MethodView):
    @routes.response(200, schemas.NoticeSchema, example={"version": "9f86d081884c7d65…", "text": "# 服务须知 …"})
    @routes.refuses("internal")
    def get(self) -> ResponseReturnValue:
        """The service notice in force; its version is confirmed when booking (§4)."""
        return asdict(desk().notice)


@routes.route("/departments")
class DepartmentsView(MethodView):
    @routes.response(200, schemas.DepartmentsSchema, example={
        "departments": [{"department_id": "spleen-stomach", "name": "脾胃病科", "name_en": "Spleen and stomach"}],
    })
    @routes.refuses("internal")
    def get(self) -> ResponseReturnValue:
        """All departments (§9)."""
        return {"departments": desk().directory.departments}


@routes.route("/doctors")
class DoctorsView(MethodView):
    @routes.arguments(schemas.DoctorsQuerySchema, location="query")
    @routes.response(200, schemas.DoctorsSchema, example={"doctors": [{
        "doctor_id": "doctor-shen", "name": "沈怀远", "title": "chief", "specialty": "慢性胃炎",
        "department_ids": ["spleen-stomach"], "fee_fen": 5000,
    }]})
    @routes.refuses("invalid_input")
    def get(self, query: dict[str, Any]) -> ResponseReturnValue:
        """Doctors, of one department or all, with today's fee (§9, §12)."""
        today = shanghai_day(desk().core.clock.now())
        return {"doctors": [
            {**asdict(doctor), "fee_fen": fee_on(today, INTERNET, doctor.title)}
            for doctor in desk().directory.doctors_of(query.get("department_id"))
        ]}


@routes.route("/sessions")
class SessionsView(MethodView):
    @routes.arguments(schemas.SessionsQuerySchema, location="query")
    @routes.response(200, schemas.SessionsSchema, example={"sessions": [_SESSION]})
    @routes.refuses("invalid_input")
    def get(self, query: dict[str, Any]) -> ResponseReturnValue:
        """Sessions from today on, or of one day (§9). A moment behind; one session read alone is not."""
        today = shanghai_day(desk().core.clock.now())
        day = query["day"].isoformat() if "day" in query else None
        return {"sessions": desk().read_model.sessions(today.isoformat(), query.get("doctor_id"), day)}

    @routes.access("doctor", "operator")
    @routes.arguments(schemas.OpenSessionSchema, example={
        "doctor_id": "doctor-shen", "department_id": "spleen-stomach", "starts_at": "2026-11-24T08:00:00+08:00",
        "ends_at": "2026-11-24T12:00:00+08:00", "slot_minutes": 15,
    })
    @routes.response(201, schemas.SessionOpenedSchema, example={"session_id": "7d1f…", "fee_fen": 5000})
    @routes.command
    @routes.refuses(
        "invalid_input", "doctor_unknown", "session_known", "session_over", "session_malformed", "session_overlaps"
    )
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Open a session: doctors their own, operators anybody's."""
        if not caller().has("operator") and caller().subject != body["doctor_id"]:
            raise Refusal("forbidden")
        answer = desk().sessions.open(command_request(body), SessionPlan(**body))
        return answer.body, answer.status


@routes.route("/sessions/<session_id>")
class SessionView(MethodView):
    @routes.response(200, schemas.SessionSchema, example=_SESSION)
    @routes.refuses("not_found", "unavailable")
    def get(self, session_id: str) -> ResponseReturnValue:
        """One session and the state of each slot at this moment (§9)."""
        session = desk().sessions.session(session_id)
        if session is None:
            raise Refusal("not_found")
        slots = desk().sessions.slots(session)
        return {
            "session_id": session.session_id,
            "doctor_id": session.doctor_id,
            "department_id": session.department_id,
            "title": session.title,
            "day": session.day.isoformat(),
            "starts_at": rfc3339(session.starts_at),
            "ends_at": rfc3339(session.ends_at),
            "fee_fen": session.fee_fen,
            "state": "cancelled" if any(state.closed for _, state in slots) else "open",
            "slots": [
                {
                    "slot_id": slot.slot_id,
                    "starts_at": rfc3339(slot.starts_at),
                    "state": "closed" if state.closed else "held" if state.offered else state.state,
                }
                for slot, state in slots
            ],
        }


@routes.route("/sessions/<session_id>/cancellation")
class SessionCancellationView(MethodView):
    @routes.access("doctor", "operator")
    @routes.response(200, schemas.SessionCancelledSchema, example={"session_id": "7d1f…", "visits": 3})
    @routes.command
    @routes.refuses("not_found", "session_cancelled", "session_over")
    def post(self, session_id: str) -> ResponseReturnValue:
        """Call a session off (停诊, §29): doctors their own, operators anybody's. Nobody can book it from now on, and
        every visit of it is withdrawn and refunded."""
        answer = desk().sessions.cancel(command_request(), caller(), session_id)
        return answer.body, answer.status
