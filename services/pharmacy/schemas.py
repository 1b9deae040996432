"""The shapes of the pharmacy's HTTP interface. Money is `…_fen`, instants are RFC 3339 UTC."""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate

from services.pharmacy.domain.parcel import MOVES

KINDS = ("western", "herbal")
SIGNED = {
    "prescription_id": "3f1c9a52d77f4a0b9e6b1c2d3e4f5a6b",
    "state": "in_review",
    "amount_fen": 8960,
    "signed_at": "2026-11-24T01:50:00.000Z",
    "valid_until": "2026-11-27T01:50:00.000Z",
    "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "stock_checked": True,
}
WANTED: dict[str, Any] = {
    "diagnosis": "咳嗽变异性哮喘，痰湿证",
    "lines": [{
        "drug_code": "W007", "quantity": 2, "usage": "口服",
        "dosing": {"amount": "3", "unit": "粒", "times_per_day": 3, "days": 5},
    }],
}  # fmt: skip
SUMMARY = {
    "prescription_id": SIGNED["prescription_id"],
    "visit_id": "v7c1d2e3f4a5",
    "doctor_id": "d-lin",
    "kind": "western",
    "state": "issued",
    "paid": False,
    "amount_fen": 10520,
    "signed_at": SIGNED["signed_at"],
    "valid_until": SIGNED["valid_until"],
}
SHEET = {
    **SUMMARY,
    "patient_id": "p1a2b3c4d5",
    "content_sha256": SIGNED["content_sha256"],
    "diagnosis": WANTED["diagnosis"],
    "lines": [{
        **WANTED["lines"][0], "dose": "每次3粒,一日3次,5天", "name": "苏黄止咳胶囊 0.45g×24粒", "form": "胶囊",
        "unit": "盒", "price_fen": 5260, "amount_fen": 10520,
    }],
    "signature": {"algorithm": "CMS (PKCS#7) detached", "key_id": "0c5f…", "value": "MIIC…"},
}  # fmt: skip
DRUGS = {
    "sample": True,
    "drugs": [{
        "drug_code": "W007", "name": "苏黄止咳胶囊 0.45g×24粒", "kind": "western", "form": "胶囊", "unit": "盒",
        "price_fen": 5260, "generic": "苏黄止咳胶囊", "en": "Suhuang Zhike capsules", "atc": "TCM", "limit_unit": "粒",
        "max_single": 3.0, "max_daily": 9.0, "notes": ["高血压、心脏病患者慎用"],
    }],
}  # fmt: skip
EVIDENCE = {
    "prescription_id": SIGNED["prescription_id"], "authority_certificate": "-----BEGIN CERTIFICATE-----\n…",
    "documents": [{
        "document": "prescription", "role": "doctor", "signer": "d-lin", "content": "{\"amount_fen\":10520,…}",
        "certificate_serial": "0c5f…", "signature": "MIIC…",
    }],
}  # fmt: skip
VERIFICATION = {
    "prescription_id": SIGNED["prescription_id"], "state": "issued", "content_sha256": SIGNED["content_sha256"],
    "signature_holds": True, "signed_at": SIGNED["signed_at"], "valid_until": SIGNED["valid_until"],
}  # fmt: skip
WAITING = {
    "prescriptions": [{name: value for name, value in SUMMARY.items() if name not in ("state", "paid")}],
}
COURIERS = {"couriers": [{"courier": "anda", "name": "安达速递", "estimated_fee_fen": 1200}]}
CHOSEN = {"prescription_id": SIGNED["prescription_id"], "courier": "anda", "address_id": "8d7c6b5a49384726"}
PARCEL = {
    "parcel_id": SIGNED["prescription_id"], "courier": "anda", "state": "delivered", "tracking_no": "FZ000261593102551",
    "history": [
        {"status": "collected", "at": "2026-11-24T04:00:00.000Z"},
        {"status": "delivered", "at": "2026-11-24T09:30:00.000Z"},
    ],
    "courier_fee_fen": 1200,
}  # fmt: skip


