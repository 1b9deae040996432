"""The consult service over HTTP: the doctor's queue and decisions, and the message page with its live side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import jwt
import orjson
from flask import Response, g, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from flask_sock import Sock
from marshmallow import EXCLUDE, ValidationError
from simple_websocket import Server
from wsproto.utilities import RemoteProtocolError

from eventkit.audit import add_readings
from eventkit.clock import rfc3339, shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.mongo_store import commits_of
from eventkit.problems import Catalogue
from eventkit.store import Answer, Request, StoreUnavailable
from eventkit.vault import ErasedPerson
from eventkit.web import KEY_HEADER, Routes, caller, command_request, correlation_id, identify, problem
from services.consult import domain, live, schemas
from services.consult.diagnoses import Diagnoses
from services.consult.domain import Consult
from services.consult.events import ConsultFinished, Medium, Side
from services.consult.handlers import Handlers
from services.consult.livekit import LiveKit
from services.consult.media import LARGEST_PICTURE, MediaFiles, recognised
from services.consult.problems import PROBLEMS
from services.consult.quick_replies import QuickReplies
from services.consult.read_model import PAGE, Consults, Marks, Messages

HTTP_THREADS = 4  # of the server's threads, kept free of live connections
MESSAGE_TYPE = "org.fuzhen.consult.MessagePosted.v1"
_BEARER = "bearer"
_CLOSE_BASE = 4000


@dataclass(frozen=True)
class Desk:
    """What the views of one process work with."""

    core: Core
    handlers: Handlers
    consults: Consults
    messages: Messages
    marks: Marks
    media: MediaFiles
    diagnoses: Diagnoses
    quick_replies: QuickReplies
    livekit: LiveKit | None
    hub: live.Hub


class _Routes(Routes):
    desk: Desk


catalogue = Catalogue(PROBLEMS)
routes = _Routes("consult", catalogue, "The doctor's side of a visit, and the conversation with the patient.")
routes.record(lambda state: state.app.config.setdefault("SOCK_SERVER_OPTIONS", live.OPTIONS))
sock = Sock()


def routes_for(core: Core) -> Routes:
    routes.desk = Desk(
        core=core,
        handlers=Handlers(core),
        consults=Consults(core),
        messages=Messages(core),
        marks=Marks(core),
        media=MediaFiles(core.database, core.vault),
        diagnoses=Diagnoses(),
        quick_replies=QuickReplies(core.database),
        livekit=LiveKit.from_env(core.env),
        hub=live.Hub(commits_of(core.database), MESSAGE_TYPE, max(1, core.settings.web_threads - HTTP_THREADS)),
    )
    return routes


def role() -> Side:
    return "doctor" if caller().has("doctor") else "patient"


def read(visit_id: str, kind: str = "visit") -> Consult:
    """The visit, if it is the caller's (§31), with a line in the audit about who looked at what. Raises Refusal
    `not_found`."""
    consult = routes.desk.handlers.read(visit_id, role(), caller().subject)
    assert consult.visit is not None  # refused otherwise
    routes.desk.core.audit.read(kind, visit_id, consult.visit)
    return consult


def listed(visits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The caller's visits with what is unread, and a line in the audit for each patient among them (§31)."""
    routes.desk.core.audit.read_list("visits", ((visit["patient_id"], visit["account_id"]) for visit in visits))
    return routes.desk.marks.unread(visits, role())


add_readings(routes, lambda: routes.desk.core.audit)


# --- visits


@routes.route("/visits")
class Visits(MethodView):
    @routes.access("patient", "doctor")
    @routes.arguments(schemas.DaySchema, location="query")
    @routes.response(200, schemas.VisitsSchema, example={"visits": [schemas.LISTED_EXAMPLE]})
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """The caller's own visits, the newest hundred, or those of one day"""
        consults = routes.desk.consults
        of = consults.of_doctor if role() == "doctor" else consults.of_account
        return {"visits": listed(of(caller().subject, query.get("day")))}


