"""What goes in and out over HTTP. The personal part of a question is used and forgotten."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

CHECKPOINTS = ("booking", "payment", "acceptance")
_ID = validate.Length(min=1, max=64)


class DeclaredSchema(Schema):
    """§3, as the patient declares it."""

    follow_up = fields.Boolean(required=True)
    stable = fields.Boolean(required=True)
    emergency = fields.Boolean(required=True)


class AssessSchema(Schema):
    visit_id = fields.String(required=True, validate=_ID)
    patient_id = fields.String(required=True, validate=_ID)
    his_patient_id = fields.String(required=True, validate=_ID)
    birth_date = fields.Date(required=True, format="iso")
    checkpoint = fields.String(required=True, validate=validate.OneOf(CHECKPOINTS))
    day = fields.Date(required=True, format="iso", metadata={"description": "the day of the visit, Asia/Shanghai"})
    declared = fields.Nested(DeclaredSchema, required=True)
    symptoms = fields.String(required=True, validate=validate.Length(max=10_000))


class GrantedSchema(Schema):
    assessment_id = fields.String()
    evidence_id = fields.String()
