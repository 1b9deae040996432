"""Commands: load → decide → append, with the jobs that what happened makes due. Nobody is called from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from eventkit.clock import Clock, day_end, shanghai_day
from eventkit.store import Answer, Decision, Due, Histories, Request, Store, fold
from services.payment.domain import order as orders
from services.payment.domain import reconciliation
from services.payment.domain import refund as refunds
from services.payment.domain.order import Order
from services.payment.domain.reconciliation import Report, cure_of
from services.payment.domain.refund import Refund
from services.payment.events import (
    CashCollected,
    DayReconciled,
    DifferenceFound,
    LegName,
    OrderOpened,
    OrderSettledOffline,
    PaymentExpired,
    PrepayCreated,
    ReconciliationBegun,
    RefundLegRetried,
    RefundReason,
    RefundRequested,
)

WATCH_AFTER = timedelta(seconds=20)  # how long the notice of a payment may take before the provider is asked
LAST_LOOK_AFTER = timedelta(hours=25)  # the provider gives up telling after a day
STATEMENTS_AFTER = timedelta(hours=10, minutes=15)  # of the next day: the provider makes its statement at ten
CASH: tuple[LegName, ...] = ("cash",)
INSURED: tuple[LegName, ...] = ("fund", "account")
Events = Sequence[object]


class Core(Protocol):
    """What the handlers need of `eventkit.core.Core`."""

    @property
    def store(self) -> Store: ...

    @property
    def clock(self) -> Clock: ...


def fee_order_id(visit_id: str) -> str:
    return f"fee-{visit_id}"


def prescription_order_id(prescription_id: str) -> str:
    return f"rx-{prescription_id}"


def refund_id_of(order_id: str) -> str:
    return f"rf-{order_id}"


def order_stream(order_id: str) -> str:
    return f"order-{order_id}"


def refund_stream(refund_id: str) -> str:
    return f"refund-{refund_id}"


def report_stream(day: str) -> str:
    return f"reconciliation-{day}"


@dataclass
class Handlers:
    core: Core

    # --- reading one aggregate, strongly consistent

    def order(self, order_id: str) -> Order:
        return _order(self.core.store.load(order_stream(order_id)), order_id)

    def refund(self, refund_id: str) -> Refund:
        return _refund(self.core.store.load(refund_stream(refund_id)), refund_id)

    # --- orders

    def answered(self, request: Request, order_id: str) -> Answer | None:
        """What this very command was answered before, if it is a retry; else None when the order may be paid now.
        Raises Refusal as `must_be_payable`."""
        now = self.core.clock.now()
        new = Answer()

        def decide(histories: Histories) -> Decision:
            orders.must_be_payable(_order(histories, order_id), now)
            return Decision(answer=new)

        answer = self.core.store.execute(request, [order_stream(order_id)], decide)
        return None if answer is new else answer

    def open_order(self, request: Request, command: orders.OpenOrder) -> Answer:
        return self._on_order(request, command.order_id, lambda order: orders.open_order(command, order))

    def request_payment(self, request: Request, order_id: str, command: orders.RequestPayment) -> Answer:
        return self._on_order(request, order_id, lambda order: orders.request_payment(command, order))

    def request_self_payment(self, request: Request, order_id: str, command: orders.RequestSelfPayment) -> Answer:
        return self._on_order(request, order_id, lambda order: orders.request_self_payment(command, order))

    def record_prepay(
        self, request: Request, order_id: str, command: orders.RecordPrepay, answer: Callable[[Order], Answer]
    ) -> Answer:
        now = self.core.clock.now()
        return self._on_order(request, order_id, lambda order: orders.record_prepay(command, order, now), answer)

    def confirm_without_cash(self, request: Request, order_id: str, answer: Callable[[Order], Answer]) -> Answer:
        now = self.core.clock.now()
        return self._on_order(request, order_id, lambda order: orders.confirm_without_cash(order, now), answer)

    def record_cash_capture(self, request: Request, order_id: str, command: orders.RecordCashCapture) -> Answer:
        return self._on_order(request, order_id, lambda order: orders.record_cash_capture(command, order))

    def record_insurance_settlement(
        self, request: Request, order_id: str, command: orders.RecordInsuranceSettlement
    ) -> Answer:
        return self._on_order(request, order_id, lambda order: orders.record_insurance_settlement(command, order))

    def record_insurance_refusal(
        self, request: Request, order_id: str, command: orders.RecordInsuranceRefusal
    ) -> Answer:
        return self._on_order(request, order_id, lambda order: orders.record_insurance_refusal(command, order))

    def expire(self, request: Request, order_id: str) -> Answer:
        now = self.core.clock.now()
        return self._on_order(request, order_id, lambda order: orders.expire(order, now))

    def close(self, request: Request, order_id: str) -> Answer:
        return self._on_order(request, order_id, orders.close)

    def settle_offline(self, request: Request, command: orders.SettleOffline) -> Answer:
        return self._on_order(request, command.order_id, lambda order: orders.settle_offline(command, order))

    # --- refunds

    def request_refund(self, request: Request, order_id: str, reason: RefundReason) -> Answer:
        refund_id = refund_id_of(order_id)
        command = refunds.RequestRefund(refund_id, order_id, reason)

        def decide(histories: Histories) -> Decision:
            refund = _refund(histories, refund_id)
            events = refunds.request_refund(command, refund, _order(histories, order_id))
            return self._refund_decision(request, refund_id, refund, events)

        return self.core.store.execute(request, [refund_stream(refund_id), order_stream(order_id)], decide)

    def record_attempt(self, request: Request, refund_id: str, command: refunds.RecordAttempt) -> Answer:
        return self._on_refund(request, refund_id, lambda refund: refunds.record_attempt(command, refund))

    def record_success(self, request: Request, refund_id: str, command: refunds.RecordSuccess) -> Answer:
        return self._on_refund(request, refund_id, lambda refund: refunds.record_success(command, refund))

    def record_failure(self, request: Request, refund_id: str, command: refunds.RecordFailure) -> Answer:
        return self._on_refund(request, refund_id, lambda refund: refunds.record_failure(command, refund))

    def retry_refund(
        self, request: Request, refund_id: str, command: refunds.RetryRefund, answer: Callable[[Refund], Answer]
    ) -> Answer:
        return self._on_refund(request, refund_id, lambda refund: refunds.retry_refund(command, refund), answer)

    def resolve_refund(
        self, request: Request, refund_id: str, command: refunds.ResolveRefund, answer: Callable[[Refund], Answer]
    ) -> Answer:
        return self._on_refund(request, refund_id, lambda refund: refunds.resolve_refund(command, refund), answer)

    def resolve_dispute(self, request: Request, order_id: str, command: orders.ResolveDispute) -> Answer:
        """The decision and, where our payment goes back, its refund: in one write."""
        refund_id = refund_id_of(order_id)
        streams = [order_stream(order_id), refund_stream(refund_id)]
        body = {"order_id": order_id, "settlement_id": command.settlement_id, "decision": command.decision}

        def decide(histories: Histories) -> Decision:
            order, refund = _order(histories, order_id), _refund(histories, refund_id)
            decided = [(streams[0], event) for event in orders.resolve_dispute(command, order_id, order)]
            if command.decision != "online_goes_back":
                return Decision(decided, answer=Answer(200, body))
            events = refunds.request_refund(
                refunds.RequestRefund(refund_id, order_id, "settled_offline"), refund, order
            )
            more = self._refund_decision(request, refund_id, refund, events)
            return Decision([*decided, *more.events], more.due, Answer(200, body))

        return self.core.store.execute(request, streams, decide)

    # --- the daily comparison

    def report(self, day: str) -> Report:
        return _report(self.core.store.load(report_stream(day)), day)

    def begin_reconciling(self) -> Answer:
        """From today on, once for all; each day then makes the next one due."""
        stream, today = "reconciliation", shanghai_day(self.core.clock.now())

        def decide(histories: Histories) -> Decision:
            if histories[stream]:
                return Decision()
            return Decision([(stream, ReconciliationBegun(day=str(today)))], [_reconcile(today)])

        return self.core.store.execute(Request("jobs", "begin_reconciling", "begin"), [stream], decide)

    def record_comparison(self, request: Request, command: reconciliation.RecordComparison) -> Answer:
        return self._on_report(
            request, command.day, lambda report: reconciliation.record_comparison(command, report)
        )

    def record_cure(self, request: Request, day: str, difference_id: str, how: str) -> Answer:
        return self._on_report(request, day, lambda report: reconciliation.record_cure(difference_id, how, report))

    def resolve_difference(
        self,
        request: Request,
        day: str,
        command: reconciliation.ResolveDifference,
        answer: Callable[[Report], Answer],
    ) -> Answer:
        return self._on_report(
            request, day, lambda report: reconciliation.resolve_difference(command, report), answer
        )

    # --- inside

    def _on_report(
        self,
        request: Request,
        day: str,
        decide: Callable[[Report], Events],
        answer: Callable[[Report], Answer] = lambda _: Answer(),
    ) -> Answer:
        stream = report_stream(day)

        def decision(histories: Histories) -> Decision:
            report = _report(histories, day)
            events = decide(report)
            for event in events:
                report = reconciliation.evolve(report, event)
            due = report_work(events, self.core.clock.now())
            return Decision([(stream, event) for event in events], due, answer(report))

        return self.core.store.execute(request, [stream], decision)

    def _on_order(
        self,
        request: Request,
        order_id: str,
        decide: Callable[[Order], Events],
        answer: Callable[[Order], Answer] = lambda _: Answer(),
    ) -> Answer:
        stream = order_stream(order_id)

        def decision(histories: Histories) -> Decision:
            before = after = _order(histories, order_id)
            events = decide(before)
            for event in events:
                after = orders.evolve(after, event)
            due = order_work(before, after, events, request, self.core.clock.now())
            return Decision([(stream, event) for event in events], due, answer(after))

        return self.core.store.execute(request, [stream], decision)

    def _on_refund(
        self,
        request: Request,
        refund_id: str,
        decide: Callable[[Refund], Events],
        answer: Callable[[Refund], Answer] = lambda _: Answer(),
    ) -> Answer:
        def decision(histories: Histories) -> Decision:
            refund = _refund(histories, refund_id)
            return self._refund_decision(request, refund_id, refund, decide(refund), answer)

        return self.core.store.execute(request, [refund_stream(refund_id)], decision)

    def _refund_decision(
        self,
        request: Request,
        refund_id: str,
        refund: Refund,
        events: Events,
        answer: Callable[[Refund], Answer] = lambda _: Answer(),
    ) -> Decision:
        for event in events:
            refund = refunds.evolve(refund, event)
        due = refund_work(refund_id, refund, events, request, self.core.clock.now())
        return Decision([(refund_stream(refund_id), event) for event in events], due, answer(refund))


def _order(histories: Histories, order_id: str) -> Order:
    return fold(orders.evolve, Order(), histories[order_stream(order_id)])


def _refund(histories: Histories, refund_id: str) -> Refund:
    return fold(refunds.evolve, Refund(), histories[refund_stream(refund_id)])


def _report(histories: Histories, day: str) -> Report:
    return fold(reconciliation.evolve, Report(), histories[report_stream(day)])


def statements_from(day: date) -> datetime:
    """When both statements of a day are there."""
    return day_end(day) + STATEMENTS_AFTER


def _reconcile(day: date) -> Due:
    return Due(f"reconcile:{day}", statements_from(day), "reconcile_day", {"day": str(day)})


def report_work(events: Events, now: datetime) -> list[Due]:
    """The next day's comparison, and whatever can be cured without a person."""
    due = []
    for event in events:
        match event:
            case DayReconciled(day=day):
                due.append(_reconcile(date.fromisoformat(day) + timedelta(days=1)))
            case DifferenceFound(day=day, difference_id=id_) if cure_of(event) != "person":
                due.append(Due(f"cure:{day}:{id_}", now, "cure_difference", {"day": day, "difference_id": id_}))
    return due