@routes.route("/schedule")
class Schedule(MethodView):
    @routes.access("doctor")
    @routes.arguments(schemas.ScheduleQuerySchema, location="query")
    @routes.response(
        200, schemas.ScheduleSchema,
        example={"days": [{"day": "2026-11-24", "visits": [schemas.LISTED_EXAMPLE]}]},
    )
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """The doctor's booked visits of the coming days, by day and slot"""
        desk = routes.desk
        first = query.get("first") or shanghai_day(desk.core.clock.now())
        days = desk.consults.schedule(caller().subject, first, query["days"])
        return {"days": [{**day, "visits": listed(day["visits"])} for day in days]}


@routes.route("/quick-replies")
class ListOfQuickReplies(MethodView):
    @routes.access("doctor")
    @routes.response(200, schemas.QuickRepliesSchema, example={"replies": ["请问最近血压控制得怎么样?"]})
    @routes.refuses("unavailable")
    def get(self) -> dict[str, Any]:
        """The doctor's own quick replies"""
        return {"replies": routes.desk.quick_replies.of(caller().subject)}

    @routes.access("doctor")
    @routes.arguments(schemas.QuickRepliesSchema, example={"replies": ["请问最近血压控制得怎么样?"]})
    @routes.response(200, schemas.QuickRepliesSchema, example={"replies": ["请问最近血压控制得怎么样?"]})
    @routes.refuses("invalid_input", "unavailable")
    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace the whole list, at most fifty"""
        routes.desk.quick_replies.replace(caller().subject, body["replies"])
        return body


@routes.route("/queue")
class Queue(MethodView):
    @routes.access("doctor")
    @routes.response(
        200, schemas.QueueSchema,
        example={"day": "2026-11-24", "visits": [{**schemas.LISTED_EXAMPLE, "waiting_seconds": 310}]},
    )
    def get(self) -> dict[str, Any]:
        """The doctor's visits of today that are waiting or being talked about, by slot"""
        now = routes.desk.core.clock.now()
        day = shanghai_day(now)
        return {"day": day.isoformat(), "visits": listed(routes.desk.consults.queue(caller().subject, day, now))}


