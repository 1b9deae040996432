"""The payment API: parse, ask, answer. A patient sees the orders of their own account; foreign looks like absent
(§31)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import request
from flask.views import MethodView

from eventkit.audit import Audit, add_readings
from eventkit.events import Refusal
from eventkit.problems import Catalogue
from eventkit.store import Answer, Request
from eventkit.web import Routes, caller, command_request
from services.payment import schemas
from services.payment.checkout import BankCard, Checkout
from services.payment.domain.order import Order, RecordCashCapture, ResolveDispute
from services.payment.domain.reconciliation import ResolveDifference
from services.payment.domain.refund import RecordSuccess, ResolveRefund, refund_of_number
from services.payment.handlers import Handlers, fee_order_id, refund_id_of
from services.payment.ports import CashProvider, ProviderRefused, RefundChanged, TradePaid
from services.payment.problems import PROBLEMS
from services.payment.read_model import ADVICE, ReadModel, difference_view, order_view, refund_view, report_view

STAFF = ("cashier", "service")

Shown = dict[str, Any]
ORDER: Shown = {
    "order_id": "fee-6f1c", "visit_id": "6f1c", "kind": "visit_fee", "state": "awaiting_payment", "amount_fen": 5000,
    "legs": [{"leg": "fund", "amount_fen": 4000}, {"leg": "cash", "amount_fen": 1000}],
    "expires_at": "2026-11-24T02:15:00.000Z",
}
REFUND: Shown = {
    "refund_id": "rf-fee-6f1c", "order_id": "fee-6f1c", "visit_id": "6f1c", "kind": "visit_fee", "reason": "missed",
    "state": "stuck", "amount_fen": 5000,
    "legs": [
        {"leg": "fund", "amount_fen": 4000, "state": "succeeded", "code": ""},
        {"leg": "cash", "amount_fen": 1000, "state": "failed", "code": "NOT_ENOUGH"},
    ],
}
SUMS = {"paid_fen": 5000, "refunded_fen": 4000, "earned_fen": 0, "held_fen": 1000}
FUND = {"paid_fen": 4000, "refunded_fen": 4000, "earned_fen": 0, "held_fen": 0}
CASH = {"paid_fen": 1000, "refunded_fen": 0, "earned_fen": 0, "held_fen": 1000}
STATED = {"party": "wechatpay", "what": "payment", "lines": 2, "amount_fen": 9000}
DIFFERENCE = {
    "difference_id": "9f2c", "kind": "only_theirs", "party": "wechatpay", "what": "payment", "leg": "cash",
    "number": "4200001", "theirs_fen": 1000, "theirs_state": "done", "cure": "person", "state": "open",
    "next": ADVICE["only_theirs"][0], "next_en": ADVICE["only_theirs"][1],
}
RESOLVED = {
    **{name: value for name, value in DIFFERENCE.items() if not name.startswith("next")},
    "state": "resolved", "cashier": "cashier-1", "note": "A trade of the canteen's till; its own merchant number now.",
}


@dataclass(frozen=True)
class Parts:
    """What the routes of one process work with."""

    handlers: Handlers
    checkout: Checkout
    provider: CashProvider
    read_model: ReadModel
    audit: Audit


class _Routes(Routes):
    parts: Parts


routes = _Routes("payment", Catalogue(PROBLEMS), "Orders, refunds and the ledger.")


def routes_for(parts: Parts) -> Routes:
    routes.parts = parts
    return routes


add_readings(routes, lambda: routes.parts.audit)


def may_see(order: Order) -> bool:
    if order.opened is None:
        return False
    return caller().has(*STAFF) or order.opened.account_id == caller().subject


def audited(order_id: str, order: Order) -> Order:
    """The order that is about to be shown, with a line about who looked (§31)."""
    assert order.opened is not None  # nobody may see it otherwise
    routes.parts.audit.read("order", order_id, order.opened)
    return order


def own_orders(visit_id: str) -> Mapping[str, Order]:
    """The orders of a visit. Raises Refusal `not_found` when there is none that the caller may see."""
    found = {}
    for order_id in sorted({fee_order_id(visit_id), *routes.parts.read_model.orders_of(visit_id)}):
        order = routes.parts.handlers.order(order_id)
        if may_see(order):
            found[order_id] = audited(order_id, order)
    if not found:
        raise Refusal("not_found")
    return found


@routes.route("/visits/<visit_id>/orders")
class VisitOrders(MethodView):
    @routes.access("patient", *STAFF)
    @routes.response(200, schemas.OrdersSchema, example={"orders": [ORDER]})
    @routes.refuses("not_found")
    def get(self, visit_id: str) -> Any:
        """What is to be paid for a visit, and what was: the fee, and each prescription."""
        return {"orders": [order_view(order_id, order) for order_id, order in own_orders(visit_id).items()]}


@routes.route("/visits/<visit_id>/refunds")
class VisitRefunds(MethodView):
    @routes.access("patient", *STAFF)
    @routes.response(200, schemas.RefundsSchema, example={"refunds": [REFUND]})
    @routes.refuses("not_found")
    def get(self, visit_id: str) -> Any:
        """What goes back of a visit's payments, leg by leg (§16)."""
        refunds = (routes.parts.handlers.refund(refund_id_of(order_id)) for order_id in own_orders(visit_id))
        return {"refunds": [refund_view(refund) for refund in refunds if refund.requested is not None]}


