"""What goes in and out over HTTP (marshmallow). Instants are RFC 3339, days YYYY-MM-DD in Asia/Shanghai, money fen."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from services.registration.domain.people import DOCUMENTS, RELATIONS, RESIDENT_ID, SEXES
from services.registration.notifications import CHANNELS, LANGUAGES
from services.registration.policy import ENTRANCES, POLICIES

CARD_NUMBER_KINDS = ("visit_card", "insurance_card")
CHECKPOINTS = ("payment", "acceptance")

_ID = validate.Length(min=1, max=64)


class Id(fields.String):
    """An opaque identifier."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=kwargs.pop("required", True), validate=_ID, **kwargs)


class Phone(fields.String):
    """A mobile number of mainland China: 11 digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=kwargs.pop("required", True), validate=validate.Regexp(r"^1[3-9]\d{9}\Z"), **kwargs)


class IdNumber(fields.String):
    """The number of a document; whether it is one is the domain's to say (§7)."""

    def __init__(self) -> None:
        super().__init__(required=True, validate=validate.Length(min=5, max=18))

    def _deserialize(self, *args: Any, **kwargs: Any) -> str:
        return str(super()._deserialize(*args, **kwargs)).strip().upper()


class Name(fields.String):
    def __init__(self) -> None:
        super().__init__(required=True, validate=validate.Length(min=1, max=50))

    def _deserialize(self, *args: Any, **kwargs: Any) -> str:
        return str(super()._deserialize(*args, **kwargs)).strip()


# --- login


class LoginCodeSchema(Schema):
    phone = Phone()


class CodeSentSchema(Schema):
    expires_in = fields.Integer(metadata={"description": "seconds"})


_GRANTS = {"code": ("phone", "code"), "refresh": ("refresh_token",), "client": ("client_id", "client_secret")}


class TokenRequestSchema(Schema):
    grant = fields.String(required=True, validate=validate.OneOf(("code", "refresh", "client")))
    phone = Phone(required=False)
    code = fields.String(validate=validate.Regexp(r"^\d{4,8}\Z"))
    device = fields.String(load_default="", validate=validate.Length(max=60))
    refresh_token = fields.String(validate=validate.Length(min=1, max=200))
    client_id = Id(required=False)
    client_secret = fields.String(validate=validate.Length(min=1, max=200))

    @validates_schema
    def whole(self, data: dict[str, Any], **_: Any) -> None:
        """Each grant needs its own fields."""
        needed = _GRANTS.get(data.get("grant", ""), ())
        if missing := {name: ["Missing data for required field."] for name in needed if name not in data}:
            raise ValidationError(missing)


class TokenSchema(Schema):
    access_token = fields.String()
    token_type = fields.String()
    expires_in = fields.Integer()
    subject = fields.String()
    roles = fields.List(fields.String())
    device_id = fields.String(metadata={"description": "not for services"})
    refresh_token = fields.String(metadata={"description": "not for services; works once"})


class DeviceSchema(Schema):
    device_id = fields.String()
    name = fields.String()
    opened_at = fields.String()
    seen_at = fields.String()
    current = fields.Boolean(metadata={"description": "the one that asks"})


class DevicesSchema(Schema):
    devices = fields.List(fields.Nested(DeviceSchema))


class DeviceRevokedSchema(Schema):
    device_id = fields.String()


class SetPreferencesSchema(Schema):
    language = fields.String(required=True, validate=validate.OneOf(LANGUAGES))
    channel = fields.String(required=True, validate=validate.OneOf(CHANNELS))
    wechat_openid = fields.String(
        load_default=None, validate=validate.Regexp(r"^[0-9A-Za-z_-]{28}\Z"),
        metadata={"description": "who they are to the hospital's official account; stays as it is when not given"},
    )


class PreferencesSchema(Schema):
    language = fields.String()
    channel = fields.String()
    wechat_linked = fields.Boolean()


class RevokedDevicesSchema(Schema):
    devices = fields.List(fields.String())
    within_seconds = fields.Integer()


class JwksSchema(Schema):
    keys = fields.List(fields.Dict())


# --- what is offered


class EntranceSchema(Schema):
    entrance = fields.String()
    name = fields.String()
    name_en = fields.String()
    qr_content = fields.String(metadata={"description": "what the QR code says"})
    qr_svg = fields.String(metadata={"description": "path of the QR code as SVG"})
    qr_png = fields.String(metadata={"description": "path of the QR code as PNG"})


class EntrancesSchema(Schema):
    entrances = fields.List(fields.Nested(EntranceSchema))


class NoticeSchema(Schema):
    version = fields.String(metadata={"description": "SHA-256 of the text"})
    text = fields.String()


class DepartmentSchema(Schema):
    department_id = fields.String()
    name = fields.String()
    name_en = fields.String()


class DepartmentsSchema(Schema):
    departments = fields.List(fields.Nested(DepartmentSchema))