@routes.route("/visits/<visit_id>")
class Visit(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(200, schemas.VisitSchema, example=schemas.VISIT_EXAMPLE)
    @routes.refuses("not_found")
    def get(self, visit_id: str) -> dict[str, Any]:
        """One visit, with its record once finished"""
        return _shown(read(visit_id))


@routes.route("/visits/<visit_id>/acceptance")
class Acceptance(MethodView):
    @routes.access("doctor")
    @routes.response(200, schemas.StateSchema, example={"visit_id": "v7c1d2e3f4a5", "state": "accepted"})
    @routes.command
    @routes.refuses("not_found", "consult_over", "already_accepted", "not_its_day", "not_eligible")
    @routes.refuses("partner_unavailable")
    def post(self, visit_id: str) -> ResponseReturnValue:
        """Accept the visit on its day, after eligibility has been checked once more"""
        command = domain.AcceptConsult(caller().subject)
        return _replied(routes.desk.handlers.accept(command_request(), visit_id, command))


@routes.route("/visits/<visit_id>/decline")
class Decline(MethodView):
    @routes.access("doctor")
    @routes.arguments(schemas.DeclineSchema, example={"reason": "unsuitable", "note": "胸痛待查,建议线下"})
    @routes.response(200, schemas.StateSchema, example={"visit_id": "v7c1d2e3f4a5", "state": "declined"})
    @routes.command
    @routes.refuses("not_found", "consult_over", "invalid_input")
    def post(self, body: dict[str, Any], visit_id: str) -> ResponseReturnValue:
        """Judge the condition unsuitable for online care, before or after accepting; the fee is refunded"""
        command = domain.DeclineConsult(caller().subject, body["reason"], body.get("note"))
        return _replied(routes.desk.handlers.decline(command_request(body), visit_id, command))


@routes.route("/visits/<visit_id>/finish")
class Finish(MethodView):
    @routes.access("doctor")
    @routes.arguments(schemas.RecordSchema, example=schemas.RECORD_EXAMPLE)
    @routes.response(200, schemas.StateSchema, example={"visit_id": "v7c1d2e3f4a5", "state": "finished"})
    @routes.command
    @routes.refuses("not_found", "consult_over", "not_accepted", "record_incomplete", "invalid_input")
    @routes.refuses("diagnosis_code", "syndrome_name")
    def post(self, body: dict[str, Any], visit_id: str) -> ResponseReturnValue:
        """Finish the visit with its record"""
        record = {"icd10": routes.desk.diagnoses.code_of(body["diagnosis"]), **body}
        command = domain.FinishConsult(doctor_id=caller().subject, **record)
        return _replied(routes.desk.handlers.finish(command_request(body), visit_id, command))


@routes.route("/diagnoses")
class ListOfDiagnoses(MethodView):
    @routes.access("doctor")
    @routes.arguments(schemas.TextSchema, location="query")
    @routes.response(200, schemas.DiagnosesSchema, example={"diagnoses": [{"diagnosis": "慢性胃炎", "icd10": "K29.5"}]})
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Common diagnoses by a part of the name or the beginning of the code"""
        return {"diagnoses": routes.desk.diagnoses.like(query["text"])}


# --- messages


@routes.route("/visits/<visit_id>/messages")
class Conversation(MethodView):
    @routes.access("patient", "doctor")
    @routes.arguments(schemas.AfterSchema, location="query")
    @routes.response(200, schemas.MessagesSchema, example={
        "messages": [schemas.MESSAGE_EXAMPLE], "more": False, "marks": schemas.MARKS_EXAMPLE,
    })
    @routes.refuses("not_found")
    def get(self, query: dict[str, Any], visit_id: str) -> dict[str, Any]:
        """The messages after a number, a page of fifty; readable also when the visit is over"""
        read(visit_id, "conversation")
        messages = routes.desk.messages.page(visit_id, query["after"])
        return {"messages": messages, "more": len(messages) == PAGE, "marks": routes.desk.marks.of(visit_id)}

    @routes.access("patient", "doctor")
    @routes.arguments(schemas.NewMessageSchema, example={"kind": "text", "text": "医生您好,我来复诊。"})
    @routes.response(
        201, schemas.PostedSchema,
        example={name: schemas.MESSAGE_EXAMPLE[name] for name in ("number", "message_id", "posted_at")},
    )
    @routes.command
    @routes.refuses("not_found", "consult_over", "not_accepted", "text_length", "conversation_full", "invalid_input")
    @routes.refuses("media_unknown")
    def post(self, body: dict[str, Any], visit_id: str) -> ResponseReturnValue:
        """Write, or show what was uploaded: the patient also before the doctor comes, the doctor after accepting"""
        return _replied(_post(visit_id, body, request.headers[KEY_HEADER]))


@routes.route("/visits/<visit_id>/marks")
class ReadMarks(MethodView):
    @routes.access("patient", "doctor")
    @routes.arguments(schemas.MarkSchema, example={"delivered": 3, "read": 2})
    @routes.response(200, schemas.MarksSchema, example=schemas.MARKS_EXAMPLE)
    @routes.command
    @routes.refuses("not_found", "invalid_input")
    def post(self, body: dict[str, Any], visit_id: str) -> dict[str, Any]:
        """Tell the other side how far the messages arrived and were read; marks only grow"""
        read(visit_id, "marks")
        return _mark(visit_id, body)


@routes.route("/visits/<visit_id>/media")
class Uploads(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(
        201, schemas.MediaSchema, example={"media_id": "b83f1c…", "kind": "voice", "milliseconds": 12480}
    )
    @routes.doc(requestBody={"required": True, "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {"example": {"file": "(the file)"}, "schema": {
            "type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"],
        }},
    }})
    @routes.command
    @routes.refuses("not_found", "consult_over", "not_accepted", "media_unreadable", "voice_length", "media_full")
    @routes.refuses("too_large")
    def post(self, visit_id: str) -> ResponseReturnValue:
        """Upload a picture (JPEG, PNG, WebP, up to 8 MB) or a voice clip (Ogg Opus, M4A, WAV, AMR, up to a minute and
        2 MB) for a message. What it is, is read from its bytes; where and with what it was taken is removed"""
        request.max_content_length = LARGEST_PICTURE
        if request.mimetype == "multipart/form-data":
            sent = request.files.get("file")
            upload = sent.read() if sent else b""
        else:
            upload = request.get_data()
        desk, subject = routes.desk, caller().subject
        asked = command_request({"sha256": hashlib.sha256(upload).hexdigest()})
        desk.handlers.writer(visit_id, role(), subject)
        media = recognised(upload)
        content = desk.core.vault.blind("media", hashlib.sha256(upload).hexdigest())
        command = domain.KeepMedia(
            sender=role(), author_id=subject, kind=media.kind, milliseconds=media.milliseconds,
            media_id=derived_id("media", visit_id, subject, request.headers[KEY_HEADER], content),
        )
        desk.media.keep(command.media_id, visit_id, media)
        return _replied(desk.handlers.keep_media(asked, visit_id, command))


@routes.route("/visits/<visit_id>/media/<media_id>")
class Upload(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(200, {"type": "string", "format": "binary"}, content_type="application/octet-stream")
    @routes.refuses("not_found")
    def get(self, visit_id: str, media_id: str) -> Response:
        """A picture (image/jpeg) or voice clip (audio/…) of the conversation, for its two sides"""
        read(visit_id, "media")
        routes.desk.handlers.see_media(visit_id, media_id, role())
        content_type, content = routes.desk.media.read(media_id)
        return Response(content, content_type=content_type, headers={"Content-Security-Policy": "sandbox"})


# --- calls


@routes.route("/visits/<visit_id>/calls")
class Calls(MethodView):
    @routes.access("doctor")
    @routes.arguments(schemas.NewCallSchema, example={"medium": "video"})
    @routes.response(201, schemas.AdmissionSchema, example=schemas.ADMISSION_EXAMPLE)
    @routes.command
    @routes.refuses("not_found", "consult_over", "not_accepted", "conversation_full", "invalid_input")
    @routes.refuses("calls_unavailable")
    def post(self, body: dict[str, Any], visit_id: str) -> ResponseReturnValue:
        """Call the patient, who finds the invitation in the conversation; with what the doctor joins the call by"""
        livekit = _livekit()
        command = domain.OpenCall(caller().subject, body["medium"])
        opened = routes.desk.handlers.open_call(command_request(body), visit_id, command)
        return _admitted(livekit, opened.body["call_id"], opened.body["medium"]), opened.status


@routes.route("/visits/<visit_id>/calls/<call_id>/tokens")
class CallTokens(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(201, schemas.AdmissionSchema, example=schemas.ADMISSION_EXAMPLE)
    @routes.command
    @routes.refuses("not_found", "consult_over", "not_accepted", "call_over", "calls_unavailable")
    def post(self, visit_id: str, call_id: str) -> ResponseReturnValue:
        """What the caller joins a call by, also again after a dropped connection"""
        livekit = _livekit()
        call = routes.desk.handlers.join_call(visit_id, call_id, role(), caller().subject)
        return _admitted(livekit, call.call_id, call.medium), 201


@routes.route("/notices/livekit")
class LiveKitNotices(MethodView):
    @routes.response(200, schemas.NoticeAnswerSchema, example={"status": "ok"})
    @routes.refuses("not_authentic", "calls_unavailable", "unavailable")
    def post(self) -> dict[str, str]:
        """What the LiveKit server tells of calls, signed in Authorization. Told twice, late or out of order it changes
        nothing more"""
        told = _livekit().told(request.headers.get("Authorization", ""), request.get_data())
        if told is not None and (visit_id := told.room.rpartition(".")[0]):
            side = cast(Side, told.identity) if told.identity in ("patient", "doctor") else None
            asked = Request(caller="livekit", route="notices", key=told.id, correlation_id=correlation_id())
            routes.desk.handlers.note_call(asked, visit_id, domain.NoteCall(told.room, told.what, side))
        return {"status": "ok"}


def _livekit() -> LiveKit:
    if routes.desk.livekit is None:
        raise Refusal("calls_unavailable")
    return routes.desk.livekit


def _admitted(livekit: LiveKit, call_id: str, medium: Medium) -> dict[str, Any]:
    token, until = livekit.token(call_id, role(), medium)
    return {
        "call_id": call_id, "medium": medium, "url": livekit.url, "token": token, "expires_at": rfc3339(until)
    }


@sock.route("/visits/<visit_id>/live", bp=routes)
@routes.doc(
    security=[{"bearer": []}],
    parameters=[
        {"in": "query", "name": "after", "schema": {"type": "integer", "minimum": 0, "default": 0},
         "description": "The last number seen; what follows is sent at once", "example": 3},
        {"in": "header", "name": "Sec-WebSocket-Protocol", "schema": {"type": "string"},
         "description": "`bearer, <token>`, for browsers, which cannot set Authorization", "example": "bearer, eyJ…"},
    ],
    responses={"101": {"description": (
        'A WebSocket. The server sends `{"type": "message", …}` in order and `{"type": "marks", "patient", "doctor"}` '
        'when the other side received or read more, and answers each frame `{"kind": "text", "text": …, "key": …}`, '
        '`{"kind": "picture", "media_id": …, "key": …}`, `{"kind": "mark", "delivered", "read", "key": …}` with '
        '`{"type": "ack", "key", "number", …}` or '
        '`{"type": "problem", "key", "problem"}`. A browser, which cannot read a refused upgrade, gets 4000 + status.'
    )}},
)
@routes.refuses("token_missing", "token_invalid", "forbidden", "not_found", "invalid_input")
def conversation_live(ws: Server, visit_id: str) -> None:
    """The conversation as it goes on"""
    if "refused" in g:
        ws.close(_CLOSE_BASE + catalogue[g.refused].status, g.refused)
        return
    live.Line(
        ws,
        visit_id=visit_id,
        subject=caller().subject,
        after=g.after,
        until=g.until,
        page=lambda after: routes.desk.messages.page(visit_id, after),
        marked=lambda: routes.desk.marks.of(visit_id),
        frame=lambda content: _frame(visit_id, content),
    ).serve(routes.desk.hub)


@routes.before_request
def _admit() -> None:
    """Who may open the live side is decided before the upgrade, so that a stranger gets a plain 404."""
    if request.url_rule is None or not request.url_rule.websocket:
        return
    request.environ["gunicorn.socket"] = live.SharedSocket(request.environ["gunicorn.socket"])
    browser = "Authorization" not in request.headers
    try:
        if browser:
            request.environ["HTTP_AUTHORIZATION"] = f"Bearer {_token_of_browser()}"
        identify()
        if not caller().has("patient", "doctor"):
            raise Refusal("forbidden")
        read((request.view_args or {})["visit_id"], "conversation")
        g.after = schemas.AfterSchema(unknown=EXCLUDE).load(request.args)["after"]
        # The token has just been verified; only then is it believed about its own end.
        token = request.headers["Authorization"].split()[1]
        g.until = float(jwt.decode(token, options={"verify_signature": False})["exp"])
    except ValidationError as invalid:
        _refuse_upgrade(Refusal("invalid_input", errors=invalid.messages), browser)
    except Refusal as refusal:
        _refuse_upgrade(refusal, browser)


def _refuse_upgrade(refusal: Refusal, browser: bool) -> None:
    if not browser:
        raise refusal
    g.refused = refusal.code


def _token_of_browser() -> str:
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    return offered[1] if len(offered) == 2 and offered[0] == _BEARER else ""


@routes.errorhandler(RemoteProtocolError)
def _no_websocket(_: RemoteProtocolError) -> ResponseReturnValue:
    return problem("malformed")


def _frame(visit_id: str, content: str | bytes) -> dict[str, Any]:
    """The answer to one frame, as it would be over HTTP."""
    key = ""
    facts: dict[str, Any] = {}
    try:
        sent = orjson.loads(content)
        marks = isinstance(sent, dict) and sent.get("kind") == "mark"
        frame = cast(dict[str, Any], (schemas.MarkFrameSchema if marks else schemas.FrameSchema)().load(sent))
        key = frame["key"]
        return {"type": "ack", "key": key, **(_mark(visit_id, frame) if marks else _post(visit_id, frame, key).body)}
    except ValidationError as invalid:
        code, facts = "invalid_input", {"errors": invalid.messages}
    except orjson.JSONDecodeError:
        code = "malformed"
    except Refusal as refusal:
        code, facts = refusal.code, refusal.facts
    except ErasedPerson:
        code = "not_found"
    except StoreUnavailable:
        code = "unavailable"
    return {"type": "problem", "key": key, "problem": catalogue[code].render(facts, request.path)}


def _mark(visit_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Raises Refusal `not_found` for the number of a message that is not there."""
    number = max(body["delivered"], body["read"])
    if number and not routes.desk.messages.page(visit_id, number - 1, 1):
        raise Refusal("not_found")
    routes.desk.marks.set(visit_id, role(), body["delivered"], body["read"])
    return routes.desk.marks.of(visit_id)


def _post(visit_id: str, body: dict[str, Any], key: str) -> Answer:
    """The same command over HTTP and WebSocket: a client may repeat over one what it tried over the other. The
    fingerprint is keyed, so that the log holds nothing by which words could be guessed after an erasure."""
    content = body.get("text", "") if body["kind"] == "text" else f"{body['kind']}\x1f{body['media_id']}"
    command = domain.PostMessage(
        role(), caller().subject, body.get("text", ""), kind=body["kind"], media_id=body.get("media_id")
    )
    asked = Request(
        caller=caller().subject,
        route="POST messages",
        key=key,
        fingerprint=routes.desk.core.vault.blind("message", f"{visit_id}\x1f{content}"),
        correlation_id=correlation_id(),
        traceparent=request.headers.get("traceparent", "")[:64],
    )
    return routes.desk.handlers.post(asked, visit_id, command)


def _replied(answer: Answer) -> tuple[dict[str, Any], int]:
    return answer.body, answer.status


def _shown(consult: Consult) -> dict[str, Any]:
    visit = consult.visit
    assert visit is not None  # `read` refuses a visit that is not there
    shown: dict[str, Any] = {
        "visit_id": visit.visit_id, "state": consult.status, "patient_id": visit.patient_id,
        "doctor_id": visit.doctor_id, "day": visit.day, "starts_at": rfc3339(visit.starts_at),
        "day_ends_at": rfc3339(visit.day_ends_at),
    }
    if consult.accepted_at is not None:
        shown["accepted_at"] = rfc3339(consult.accepted_at)
    if consult.declined is not None:
        shown["reason"] = consult.declined.reason
        if role() == "doctor" and consult.declined.note is not None:
            shown["note"] = consult.declined.note
    if consult.cancelled_for is not None:
        shown["reason"] = consult.cancelled_for
    if consult.finished is not None:
        shown["finished_at"] = rfc3339(consult.finished.finished_at)
        shown["record"] = _record(consult.finished)
    if (call := routes.desk.handlers.current_call(consult)) and consult.status == "accepted":
        shown["call"] = {"call_id": call.call_id, "medium": call.medium}
    return shown


def _record(finished: ConsultFinished) -> dict[str, Any]:
    parts = {name: getattr(finished, name) for name in schemas.RecordSchema().fields}
    return {name: part for name, part in parts.items() if part is not None}