class DrugSchema(Schema):
    drug_code = fields.String(required=True)
    name = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    form = fields.String(required=True)
    unit = fields.String(required=True)
    price_fen = fields.Integer(required=True)
    generic = fields.String(required=True)
    en = fields.String(required=True)
    atc = fields.String(metadata={"description": "TCM for a patent medicine; herbal pieces have none"})
    limit_unit = fields.String(metadata={"description": "what max_single and max_daily count"})
    max_single = fields.Float()
    max_daily = fields.Float()
    antibiotic = fields.String(metadata={"enum": ["non_restricted", "restricted", "special"]})
    min_g = fields.Float(metadata={"description": "usual range of a herbal piece in grams a dose (剂)"})
    max_g = fields.Float()
    decoction = fields.String(metadata={"description": "先煎, 后下, 包煎, 烊化, 另煎, 冲服"})
    toxicity = fields.String(metadata={"enum": ["slight", "toxic"]})
    notes = fields.List(fields.String(), required=True, metadata={"description": "children, pregnancy, caution"})


class DrugsSchema(Schema):
    sample = fields.Boolean(required=True, metadata={"description": "made-up codes and prices"})
    drugs = fields.List(fields.Nested(DrugSchema), required=True)


class DrugQuery(Schema):
    kind = fields.String(validate=validate.OneOf(KINDS))


class DosingSchema(Schema):
    amount = fields.String(
        required=True, validate=validate.Regexp(r"^(?!0+(\.0+)?\Z)\d{1,6}(\.\d{1,4})?\Z"),
        metadata={"description": "a decimal number above 0, as text, so that it stays exact"},
    )  # fmt: skip
    unit = fields.String(required=True, validate=validate.Length(1, 10))
    times_per_day = fields.Integer(required=True, strict=True, validate=validate.Range(1, 24))
    days = fields.Integer(required=True, strict=True, validate=validate.Range(1, 90))


class HerbalSchema(Schema):
    doses = fields.Integer(
        required=True, strict=True, validate=validate.Range(1, 30), metadata={"description": "剂"}
    )
    decoction = fields.String(
        required=True, validate=validate.OneOf(("hospital", "self")), metadata={"description": "代煎 or 自煎"}
    )
    usage = fields.String(required=True, validate=validate.Length(1, 200))


class SecondSchema(Schema):
    reason = fields.String(required=True, validate=validate.Length(1, 500))
    findings = fields.List(
        fields.String(validate=validate.Length(1, 100)), required=True, validate=validate.Length(1, 100),
        metadata={"description": "the `key` of each member of `failed` in the refusal: all of them and no other"},
    )  # fmt: skip


class FindingSchema(Schema):
    key = fields.String(required=True)
    code = fields.String(
        required=True, metadata={"enum": ["overdose", "incompatible", "interaction", "allergy"]}
    )
    detail = fields.String(required=True)
    detail_en = fields.String(required=True)


class SignedSecondSchema(Schema):
    reason = fields.String(required=True)
    findings = fields.List(fields.Nested(FindingSchema), required=True)


class WantedLineSchema(Schema):
    """A western drug with a limit needs `dosing`; `dose` alone is for the rest. Of a herbal piece `quantity` counts
    grams a dose (剂)."""

    drug_code = fields.String(required=True, validate=validate.Length(1, 40))
    quantity = fields.Integer(required=True, strict=True, validate=validate.Range(1, 1000))
    dose = fields.String(load_default="", validate=validate.Length(max=100))
    usage = fields.String(load_default="", validate=validate.Length(max=200))
    dosing = fields.Nested(DosingSchema)


