"""A patient pays: eligibility once more (§5), then the provider is asked to take the cash leg, then it is written down.
Calls come before the write and may be repeated; a payment that slips in between is found by asking."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from eventkit.calls import Peer, PeerRefused, Unanswered
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.store import Answer, Request
from services.payment.domain import order as orders
from services.payment.domain.order import Order
from services.payment.domain.refund import RetryRefund, needs_bank_card, refund_number
from services.payment.handlers import Handlers
from services.payment.ports import CashProvider, ProviderRefused
from services.payment.read_model import order_view, refund_view
from services.payment.wechatpay import payer_of, trade_number

log = logging.getLogger(__name__)

# What the patient's bill of WeChat Pay says.
DESCRIPTIONS = {"visit_fee": "互联网复诊医事服务费", "prescription": "互联网复诊药品费"}


@dataclass(frozen=True, slots=True)
class BankCard:
    """Where the provider pays a refund to that the paying account does not take. Passed on, never kept."""

    bank_type: str
    bank_account: str
    real_name: str


@dataclass
class Checkout:
    handlers: Handlers
    provider: CashProvider
    registration: Peer

    def prepay(self, request: Request, account_id: str, order_id: str) -> Answer:
        """{prepay_id, phone, state, order}; no prepay_id where nothing is left to pay. Raises Refusal, Unanswered."""
        order = self.handlers.order(order_id)
        if order.opened is None or order.opened.account_id != account_id:
            raise Refusal("not_found")
        if earlier := self.handlers.answered(request, order_id):
            return earlier
        if order.opened.kind == "visit_fee":
            self._check_eligibility(request, order.opened.visit_id, order_id)
        if order.cash_fen == 0:
            return self.handlers.confirm_without_cash(request, order_id, _answer(order_id))
        try:
            prepay_id = self.provider.prepay(
                order_id, DESCRIPTIONS[order.opened.kind], order.cash_fen, payer_of(account_id), order.opened.expires_at
            )
        except ProviderRefused as refused:
            return self._refused(order_id, refused)
        command = orders.RecordPrepay(trade_number(order_id), prepay_id)
        answer = _answer(order_id, prepay_id=prepay_id, phone=self.provider.for_phone(prepay_id))
        return self.handlers.record_prepay(request, order_id, command, answer)

    def _check_eligibility(self, request: Request, visit_id: str, order_id: str) -> None:
        path = f"/api/registration/internal/visits/{visit_id}/eligibility"
        key = derived_id("eligibility", order_id, request.caller, request.key or "")
        try:
            self.registration.post(path, {"checkpoint": "payment"}, key=key)
        except PeerRefused as refused:
            match refused.status, refused.code:
                case 422, "not_eligible":
                    raise Refusal("not_eligible", failed=refused.body.get("failed", [])) from refused
                case (404, _) | (409, "visit_over"):  # the news of its end is on its way here
                    raise Refusal("payment_expired") from refused
                case _:
                    raise Unanswered(f"registration refuses: {refused}") from refused

    def _refused(self, order_id: str, refused: ProviderRefused) -> Answer:
        if refused.code == "ORDERPAID":  # an earlier prepay was not answered, but paid
            trade = self.provider.trade(order_id)
            if trade.state == "paid" and trade.paid_at is not None:
                self.handlers.record_cash_capture(
                    Request("checkout", "capture", trade.transaction_id),
                    order_id,
                    orders.RecordCashCapture(trade.transaction_id, trade.amount_fen, trade.paid_at),
                )
            return _answer(order_id)(self.handlers.order(order_id))
        if refused.code == "ORDER_CLOSED":
            raise Refusal("payment_expired")
        log.error("the provider does not take order %s: %s", order_id, refused.code)
        raise Unanswered(f"wechatpay refuses: {refused.code}")

    def retry_refund(self, request: Request, cashier: str, refund_id: str, bank_card: BankCard | None) -> Answer:
        """The refund as it stands then. Raises Refusal, Unanswered."""
        refund = self.handlers.refund(refund_id)
        for leg in refund.legs:
            if bank_card is not None and needs_bank_card(leg):
                try:
                    self.provider.refund_to_card(
                        refund_number(refund_id, leg.number),
                        bank_card.bank_type, bank_card.bank_account, bank_card.real_name,
                    )
                except ProviderRefused as refused:
                    raise Refusal("bank_card_refused", reason=refused.code) from refused
        return self.handlers.retry_refund(
            request,
            refund_id,
            RetryRefund(cashier, bank_card is not None),
            lambda after: Answer(200, refund_view(after)),
        )


def _answer(order_id: str, **more: object) -> Callable[[Order], Answer]:
    return lambda order: Answer(200, {**more, "state": order.status, "order": order_view(order_id, order)})
