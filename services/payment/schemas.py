"""The bodies of the payment API. All amounts are integer fen (分), all instants RFC 3339 UTC."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

LEG_NAMES = validate.OneOf(["fund", "account", "cash"])
KINDS = validate.OneOf(["visit_fee", "prescription"])
LEG_STATES = validate.OneOf(["pending", "accepted", "succeeded", "failed", "resolved"])
STATES = validate.OneOf(["opening", "awaiting_payment", "confirming", "paid", "expired", "settled_offline"])


class LegSchema(Schema):
    leg = fields.String(required=True, validate=LEG_NAMES)
    amount_fen = fields.Integer(required=True)


class OrderSchema(Schema):
    """`confirming`: the patient has paid and the insurer settles its part. `late`: the money came after the order had
    ended and goes back."""

    order_id = fields.String(required=True)
    visit_id = fields.String(required=True)
    kind = fields.String(required=True, validate=KINDS)
    prescription_id = fields.String()
    state = fields.String(required=True, validate=STATES)
    amount_fen = fields.Integer(required=True)
    legs = fields.List(fields.Nested(LegSchema), required=True)
    expires_at = fields.String(required=True)
    captured_at = fields.String()
    captured_fen = fields.Integer()
    late = fields.Boolean()


class OrdersSchema(Schema):
    orders = fields.List(fields.Nested(OrderSchema), required=True)


class PrepaySchema(Schema):
    channel = fields.String(required=True, validate=validate.OneOf(["jsapi"]))


class PrepaidSchema(Schema):
    """`phone` is handed to wx.requestPayment as it is. Without a `prepay_id` there is nothing left to pay."""

    prepay_id = fields.String()
    phone = fields.Dict(keys=fields.String(), values=fields.String())
    state = fields.String(required=True, validate=STATES)
    order = fields.Nested(OrderSchema, required=True)


class RefundLegSchema(LegSchema):
    state = fields.String(required=True, validate=LEG_STATES)
    code = fields.String()


class RefundSchema(Schema):
    refund_id = fields.String(required=True)
    order_id = fields.String(required=True)
    visit_id = fields.String(required=True)
    kind = fields.String(required=True, validate=KINDS)
    reason = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(["requested", "stuck", "succeeded"]))
    amount_fen = fields.Integer(required=True)
    legs = fields.List(fields.Nested(RefundLegSchema), required=True)


class RefundsSchema(Schema):
    refunds = fields.List(fields.Nested(RefundSchema), required=True)


class BankCardSchema(Schema):
    bank_type = fields.String(required=True, validate=validate.Length(1, 16))
    bank_account = fields.String(required=True, validate=validate.Regexp(r"^\d{8,30}$"))
    real_name = fields.String(required=True, validate=validate.Length(1, 64))


class RetrySchema(Schema):
    """`bank_card` only where the paying account takes nothing back (`ABNORMAL`); it is passed on and not kept."""

    bank_card = fields.Nested(BankCardSchema)



def _note() -> fields.String:
    why = {"description": "why and how, for the audit; no names, no numbers of persons"}
    return fields.String(required=True, validate=validate.Length(1, 300), metadata=why)


class ResolveRefundSchema(Schema):
    """`paid_by_hand`: the hospital gave the leg back another way. `already_back`: the other side's books show it
    back."""

    leg = fields.String(required=True, validate=LEG_NAMES)
    reason = fields.String(required=True, validate=validate.OneOf(["paid_by_hand", "already_back"]))
    note = _note()


class ResolveDisputeSchema(Schema):
    """`desk_gives_back`: the desk returns its money, outside of here. `online_goes_back`: our payment is refunded."""

    decision = fields.String(required=True, validate=validate.OneOf(["desk_gives_back", "online_goes_back"]))
    note = _note()


class ResolvedDisputeSchema(Schema):
    order_id = fields.String(required=True)
    settlement_id = fields.String(required=True)
    decision = fields.String(required=True)


class NoteSchema(Schema):
    note = _note()


class StatedSchema(Schema):
    """What a statement sums up to. Lines that ended without moving anything are not counted."""

    party = fields.String(required=True, validate=validate.OneOf(["wechatpay", "insurer"]))
    what = fields.String(required=True, validate=validate.OneOf(["payment", "refund"]))
    lines = fields.Integer(required=True)
    amount_fen = fields.Integer(required=True)


class ReconciledDaySchema(Schema):
    day = fields.String(required=True)
    stated = fields.List(fields.Nested(StatedSchema), required=True)
    agreed = fields.Integer(required=True, metadata={"description": "legs that are the same on both sides"})
    open = fields.Integer(required=True)
    cured = fields.Integer(required=True)
    resolved = fields.Integer(required=True)


class ReconciledDaysSchema(Schema):
    reconciliations = fields.List(fields.Nested(ReconciledDaySchema), required=True)


class DifferenceSchema(Schema):
    """`cure` is what is done without a person, or `person`; `how` what was found by it. Amounts and states are absent
    on the side that has no such movement."""

    difference_id = fields.String(required=True)
    kind = fields.String(
        required=True, validate=validate.OneOf(["only_ours", "only_theirs", "amount_differs", "state_differs"])
    )
    party = fields.String(required=True, validate=validate.OneOf(["wechatpay", "insurer"]))
    what = fields.String(required=True, validate=validate.OneOf(["payment", "refund"]))
    leg = fields.String(required=True, validate=LEG_NAMES)
    number = fields.String(required=True)
    order_id = fields.String()
    ours_fen = fields.Integer()
    theirs_fen = fields.Integer()
    ours_state = fields.String()
    theirs_state = fields.String()
    cure = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(["open", "cured", "resolved"]))
    how = fields.String()
    next = fields.String()
    next_en = fields.String()
    cashier = fields.String()
    note = fields.String()


class ReportSchema(Schema):
    day = fields.String(required=True)
    stated = fields.List(fields.Nested(StatedSchema), required=True)
    agreed = fields.Integer(required=True)
    differences = fields.List(fields.Nested(DifferenceSchema), required=True)


class DayQuerySchema(Schema):
    day = fields.Date()


class FailedLegSchema(Schema):
    leg = fields.String(required=True, validate=LEG_NAMES)
    code = fields.String(required=True)
    since = fields.String(required=True)


class StuckRefundSchema(Schema):
    refund_id = fields.String(required=True)
    order_id = fields.String(required=True)
    visit_id = fields.String(required=True)
    kind = fields.String(required=True, validate=KINDS)
    reason = fields.String(required=True)
    amount_fen = fields.Integer(required=True)
    failed = fields.List(fields.Nested(FailedLegSchema), required=True)


class DisputeSchema(Schema):
    """The desk settled what was paid online or had ended (§23)."""

    settlement_id = fields.String(required=True)
    order_id = fields.String(required=True)
    visit_id = fields.String(required=True)
    prescription_id = fields.String(required=True)
    amount_fen = fields.Integer(required=True)
    settled_at = fields.String(required=True)


class StuckSchema(Schema):
    refunds = fields.List(fields.Nested(StuckRefundSchema), required=True)
    disputes = fields.List(fields.Nested(DisputeSchema), required=True)


class SumsSchema(Schema):
    """paid = refunded + earned + held. Held is what waits for the care, or for the way back."""

    paid_fen = fields.Integer(required=True)
    refunded_fen = fields.Integer(required=True)
    earned_fen = fields.Integer(required=True)
    held_fen = fields.Integer(required=True)


class LedgerLineSchema(SumsSchema):
    kind = fields.String(required=True, validate=KINDS)
    leg = fields.String(required=True, validate=LEG_NAMES)


class ByLegSchema(Schema):
    fund = fields.Nested(SumsSchema, required=True)
    account = fields.Nested(SumsSchema, required=True)
    cash = fields.Nested(SumsSchema, required=True)


class LedgerSchema(Schema):
    """`settled_offline_fen` was taken by the hospital's desk and is in none of the sums."""

    totals = fields.Nested(SumsSchema, required=True)
    by_leg = fields.Nested(ByLegSchema, required=True)
    lines = fields.List(fields.Nested(LedgerLineSchema), required=True)
    settled_offline_fen = fields.Integer(required=True)


class LedgerQuerySchema(Schema):
    visit_id = fields.String(validate=validate.Length(1, 100))


class NoticeAnswerSchema(Schema):
    code = fields.String(required=True, validate=validate.Equal("SUCCESS"))