class ResignSchema(Schema):
    diagnosis = fields.String(required=True, validate=validate.Length(1, 500))
    lines = fields.List(fields.Nested(WantedLineSchema), required=True, validate=validate.Length(1, 50))
    allergies = fields.List(
        fields.String(validate=validate.Length(1, 50)), load_default=list, validate=validate.Length(max=20),
        metadata={"description": "what the patient is allergic to, a word each, as the visit's condition says it"},
    )  # fmt: skip
    herbal = fields.Nested(HerbalSchema, metadata={"description": "required on a herbal prescription"})
    second_signature = fields.Nested(SecondSchema, metadata={"description": "after `second_signature_needed` (§25)"})


class SignSchema(ResignSchema):
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))


class SignedSchema(Schema):
    prescription_id = fields.String(required=True)
    state = fields.String(required=True)
    amount_fen = fields.Integer(required=True)
    signed_at = fields.String(required=True)
    valid_until = fields.String(required=True)
    content_sha256 = fields.String(required=True)
    stock_checked = fields.Boolean(
        required=True, metadata={"description": "false: the hospital's stock could not be asked; the pharmacist will"}
    )


class LineSchema(WantedLineSchema):
    name = fields.String(required=True)
    form = fields.String(required=True)
    unit = fields.String(required=True)
    price_fen = fields.Integer(required=True)
    amount_fen = fields.Integer(required=True)


class SignatureSchema(Schema):
    algorithm = fields.String(required=True)
    key_id = fields.String(required=True)
    value = fields.String(required=True)


class DocumentSchema(Schema):
    document = fields.String(required=True, metadata={"enum": ["prescription", "second_signature", "review"]})
    role = fields.String(required=True)
    signer = fields.String(required=True)
    content = fields.String(required=True, metadata={"description": "what is signed, in UTF-8, to the byte"})
    certificate_serial = fields.String(required=True)
    signature = fields.String(required=True, metadata={"description": "CMS (PKCS#7), detached, DER in base64"})


class EvidenceSchema(Schema):
    prescription_id = fields.String(required=True)
    authority_certificate = fields.String(required=True, metadata={"description": "PEM"})
    documents = fields.List(fields.Nested(DocumentSchema), required=True)


class VerificationQuery(Schema):
    content_sha256 = fields.String(required=True, validate=validate.Regexp(r"^[0-9a-f]{64}\Z"))


class VerificationSchema(Schema):
    prescription_id = fields.String(required=True)
    state = fields.String(required=True)
    content_sha256 = fields.String(required=True)
    signature_holds = fields.Boolean(required=True)
    signed_at = fields.String(required=True)
    valid_until = fields.String(required=True)


class ChosenSchema(Schema):
    courier = fields.String(required=True)
    recipient = fields.String()
    phone = fields.String()
    address = fields.String()


class SummarySchema(Schema):
    prescription_id = fields.String(required=True)
    visit_id = fields.String(required=True)
    doctor_id = fields.String(required=True)
    kind = fields.String(required=True)
    state = fields.String(
        required=True,
        metadata={"enum": ["in_review", "returned", "issued", "voided", "expired", "dispensed"]},
    )
    paid = fields.Boolean(required=True, metadata={"description": "paid online in time"})
    amount_fen = fields.Integer(required=True)
    signed_at = fields.String(required=True)
    valid_until = fields.String(required=True)
    way = fields.String(metadata={"description": "courier or desk, once dispensed"})
    came_back = fields.Boolean(
        metadata={"description": "the parcel is in the pharmacy again: choose a delivery once more, or fetch it"}
    )
    collected = fields.Boolean(metadata={"description": "fetched at the desk after it came back"})
    void_reason = fields.String(metadata={"description": "refused or withdrawn"})
    review_reason = fields.String(metadata={"description": "why it was refused or returned; for doctor and pharmacist"})


class SummariesSchema(Schema):
    prescriptions = fields.List(fields.Nested(SummarySchema), required=True)


