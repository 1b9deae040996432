"""The shapes of requests and answers. Instants are RFC 3339 in UTC, `day` is a date in Asia/Shanghai."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from services.consult.quick_replies import LONGEST, MOST


def _unicode(text: str) -> None:
    """JSON can smuggle in half a character (`\\ud800`), which no store takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError("Not valid Unicode.") from error


_WORDS = (validate.Length(min=1, max=2000), _unicode)


class DeclineSchema(Schema):
    reason = fields.String(required=True, validate=validate.OneOf(["unsuitable"]))
    note = fields.String(
        validate=_WORDS, metadata={"description": "For the doctor's own file; the patient does not see it"}
    )


class RecordSchema(Schema):
    complaint = fields.String(required=True, validate=_WORDS, metadata={"description": "主诉"})
    present_illness = fields.String(required=True, validate=_WORDS, metadata={"description": "现病史"})
    diagnosis = fields.String(required=True, validate=_WORDS, metadata={"description": "诊断"})
    icd10 = fields.String(
        validate=validate.Length(max=20),
        metadata={"description": "ICD-10 code; may be left out for a name in the hospital's list (GET diagnoses)"},
    )
    tcm_syndrome = fields.String(validate=_WORDS, metadata={"description": "中医证候"})
    advice = fields.String(required=True, validate=_WORDS, metadata={"description": "处理意见"})


class TextSchema(Schema):
    text = fields.String(required=True, validate=(validate.Length(min=1, max=50), _unicode))


class DiagnosisSchema(Schema):
    diagnosis = fields.String(required=True)
    icd10 = fields.String(required=True)


class DiagnosesSchema(Schema):
    diagnoses = fields.List(fields.Nested(DiagnosisSchema), required=True)


class NewMessageSchema(Schema):
    kind = fields.String(required=True, validate=validate.OneOf(["text", "picture", "voice"]))
    text = fields.String(
        validate=(validate.Length(min=1, max=4000), _unicode), metadata={"description": "Of kind text"}
    )
    media_id = fields.String(
        validate=(validate.Length(min=1, max=64), _unicode), metadata={"description": "Of a picture or voice clip"}
    )

    @validates_schema
    def _one_content(self, data: dict[str, Any], **_: Any) -> None:
        wanted, other = ("text", "media_id") if data["kind"] == "text" else ("media_id", "text")
        if wanted not in data:
            raise ValidationError("Missing data for required field.", wanted)
        if other in data:
            raise ValidationError("Does not belong to this kind.", other)


class FrameSchema(NewMessageSchema):
    """What a client sends over the WebSocket; `key` is the idempotency key."""

    key = fields.String(required=True, validate=(validate.Length(min=1, max=200), _unicode))


class NewCallSchema(Schema):
    medium = fields.String(required=True, validate=validate.OneOf(["voice", "video"]))


class CallSchema(NewCallSchema):
    call_id = fields.String(required=True)


class AdmissionSchema(CallSchema):
    url = fields.String(required=True, metadata={"description": "Of the LiveKit server, for its client SDKs"})
    token = fields.String(required=True, metadata={"description": "LiveKit access token of the caller for this room"})
    expires_at = fields.String(required=True, metadata={"description": "Join before; who has joined stays"})


class NoticeAnswerSchema(Schema):
    status = fields.String(required=True)


class MarkSchema(Schema):
    delivered = fields.Integer(
        load_default=0, validate=validate.Range(min=0, max=100_000),
        metadata={"description": "Number of the last message that arrived"},
    )
    read = fields.Integer(
        load_default=0, validate=validate.Range(min=0, max=100_000),
        metadata={"description": "Number of the last message that was seen"},
    )


class MarkFrameSchema(MarkSchema):
    kind = fields.String(required=True, validate=validate.Equal("mark"))
    key = fields.String(required=True, validate=(validate.Length(min=1, max=200), _unicode))


class MarksSchema(Schema):
    """How far each side has received and read."""

    patient = fields.Nested(MarkSchema, required=True)
    doctor = fields.Nested(MarkSchema, required=True)


class MediaSchema(Schema):
    media_id = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(["picture", "voice"]))
    milliseconds = fields.Integer(required=True, metadata={"description": "Of a voice clip; 0 of a picture"})


class StateSchema(Schema):
    visit_id = fields.String(required=True)
    state = fields.String(
        required=True,
        validate=validate.OneOf(["waiting", "accepted", "declined", "missed", "abandoned", "finished", "cancelled"]),
    )


class VisitSchema(StateSchema):
    patient_id = fields.String(required=True)
    doctor_id = fields.String(required=True)
    day = fields.Date(required=True)
    starts_at = fields.String(required=True)
    day_ends_at = fields.String(required=True)
    accepted_at = fields.String()
    finished_at = fields.String()
    reason = fields.String(metadata={"description": "Why it was declined or cancelled"})
    note = fields.String(metadata={"description": "The doctor's own note on declining; shown to the doctor only"})
    record = fields.Nested(RecordSchema)
    call = fields.Nested(CallSchema, metadata={"description": "The call that can be joined now"})