class DoctorsQuerySchema(Schema):
    department_id = Id(required=False)


class DoctorSchema(Schema):
    doctor_id = fields.String()
    name = fields.String()
    title = fields.String()
    specialty = fields.String()
    department_ids = fields.List(fields.String())
    fee_fen = fields.Integer(metadata={"description": "the tariff of today (§12)"})


class DoctorsSchema(Schema):
    doctors = fields.List(fields.Nested(DoctorSchema))


class SessionsQuerySchema(Schema):
    doctor_id = Id(required=False)
    day = fields.Date(format="iso")


class SlotSchema(Schema):
    slot_id = fields.String()
    starts_at = fields.String()
    state = fields.String(validate=validate.OneOf(("open", "held", "sold", "closed")))


class SessionSchema(Schema):
    session_id = fields.String()
    doctor_id = fields.String()
    department_id = fields.String()
    title = fields.String()
    day = fields.String()
    starts_at = fields.String()
    ends_at = fields.String()
    fee_fen = fields.Integer()
    state = fields.String(validate=validate.OneOf(("open", "cancelled")))
    slots = fields.List(fields.Nested(SlotSchema))


class SessionsSchema(Schema):
    sessions = fields.List(fields.Nested(SessionSchema))


class JoinWaitingSchema(Schema):
    patient_id = Id()


class WaitingJoinedSchema(Schema):
    entry_id = fields.String()
    position = fields.Integer()


class OfferSchema(Schema):
    slot_id = fields.String()
    until = fields.String()


class WaitingEntrySchema(Schema):
    entry_id = fields.String()
    patient_id = fields.String()
    position = fields.Integer()
    offer = fields.Nested(OfferSchema)


class WaitingSchema(Schema):
    entries = fields.List(fields.Nested(WaitingEntrySchema))


class WaitingLeftSchema(Schema):
    entry_id = fields.String()


class OpenSessionSchema(Schema):
    doctor_id = Id()
    department_id = Id()
    starts_at = fields.AwareDateTime(required=True, format="iso")
    ends_at = fields.AwareDateTime(required=True, format="iso")
    slot_minutes = fields.Integer(required=True, strict=True, validate=validate.Range(min=5, max=120))


class SessionCancelledSchema(Schema):
    session_id = fields.String()
    visits = fields.Integer(metadata={"description": "visits that are withdrawn and refunded now"})


class SessionOpenedSchema(Schema):
    session_id = fields.String()
    fee_fen = fields.Integer()


# --- patients


class DocumentSchema(Schema):
    """Birth date and sex are needed with every document but the resident ID, which says them itself."""

    name = Name()
    document = fields.String(load_default=RESIDENT_ID, validate=validate.OneOf(DOCUMENTS))
    id_number = IdNumber()
    birth_date = fields.Date(format="iso")
    sex = fields.String(validate=validate.OneOf(SEXES))


class GuardianSchema(DocumentSchema):
    phone = Phone()
    relation = fields.String(required=True, validate=validate.OneOf(("parent", "grandparent", "other")))
    consents = fields.Boolean(required=True)


class AddPatientSchema(DocumentSchema):
    phone = Phone()
    relation = fields.String(required=True, validate=validate.OneOf(RELATIONS))
    guardian = fields.Nested(GuardianSchema)


class PatientAddedSchema(Schema):
    patient_id = fields.String()


class CardSchema(Schema):
    card_id = fields.String()
    kind = fields.String()
    card_kind = fields.String()
    card_no = fields.String(metadata={"description": "last four digits"})


class PatientSchema(Schema):
    patient_id = fields.String()
    name = fields.String()
    document = fields.String()
    id_number = fields.String(metadata={"description": "masked"})
    phone = fields.String(metadata={"description": "masked"})
    birth_date = fields.String()
    sex = fields.String()
    relation = fields.String()
    guardian_consented = fields.Boolean()
    restricted_until = fields.String(metadata={"description": "of a patient who will be erased (§32)"})
    cards = fields.List(fields.Nested(CardSchema))


class ErasureSchema(Schema):
    patient_id = fields.String(required=True)
    state = fields.String(required=True)
    until = fields.String(required=True, metadata={"description": "Day in Asia/Shanghai of the erasure"})


class PatientsSchema(Schema):
    patients = fields.List(fields.Nested(PatientSchema))


class BindCardSchema(Schema):
    card_no = fields.String(required=True, validate=validate.Regexp(r"^[0-9A-Za-z]{4,32}\Z"))
    kind = fields.String(required=True, validate=validate.OneOf(CARD_NUMBER_KINDS))


class CardBoundSchema(Schema):
    card_id = fields.String()
    card_kind = fields.String()


class PhotoSchema(Schema):
    photo_id = fields.String()


class PhotoLinkSchema(Schema):
    url = fields.String()
    expires_in = fields.Integer(metadata={"description": "seconds"})