def order_work(before: Order, after: Order, events: Events, request: Request, now: datetime) -> list[Due]:
    """What must be done because of these events of one order."""
    due = []

    def add(job: str, order_id: str, at: datetime) -> None:
        args = {"order_id": order_id, "correlation_id": request.correlation_id}
        due.append(Due(f"{job}:{order_id}", at, job, args))

    for event in events:
        match event:
            case OrderOpened(order_id=order_id) if after.status in ("opening", "awaiting_payment"):
                add("expire", order_id, event.expires_at)
                if after.status == "opening":
                    add("decompose", order_id, now)
            case PrepayCreated(order_id=order_id) if not before.prepaid:
                add("watch_payment", order_id, now + WATCH_AFTER)
            case CashCollected(order_id=order_id) if after.status == "confirming":
                add("settle_insurance", order_id, now)
            case PaymentExpired(order_id=order_id) | OrderSettledOffline(order_id=order_id) if (
                before.status == "awaiting_payment" and before.cash_fen
            ):
                add("close_trade", order_id, now)
                add("last_look", order_id, now + LAST_LOOK_AFTER)
            case _:
                pass
    return due


def refund_work(refund_id: str, refund: Refund, events: Events, request: Request, now: datetime) -> list[Due]:
    """One job for the provider's leg, one for the insurer's two; a retry is a new piece of work for its job."""
    names: set[LegName] = set()
    for event in events:
        match event:
            case RefundRequested(legs=legs):
                names |= {leg.leg for leg in legs}
            case RefundLegRetried(leg=name):
                names.add(name)
    due = []
    for job, of_job in (("refund_cash", CASH), ("refund_insurance", INSURED)):
        if asked := [refund.leg(name) for name in of_job if name in names]:
            retries = max(leg.retries for leg in asked)
            args = {"refund_id": refund_id, "correlation_id": request.correlation_id}
            due.append(Due(f"{job}:{refund_id}:{retries}", now, job, args))
    return due
