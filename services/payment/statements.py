"""The daily comparison with the provider's and the insurer's statements, and the cures that need no person: they ask
once more, and write down what they are told. Money is moved by nothing here."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Protocol

from eventkit.calls import Unanswered
from eventkit.clock import Clock, day_end
from eventkit.deadlines import Again, Job, Row
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.store import Request
from services.payment.domain import order as orders
from services.payment.domain import reconciliation
from services.payment.domain import refund as refunds
from services.payment.domain.reconciliation import Difference, Key, compare, cure_of, key, own_movements
from services.payment.events import DifferenceFound, LegName, Movement
from services.payment.handlers import Handlers, refund_id_of, statements_from
from services.payment.ports import CashProvider, Insurer, ProviderRefused

log = logging.getLogger(__name__)

# How far our clock and theirs may be apart: what we booked this shortly before midnight is looked for a day later.
MARGIN = timedelta(minutes=30)
# The provider makes no statement of a day without a trade. So long after its hour there will be none.
PATIENCE = timedelta(hours=4)
AGAIN_SECONDS = 600.0


class Books(Protocol):
    """What is asked of the read model."""

    def moved(self, since: datetime, until: datetime) -> set[tuple[str, str, str]]:
        """(order id, payment or refund, leg) of what we booked in [since, until)."""
        ...

    def keep_statement(self, day: str, lines: Sequence[Movement]) -> None:
        """Both sides may date a movement differently, so lines stay findable by number."""
        ...

    def stated(self, keys: Iterable[Key]) -> list[Movement]: ...


@dataclass
class Statements:
    handlers: Handlers
    provider: CashProvider
    insurer: Insurer
    books: Books
    clock: Clock

    def by_name(self) -> dict[str, Job]:
        return {"reconcile_day": self.reconcile_day, "cure_difference": self.cure_difference}

    def reconcile_day(self, row: Row) -> Again | None:
        day = date.fromisoformat(str(row.args["day"]))
        if self.handlers.report(str(day)).reconciled is not None:
            return None
        try:
            trades, claims = self.provider.statement(day), self.insurer.statement(day)
        except (Unanswered, ProviderRefused) as error:
            log.warning("no statements of %s: %s", day, error)
            return Again(AGAIN_SECONDS)
        waited = self.clock.now() >= statements_from(day) + PATIENCE
        if claims is None or (trades is None and not waited):
            return Again(AGAIN_SECONDS)
        lines = [*(trades or ()), *claims]
        self.books.keep_statement(str(day), lines)
        ours, theirs = self._both_sides(day, lines)
        found = compare(ours, theirs)
        both = {key(each) for each in ours} & {key(each) for each in theirs}
        command = reconciliation.RecordComparison(
            day=str(day),
            stated=lines,
            agreed=len(both) - sum(1 for each in found if each.ours and each.theirs),
            differences=[(derived_id("difference", str(day), *_key(each)), each) for each in found],
        )
        self.handlers.record_comparison(_request(row), command)
        for followed in self.handlers.report(str(day)).differences.values():
            if cure_of(followed.found) == "person":
                log.error("ALARM: the statement of %s differs, and people must see to it: %s", day, followed.found)
            else:
                log.warning("the statement of %s differs; asking: %s", day, followed.found)
        return None

    def _both_sides(self, day: date, lines: Sequence[Movement]) -> tuple[list[Movement], list[Movement]]:
        """Ours: what we booked that day, by our clock, and whatever their lines name. Theirs: their lines, and what an
        earlier statement said of ours. The log is asked what is true; the read model only where to look."""
        moved = self.books.moved(day_end(day - timedelta(days=1)) - MARGIN, day_end(day) - MARGIN)
        named = {key(line): line for line in lines}
        ours: dict[Key, Movement] = {}
        foreign = set()
        for order_id in sorted({order_id for order_id, _, _ in moved} | {line.order_id for line in lines}):
            order = self.handlers.order(order_id)
            if order.opened is None:
                foreign.add(order_id)
                continue
            for movement in own_movements(order_id, order, self.handlers.refund(refund_id_of(order_id))):
                if key(movement) in named or (order_id, movement.what, movement.leg) in moved:
                    ours[key(movement)] = movement
        earlier = {key(line): line for line in self.books.stated(ours.keys() - named.keys())}
        theirs = [
            replace(line, order_id="") if line.order_id in foreign else line for line in (earlier | named).values()
        ]
        return list(ours.values()), theirs

    def cure_difference(self, row: Row) -> Again | None:
        """A difference that the other side does not explain stays open, for people."""
        day, difference_id = str(row.args["day"]), str(row.args["difference_id"])
        followed = self.handlers.report(day).difference(difference_id)
        if followed.state != "open":
            return None
        try:
            how = self._cured(row, followed.found)
        except Unanswered:
            return Again()
        except (ProviderRefused, Refusal) as refused:
            log.error("ALARM: difference %s of %s is left to people: %s", difference_id, day, refused)
            return None
        if how:
            self.handlers.record_cure(_request(row), day, difference_id, how)
        else:
            log.error("ALARM: difference %s of %s is left to people: asking confirms nothing", difference_id, day)
        return None

    def _cured(self, row: Row, found: DifferenceFound) -> str:
        match cure_of(found):
            case "record_payment":
                return self._record_payment(row, found.order_id)
            case "record_settlement":
                return self._record_settlement(row, found.order_id)
            case "record_refund" if found.party == "wechatpay":
                return self._record_refund(row, found)
            case "record_refund":
                return self._record_reversal(row, found)
            case "ask_again":
                return "confirmed" if self._confirms(found) else ""
            case "person":
                return ""

    def _record_payment(self, row: Row, order_id: str) -> str:
        trade = self.provider.trade(order_id)
        if trade.state != "paid" or trade.paid_at is None:
            return ""
        command = orders.RecordCashCapture(trade.transaction_id, trade.amount_fen, trade.paid_at)
        self.handlers.record_cash_capture(_request(row, "capture"), order_id, command)
        return "payment_recorded"

    def _record_settlement(self, row: Row, order_id: str) -> str:
        settled = self.insurer.settlement(order_id)
        if settled is None:
            return ""
        command = orders.RecordInsuranceSettlement(settled.settlement_id, settled.fund_fen, settled.account_fen)
        self.handlers.record_insurance_settlement(_request(row, "settlement"), order_id, command)
        known = self.handlers.order(order_id).insurance_settlement_id == settled.settlement_id
        return "settlement_recorded" if known else ""

    def _record_refund(self, row: Row, found: DifferenceFound) -> str:
        if found.theirs_fen is None or self.provider.refunded(found.number) != "succeeded":
            return ""
        success = refunds.RecordSuccess((("cash", found.theirs_fen),))
        self.handlers.record_success(_request(row, "success"), refunds.refund_of_number(found.number), success)
        return "refund_recorded"

    def _record_reversal(self, row: Row, found: DifferenceFound) -> str:
        back = self.insurer.reversal(found.number)
        if back is None:
            return ""
        amounts: dict[LegName, int] = {"fund": back.fund_fen, "account": back.account_fen}
        success = refunds.RecordSuccess(((found.leg, amounts[found.leg]),))
        self.handlers.record_success(_request(row, "success"), found.number, success)
        return "refund_recorded"

    def _confirms(self, found: DifferenceFound) -> bool:
        """Whether they say by now what we have booked: a statement is a picture of a moment."""
        if found.party == "insurer":
            is_payment = found.what == "payment"
            booked = self.insurer.settlement(found.order_id) if is_payment else self.insurer.reversal(found.number)
            if booked is None:
                return False
            return found.ours_fen == (booked.fund_fen if found.leg == "fund" else booked.account_fen)
        if found.what == "refund":
            return self.provider.refunded(found.number) == "succeeded"
        trade = self.provider.trade(found.order_id)
        return trade.state == "paid" and trade.amount_fen == found.ours_fen


def _key(difference: Difference) -> Key:
    either = difference.ours or difference.theirs
    assert either is not None
    return key(either)


def _request(row: Row, step: str = "") -> Request:
    return Request("jobs", row.job, f"{row.id}/{step}" if step else row.id)