@routes.route("/orders/<order_id>")
class OneOrder(MethodView):
    @routes.access("patient", *STAFF)
    @routes.response(200, schemas.OrderSchema, example=ORDER)
    @routes.refuses("not_found")
    def get(self, order_id: str) -> Any:
        order = routes.parts.handlers.order(order_id)
        if not may_see(order):
            raise Refusal("not_found")
        return order_view(order_id, audited(order_id, order))


@routes.route("/orders/<order_id>/prepay")
class Prepay(MethodView):
    @routes.access("patient")
    @routes.arguments(schemas.PrepaySchema, example={"channel": "jsapi"})
    @routes.response(200, schemas.PrepaidSchema, example={
        "prepay_id": "wx20112310150000000", "state": "awaiting_payment", "order": ORDER,
        "phone": {"appId": "wx8888", "timeStamp": "1796000000", "nonceStr": "5K8264", "package": "prepay_id=wx2011",
                  "signType": "RSA", "paySign": "oR9d8Pu"},
    })
    @routes.command
    @routes.refuses("not_found", "not_ready", "already_paid", "payment_expired", "settled_offline", "not_eligible",
                    "partner_unavailable")
    def post(self, body: dict[str, Any], order_id: str) -> Any:
        """Ask WeChat Pay to take the patient's part. Eligibility is checked once more (§5)."""
        answer = routes.parts.checkout.prepay(command_request(body), caller().subject, order_id)
        return answer.body, answer.status


@routes.route("/notices/wechatpay")
class WeChatPayNotices(MethodView):
    @routes.response(200, schemas.NoticeAnswerSchema, example={"code": "SUCCESS"})
    @routes.refuses("not_authentic", "not_found", "capture_mismatch", "refund_mismatch", "unavailable")
    def post(self) -> Any:
        """What WeChat Pay tells by itself: signed and sealed. Told twice, late or out of order it changes nothing
        more."""
        try:
            notice = routes.parts.provider.notice(dict(request.headers), request.get_data())
        except ProviderRefused as refused:
            raise Refusal("not_authentic") from refused
        match notice:
            case TradePaid(order_id, trade) if trade.paid_at is not None:
                command = RecordCashCapture(trade.transaction_id, trade.amount_fen, trade.paid_at)
                told = Request("wechatpay", "trade", trade.transaction_id)
                routes.parts.handlers.record_cash_capture(told, order_id, command)
            case RefundChanged(number, "succeeded", amount_fen):
                told = Request("wechatpay", "refund", number)
                success = RecordSuccess((("cash", amount_fen),))
                routes.parts.handlers.record_success(told, refund_of_number(number), success)
            case _:  # a refund that failed: its job asks, because an old notice may come after a retry
                pass
        return {"code": "SUCCESS"}


@routes.route("/ledger")
class Ledger(MethodView):
    @routes.access("cashier")
    @routes.arguments(schemas.LedgerQuerySchema, location="query")
    @routes.response(200, schemas.LedgerSchema, example={
        "totals": SUMS,
        "by_leg": {"fund": FUND, "account": dict.fromkeys(SUMS, 0), "cash": CASH},
        "lines": [{"kind": "visit_fee", "leg": "cash", **CASH}, {"kind": "visit_fee", "leg": "fund", **FUND}],
        "settled_offline_fen": 0,
    })
    def get(self, query: dict[str, str]) -> Any:
        """Where every fen is: paid = refunded + earned + held; of one visit when asked."""
        return routes.parts.read_model.ledger(query.get("visit_id"))


@routes.route("/stuck-refunds")
class StuckRefunds(MethodView):
    @routes.access("cashier")
    @routes.response(200, schemas.StuckSchema, example={
        "refunds": [{
            **{name: REFUND[name] for name in ("refund_id", "order_id", "visit_id", "kind", "reason", "amount_fen")},
            "failed": [{"leg": "cash", "code": "NOT_ENOUGH", "since": "2026-11-24T16:00:03.000Z"}],
        }],
        "disputes": [],
    })
    def get(self) -> Any:
        """What waits for a person: refund legs that do not come back by themselves, and disputed desk settlements."""
        return routes.parts.read_model.stuck()