class PhotoLinkQuerySchema(Schema):
    expires = fields.Integer(required=True)
    signature = fields.String(required=True, validate=validate.Length(max=100))


# --- visits


class ConditionSchema(Schema):
    """§10 in the patient's words; §3 as the patient declares it."""

    chief_complaint = fields.String(required=True, validate=validate.Length(min=1, max=500))
    present_illness = fields.String(required=True, validate=validate.Length(max=4000))
    past_history = fields.String(load_default="", validate=validate.Length(max=4000))
    allergies = fields.String(load_default="", validate=validate.Length(max=1000))
    follow_up = fields.Boolean(required=True)
    stable = fields.Boolean(required=True)
    emergency = fields.Boolean(required=True)


class BookVisitSchema(Schema):
    patient_id = Id()
    card_id = Id()
    session_id = Id()
    slot_id = Id()
    entrance = fields.String(required=True, validate=validate.OneOf([entrance.entrance for entrance in ENTRANCES]))
    notice_version = fields.String(required=True, validate=validate.Length(equal=64))
    condition = fields.Nested(ConditionSchema, required=True)
    photo_ids = fields.List(Id(), load_default=list, validate=validate.Length(max=POLICIES[-1].photos))


class ConditionPartsSchema(ConditionSchema):
    """As much of the condition as there is."""


class DraftPartsSchema(Schema):
    """Any parts of a booking; nothing is required before it is submitted."""

    card_id = Id(required=False)
    session_id = Id(required=False)
    slot_id = Id(required=False)
    entrance = fields.String(validate=validate.OneOf([entrance.entrance for entrance in ENTRANCES]))
    notice_version = fields.String(validate=validate.Length(equal=64))
    condition = fields.Nested(ConditionPartsSchema(partial=True))
    photo_ids = fields.List(Id(), validate=validate.Length(max=POLICIES[-1].photos))


class BeginDraftSchema(DraftPartsSchema):
    patient_id = Id()


class DraftSavedSchema(Schema):
    draft_id = fields.String()
    missing = fields.List(fields.String(), metadata={"description": "parts that a submission still needs"})


class DraftSchema(BeginDraftSchema):
    draft_id = fields.String()
    missing = fields.List(fields.String())
    visit_id = fields.String()


class DraftSummarySchema(Schema):
    draft_id = fields.String()
    patient_id = fields.String()
    session_id = fields.String()
    slot_id = fields.String()
    saved_at = fields.String()


class DraftsSchema(Schema):
    drafts = fields.List(fields.Nested(DraftSummarySchema))


class VisitHeldSchema(Schema):
    visit_id = fields.String()
    state = fields.String()
    hold_until = fields.String()
    fee_fen = fields.Integer()


class VisitSchema(Schema):
    visit_id = fields.String()
    state = fields.String(
        validate=validate.OneOf(("held", "booked", "accepted", "finished", "lapsed", "withdrawn"))
    )
    patient_id = fields.String()
    doctor_id = fields.String()
    department_id = fields.String()
    session_id = fields.String()
    slot_id = fields.String()
    day = fields.String()
    starts_at = fields.String()
    entrance = fields.String()
    card_kind = fields.String()
    fee_fen = fields.Integer()
    hold_until = fields.String()


class VisitsSchema(Schema):
    visits = fields.List(fields.Nested(VisitSchema))


class VisitConditionSchema(Schema):
    """For the doctor of the visit and for its patient."""

    visit_id = fields.String()
    patient = fields.Dict(metadata={"description": "name, sex, age in full years on the day of the visit"})
    chief_complaint = fields.String()
    present_illness = fields.String()
    past_history = fields.String()
    allergies = fields.String()
    follow_up = fields.Boolean()
    stable = fields.Boolean()
    emergency = fields.Boolean()
    photo_ids = fields.List(fields.String())


class WithdrawnSchema(Schema):
    visit_id = fields.String()
    state = fields.String()


# --- internal


class InternalPatientSchema(Schema):
    patient_id = fields.String()
    account_id = fields.String()
    his_patient_id = fields.String()
    name = fields.String()
    document = fields.String()
    id_number = fields.String()
    phone = fields.String()
    birth_date = fields.String()
    sex = fields.String()
    relation = fields.String()
    guardian_consented = fields.Boolean()


class InternalVisitSchema(VisitSchema):
    account_id = fields.String()
    card_id = fields.String()
    title = fields.String()
    assessment_id = fields.String()
    notice_version = fields.String()
    notice_confirmed_at = fields.String()
    notice_confirmed_by = fields.String()
    order_id = fields.String()


class CheckpointSchema(Schema):
    checkpoint = fields.String(required=True, validate=validate.OneOf(CHECKPOINTS))


class AssessedSchema(Schema):
    visit_id = fields.String()
    assessment_id = fields.String()