class PostedSchema(Schema):
    number = fields.Integer(required=True)
    message_id = fields.String(required=True)
    posted_at = fields.String(required=True)


class MessageSchema(PostedSchema):
    sender = fields.String(required=True, validate=validate.OneOf(["patient", "doctor", "system"]))
    kind = fields.String(required=True, validate=validate.OneOf(["text", "picture", "voice", "prescription"]))
    text = fields.String(metadata={"description": "Absent once the patient's data has been erased"})
    text_en = fields.String(metadata={"description": "Of system messages"})
    notice = fields.String()
    prescription_id = fields.String()
    call_id = fields.String()
    call = fields.String(
        validate=validate.OneOf(["voice", "video", "ended"]),
        metadata={"description": "A call of that medium can be joined, or has ended"},
    )
    media_id = fields.String(metadata={"description": "Of a picture or voice clip: ask for it at media/<media_id>"})
    milliseconds = fields.Integer(metadata={"description": "Of a voice clip"})


class MessagesSchema(Schema):
    messages = fields.List(fields.Nested(MessageSchema), required=True)
    more = fields.Boolean(required=True, metadata={"description": "Ask again with `after` = the last number"})
    marks = fields.Nested(MarksSchema, required=True)


class AfterSchema(Schema):
    after = fields.Integer(load_default=0, validate=validate.Range(min=0), metadata={"description": "Last number seen"})


class DaySchema(Schema):
    day = fields.Date()


class ListedVisitSchema(StateSchema):
    patient_id = fields.String(required=True)
    doctor_id = fields.String(required=True)
    day = fields.String(required=True)
    starts_at = fields.String(required=True)
    messages = fields.Integer(required=True, metadata={"description": "Number of the last message"})
    unanswered_since = fields.String(
        metadata={"description": "The patient's first message that the doctor has not answered"}
    )
    last_posted_at = fields.String()
    accepted_at = fields.String()
    finished_at = fields.String()
    reason = fields.String(metadata={"description": "Why it was declined or cancelled"})
    prescription_ids = fields.List(fields.String())
    unread = fields.Integer(metadata={"description": "Messages that the caller has not marked as read"})


class VisitsSchema(Schema):
    visits = fields.List(fields.Nested(ListedVisitSchema), required=True)


class QueuedVisitSchema(ListedVisitSchema):
    waiting_seconds = fields.Integer(metadata={"description": "Since the slot's time; only while nobody has accepted"})


class ScheduleQuerySchema(Schema):
    first = fields.Date(metadata={"description": "Today when left out"})
    days = fields.Integer(load_default=7, validate=validate.Range(min=1, max=31))


class ScheduledDaySchema(Schema):
    day = fields.String(required=True)
    visits = fields.List(fields.Nested(ListedVisitSchema), required=True)


class ScheduleSchema(Schema):
    days = fields.List(fields.Nested(ScheduledDaySchema), required=True)


class QuickRepliesSchema(Schema):
    replies = fields.List(
        fields.String(validate=(validate.Length(min=1, max=LONGEST), _unicode)), required=True,
        validate=validate.Length(max=MOST),
    )


class QueueSchema(Schema):
    day = fields.String(required=True)
    visits = fields.List(fields.Nested(QueuedVisitSchema), required=True)


MESSAGE_EXAMPLE: dict[str, Any] = {
    "number": 3, "message_id": "v7c1d2e3f4a5-3", "sender": "doctor", "kind": "text",
    "text": "最近一周血压控制得怎么样?", "posted_at": "2026-11-24T01:33:00.000Z",
}
MARKS_EXAMPLE = {"patient": {"delivered": 3, "read": 2}, "doctor": {"delivered": 3, "read": 3}}
ADMISSION_EXAMPLE = {
    "call_id": "v7c1d2e3f4a5.1", "medium": "video", "url": "wss://call.fuzhen.example", "token": "eyJ…",
    "expires_at": "2026-11-24T01:50:00.000Z",
}
RECORD_EXAMPLE = {
    "complaint": "高血压复诊", "present_illness": "服药三月,血压平稳", "diagnosis": "原发性高血压",
    "icd10": "I10", "tcm_syndrome": "肝阳上亢证", "advice": "继续原方,一月后复查",
}
VISIT_EXAMPLE: dict[str, Any] = {
    "visit_id": "v7c1d2e3f4a5", "state": "accepted", "patient_id": "p1a2b3c4d5", "doctor_id": "d-lin",
    "day": "2026-11-24", "starts_at": "2026-11-24T01:30:00.000Z", "day_ends_at": "2026-11-24T16:00:00.000Z",
    "accepted_at": "2026-11-24T01:31:02.000Z",
}
LISTED_EXAMPLE: dict[str, Any] = {
    "visit_id": "v7c1d2e3f4a5", "state": "waiting", "patient_id": "p1a2b3c4d5", "doctor_id": "d-lin",
    "day": "2026-11-24", "starts_at": "2026-11-24T01:30:00.000Z", "messages": 1,
    "unanswered_since": "2026-11-24T01:20:00.000Z", "last_posted_at": "2026-11-24T01:20:00.000Z", "unread": 1,
}