@routes.route("/refunds/<refund_id>/retry")
class RefundRetry(MethodView):
    @routes.access("cashier")
    @routes.arguments(schemas.RetrySchema, example={})
    @routes.response(200, schemas.RefundSchema, example={
        **REFUND, "state": "requested",
        "legs": [REFUND["legs"][0], {"leg": "cash", "amount_fen": 1000, "state": "pending", "code": "NOT_ENOUGH"}],
    })
    @routes.command
    @routes.refuses("not_found", "nothing_to_retry", "bank_card_needed", "bank_card_refused", "partner_unavailable")
    def post(self, body: dict[str, Any], refund_id: str) -> Any:
        """Send the failed legs again, and only them (§16)."""
        card = BankCard(**body["bank_card"]) if "bank_card" in body else None
        # The card stays out of the fingerprint: it is kept nowhere, not even as a hash (§31).
        told = command_request({"bank_card": card is not None})
        answer = routes.parts.checkout.retry_refund(told, caller().subject, refund_id, card)
        return answer.body, answer.status


@routes.route("/refunds/<refund_id>/resolve")
class RefundResolve(MethodView):
    @routes.access("cashier")
    @routes.arguments(schemas.ResolveRefundSchema, example={
        "leg": "cash", "reason": "paid_by_hand", "note": "Paid out at the cash desk, receipt 20261124-07.",
    })
    @routes.response(200, schemas.RefundSchema, example={
        **REFUND, "state": "succeeded",
        "legs": [REFUND["legs"][0], {"leg": "cash", "amount_fen": 1000, "state": "resolved", "code": "paid_by_hand"}],
    })
    @routes.command
    @routes.refuses("not_found", "nothing_to_retry")
    def post(self, body: dict[str, Any], refund_id: str) -> Any:
        """End one failed leg for good: it is given back outside of here, and counts as given back."""
        command = ResolveRefund(body["leg"], caller().subject, body["reason"], body["note"])
        answer = routes.parts.handlers.resolve_refund(
            command_request(body), refund_id, command, lambda refund: Answer(200, refund_view(refund))
        )
        return answer.body, answer.status


@routes.route("/orders/<order_id>/disputes/<settlement_id>/resolve")
class DisputeResolve(MethodView):
    @routes.access("cashier")
    @routes.arguments(schemas.ResolveDisputeSchema, example={
        "decision": "online_goes_back", "note": "The patient collected the drugs at the desk.",
    })
    @routes.response(200, schemas.ResolvedDisputeSchema, example={
        "order_id": "rx-77aa", "settlement_id": "h-5521", "decision": "online_goes_back",
    })
    @routes.command
    @routes.refuses("not_found", "already_resolved", "nothing_captured")
    def post(self, body: dict[str, Any], order_id: str, settlement_id: str) -> Any:
        """Decide which of two payments of one prescription goes back (§23)."""
        command = ResolveDispute(settlement_id, body["decision"], caller().subject, body["note"])
        answer = routes.parts.handlers.resolve_dispute(command_request(body), order_id, command)
        return answer.body, answer.status


@routes.route("/reconciliations")
class Reconciliations(MethodView):
    @routes.access("cashier")
    @routes.arguments(schemas.DayQuerySchema, location="query")
    @routes.response(200, schemas.ReconciledDaysSchema, example={
        "reconciliations": [
            {"day": "2026-11-24", "stated": [STATED], "agreed": 1, "open": 1, "cured": 0, "resolved": 0}
        ],
    })
    def get(self, query: dict[str, Any]) -> Any:
        """The days whose statements were compared, newest first, at most 31."""
        day = str(query["day"]) if "day" in query else None
        return {"reconciliations": routes.parts.read_model.reconciliations(day)}


@routes.route("/reconciliations/<day>")
class OneReconciliation(MethodView):
    @routes.access("cashier")
    @routes.response(200, schemas.ReportSchema, example={
        "day": "2026-11-24", "stated": [STATED], "agreed": 1, "differences": [DIFFERENCE],
    })
    @routes.refuses("not_found")
    def get(self, day: str) -> Any:
        """What differed that day between our log and the provider's and the insurer's statements, and what became of
        it."""
        report = routes.parts.handlers.report(day)
        if report.reconciled is None:
            raise Refusal("not_found")
        return report_view(day, report)


@routes.route("/reconciliations/<day>/differences/<difference_id>/resolve")
class DifferenceResolve(MethodView):
    @routes.access("cashier")
    @routes.arguments(schemas.NoteSchema, example={"note": RESOLVED["note"]})
    @routes.response(200, schemas.DifferenceSchema, example=RESOLVED)
    @routes.command
    @routes.refuses("not_found", "already_resolved")
    def post(self, body: dict[str, Any], day: str, difference_id: str) -> Any:
        """A person has seen to a difference that nothing else cured."""
        command = ResolveDifference(difference_id, caller().subject, body["note"])
        answer = routes.parts.handlers.resolve_difference(
            command_request(body), day, command,
            lambda report: Answer(200, difference_view(report.difference(difference_id))),
        )
        return answer.body, answer.status
