"""Work that calls others: the insurer to split and settle, the provider to ask, close and refund. A row is run until it
is answered; what it learns becomes a command, and the log decides what that means by now."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from eventkit.calls import Unanswered
from eventkit.deadlines import Again, Job, Row
from eventkit.store import Request
from services.payment.domain import order as orders
from services.payment.domain import refund as refunds
from services.payment.domain.order import Order
from services.payment.domain.refund import BACK, refund_number
from services.payment.handlers import INSURED, Handlers
from services.payment.ports import CashProvider, Insurer, ProviderRefused, RefundState

log = logging.getLogger(__name__)

# The insurer's judgement about the patient or the fee; any other refusal is our mistake and must not cost the patient.
NOT_INSURED = ("card_invalid", "not_designated", "not_covered")
WATCH_SECONDS = (20.0, 600.0)  # between two questions whether an order was paid: first, and at most


@dataclass
class Jobs:
    handlers: Handlers
    provider: CashProvider
    insurer: Insurer

    def by_name(self) -> dict[str, Job]:
        return {
            "decompose": self.decompose,
            "settle_insurance": self.settle_insurance,
            "watch_payment": self.watch_payment,
            "expire": self.expire,
            "close_trade": self.close_trade,
            "last_look": self.close_trade,
            "refund_cash": self.refund_cash,
            "refund_insurance": self.refund_insurance,
        }

    # --- orders

    def decompose(self, row: Row) -> Again | None:
        order_id, order = self._order(row)
        opened = order.opened
        if order.status != "opening" or opened is None:
            return None
        try:
            split = self.insurer.decompose(
                order_id, opened.card_id or "", opened.card_kind, opened.title or "", opened.amount_fen
            )
        except Unanswered:
            return Again()
        except ProviderRefused as refused:
            if refused.code not in NOT_INSURED:
                log.error("the insurer does not understand order %s: %s", order_id, refused.code)
                return Again()
            self.handlers.request_self_payment(_request(row), order_id, orders.RequestSelfPayment(refused.code))
            return None
        self.handlers.request_payment(
            _request(row),
            order_id,
            orders.RequestPayment(split.decomposition_id, split.fund_fen, split.account_fen, split.self_fen),
        )
        return None

    def settle_insurance(self, row: Row) -> Again | None:
        """Without an answer it is unknown whether the insurer has settled: then it is asked before it is told again,
        and what it refuses by now cannot hide what it has done."""
        order_id, order = self._order(row)
        if order.status != "confirming" or order.decomposition_id is None:
            return None
        try:
            settled = self.insurer.settlement(order_id) if row.attempt > 1 else None
            settled = settled or self.insurer.settle(order.decomposition_id)
        except Unanswered:
            return Again()
        except ProviderRefused as refused:
            log.warning("the insurer refuses to settle order %s: %s", order_id, refused.code)
            self.handlers.record_insurance_refusal(_request(row), order_id, orders.RecordInsuranceRefusal(refused.code))
            return None
        self.handlers.record_insurance_settlement(
            _request(row),
            order_id,
            orders.RecordInsuranceSettlement(settled.settlement_id, settled.fund_fen, settled.account_fen),
        )
        return None

    def watch_payment(self, row: Row) -> Again | None:
        """A notice may never come: ask until the order is paid or over, more and more rarely."""
        order_id, order = self._order(row)
        if order.status != "awaiting_payment":
            return None
        if self._asked(row, order_id) == "paid":
            return None
        first, most = WATCH_SECONDS
        return Again(min(first * 1.5 ** min(row.attempt - 1, 20), most))

    def expire(self, row: Row) -> Again | None:
        """A payment of the last second wins: the order ends only when the provider has nothing and takes nothing
        more."""
        order_id, order = self._order(row)
        if order.status == "awaiting_payment" and order.cash_fen:
            match self._closed(row, order_id):
                case "unknown":
                    return Again()
                case "paid":
                    return None
        self.handlers.expire(_request(row), order_id)
        return None

    def close_trade(self, row: Row) -> Again | None:
        """The order has ended; what was paid meanwhile is recorded as late. Looked at again when the provider has given
        up telling: then nothing that it took can have been missed."""
        order_id, order = self._order(row)
        if order.collected is not None:
            return None
        return Again() if self._closed(row, order_id) == "unknown" else None

    def _closed(self, row: Row, order_id: str) -> str:
        """Make sure that the provider takes no money for the order any more: `paid`, `closed` or `unknown`."""
        state = self._asked(row, order_id)
        if state != "open":
            return "closed" if state == "absent" else state
        try:
            self.provider.close(order_id)
        except (Unanswered, ProviderRefused):  # ORDERPAID: paid this very moment; asking again tells
            return "unknown"
        return "closed" if self._asked(row, order_id) in ("closed", "absent") else "unknown"

    def _asked(self, row: Row, order_id: str) -> str:
        """The provider's state of the trade (or `unknown`), recorded when it is paid."""
        try:
            trade = self.provider.trade(order_id)
        except (Unanswered, ProviderRefused) as error:
            log.info("the state of the trade of order %s is unknown: %s", order_id, error)
            return "unknown"
        if trade.state == "paid":
            assert trade.paid_at is not None
            command = orders.RecordCashCapture(trade.transaction_id, trade.amount_fen, trade.paid_at)
            self.handlers.record_cash_capture(_request(row, "capture"), order_id, command)
        return trade.state

    # --- refunds

    def refund_cash(self, row: Row) -> Again | None:
        refund_id = str(row.args["refund_id"])
        refund = self.handlers.refund(refund_id)
        leg = refund.leg("cash")
        requested = refund.requested
        if requested is None or leg.status in (*BACK, "failed"):
            return None
        number = refund_number(refund_id, leg.number)
        try:
            state: RefundState = "absent"
            if leg.status == "accepted":
                state = self.provider.refunded(number)
            if state == "absent":
                order = self.handlers.order(requested.order_id)
                state = self.provider.refund(number, requested.order_id, leg.amount_fen, order.cash_fen)
        except Unanswered as error:
            if leg.status == "pending":
                self.handlers.record_attempt(
                    _request(row, f"attempt-{row.attempt}"), refund_id, refunds.RecordAttempt("cash", "unanswered")
                )
            log.info("refund %s is not answered: %s", refund_id, error)
            return Again()
        except ProviderRefused as refused:
            self.handlers.record_failure(
                _request(row, "failure"), refund_id, refunds.RecordFailure(("cash",), refused.code)
            )
            return None
        match state:
            case "succeeded":
                success = refunds.RecordSuccess((("cash", leg.amount_fen),))
                self.handlers.record_success(_request(row, "success"), refund_id, success)
                return None
            case "abnormal" | "closed":
                failure = refunds.RecordFailure(("cash",), state.upper())
                self.handlers.record_failure(_request(row, "failure"), refund_id, failure)
                return None
        if leg.status == "pending":
            accepted = refunds.RecordAttempt("cash", "accepted")
            self.handlers.record_attempt(_request(row, f"attempt-{row.attempt}"), refund_id, accepted)
        return Again()

    def refund_insurance(self, row: Row) -> Again | None:
        refund_id = str(row.args["refund_id"])
        refund = self.handlers.refund(refund_id)
        legs = [leg for leg in refund.legs if leg.leg in INSURED and leg.status in ("pending", "accepted")]
        if refund.requested is None or not legs:
            return None
        names = tuple(leg.leg for leg in legs)
        settlement_id = self.handlers.order(refund.requested.order_id).insurance_settlement_id
        assert settlement_id is not None  # there is no captured insurance leg without one
        try:
            back = self.insurer.reversal(refund_id) if row.attempt > 1 else None  # unknown: ask first
            back = back or self.insurer.reverse(refund_id, settlement_id)
        except Unanswered:
            for name in names:
                self.handlers.record_attempt(
                    _request(row, f"{name}-attempt-{row.attempt}"), refund_id, refunds.RecordAttempt(name, "unanswered")
                )
            return Again()
        except ProviderRefused as refused:
            failure = refunds.RecordFailure(names, refused.code)
            self.handlers.record_failure(_request(row, "failure"), refund_id, failure)
            return None
        amounts = {"fund": back.fund_fen, "account": back.account_fen}
        success = refunds.RecordSuccess(tuple((name, amounts[name]) for name in names))
        self.handlers.record_success(_request(row, "success"), refund_id, success)
        return None

    def _order(self, row: Row) -> tuple[str, Order]:
        order_id = str(row.args["order_id"])
        return order_id, self.handlers.order(order_id)


def _request(row: Row, step: str = "") -> Request:
    """The same row does the same step once."""
    key = f"{row.id}/{step}" if step else row.id
    return Request("jobs", row.job, key, correlation_id=str(row.args.get("correlation_id", "")))