class SheetSchema(SummarySchema):
    """`diagnosis`, `lines` and `signature` are shown to the patient once the prescription is in effect (§24)."""

    patient_id = fields.String(required=True)
    pharmacist_id = fields.String()
    content_sha256 = fields.String(required=True)
    diagnosis = fields.String()
    lines = fields.List(fields.Nested(LineSchema))
    herbal = fields.Nested(HerbalSchema)
    allergies = fields.List(fields.String())
    second = fields.Nested(SignedSecondSchema, metadata={"description": "what the doctor signed a second time (§25)"})
    stock_checked = fields.Boolean(metadata={"description": "for doctor and pharmacist"})
    signature = fields.Nested(SignatureSchema)
    delivery = fields.Nested(ChosenSchema)


class DeskSheetSchema(SheetSchema):
    may_settle = fields.Boolean(required=True, metadata={"description": "whether the desk may take money for it now"})


class WaitingSchema(Schema):
    prescription_id = fields.String(required=True)
    visit_id = fields.String(required=True)
    doctor_id = fields.String(required=True)
    kind = fields.String(required=True)
    amount_fen = fields.Integer(required=True)
    signed_at = fields.String(required=True)
    valid_until = fields.String(required=True)


class QueueSchema(Schema):
    prescriptions = fields.List(fields.Nested(WaitingSchema), required=True)


class ReviewSchema(Schema):
    outcome = fields.String(required=True, validate=validate.OneOf(("pass", "refuse", "return")))
    reason = fields.String(load_default="", validate=validate.Length(max=500))


class StateSchema(Schema):
    prescription_id = fields.String(required=True)
    state = fields.String(required=True)


class CourierQuery(Schema):
    to = fields.String(
        load_default="北京市",
        validate=validate.Length(1, 20),
        metadata={"description": "province and city only: queries end up in access logs (§31)"},
    )
    weight_g = fields.Integer(load_default=1000, validate=validate.Range(1, 30_000))


class CourierSchema(Schema):
    courier = fields.String(required=True)
    name = fields.String(required=True)
    estimated_fee_fen = fields.Integer(
        required=True, allow_none=True,
        metadata={"description": "paid to the courier on receipt, not to us; null when it does not answer"},
    )  # fmt: skip


class CouriersSchema(Schema):
    couriers = fields.List(fields.Nested(CourierSchema), required=True)


class DeliverySchema(Schema):
    courier = fields.String(required=True, validate=validate.Length(1, 40))
    recipient = fields.String(required=True, validate=validate.Length(1, 50))
    phone = fields.String(required=True, validate=validate.Regexp(r"^\+?[0-9][0-9-]{5,19}\Z"))
    address = fields.String(required=True, validate=validate.Length(5, 200))


class DeliveryAnswerSchema(Schema):
    prescription_id = fields.String(required=True)
    courier = fields.String(required=True)
    address_id = fields.String(required=True)


class StepSchema(Schema):
    status = fields.String(required=True)
    at = fields.String(required=True)


class ParcelSchema(Schema):
    parcel_id = fields.String(required=True)
    courier = fields.String(required=True)
    state = fields.String(
        required=True,
        metadata={"enum": ["preparing", "handed_over", *MOVES, "delivered", "returned"]},
    )
    tracking_no = fields.String()
    history = fields.List(fields.Nested(StepSchema), required=True)
    courier_fee_fen = fields.Integer(metadata={"description": "what the courier collected at the door; not our order"})
    return_reason = fields.String()


class NoticeSchema(Schema):
    """What the courier tells of one step; members it may add later are passed over."""

    class Meta:
        unknown = EXCLUDE

    notice_id = fields.String(required=True, validate=validate.Length(1, 100))
    tracking_no = fields.String(required=True, validate=validate.Length(1, 64))
    client_order_no = fields.String(required=True, validate=validate.Length(1, 100))
    status = fields.String(required=True, validate=validate.Length(1, 40))
    occurred_at = fields.AwareDateTime(required=True)
    courier_fee_fen = fields.Integer(load_default=0, strict=True, validate=validate.Range(0))
