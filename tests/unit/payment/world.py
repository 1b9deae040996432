"""The payment service without servers: its log in memory, its jobs, views, policies and processors called in turn, and
a provider and an insurer that fail as they are told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from eventkit.calls import PeerRefused, Unanswered
from eventkit.clock import FixedClock, day_end, rfc3339, shanghai_day
from eventkit.contracts import contracts
from eventkit.deadlines import Row
from eventkit.envelope import Envelope, sequence
from eventkit.events import Recorded, Refusal
from eventkit.memory_store import MemoryBackend
from eventkit.relay import to_envelope
from eventkit.store import Answer, Request, Store
from eventkit.streams.guard import to_envelope as derived_envelope
from services.payment.checkout import BankCard, Checkout
from services.payment.domain import order as orders
from services.payment.domain import refund as refunds
from services.payment.domain.reconciliation import Key, key
from services.payment.events import Movement, MovementState, registry
from services.payment.handlers import Handlers, fee_order_id, prescription_order_id, refund_id_of
from services.payment.jobs import Jobs
from services.payment.policies import GROUP, inboxes
from services.payment.ports import ProviderRefused, RefundState, Settlement, Split, Trade
from services.payment.read_model import changes, ledger_of, summary_of
from services.payment.statements import Statements
from services.payment.streams.insurance import insurance
from services.payment.streams.refunds import refunds as refund_processor
from tests.unit.payment.given import NOW

FEE_FEN, FUND_FEN, DRUGS_FEN = 5000, 4000, 8000
NO_TIME = timedelta(0)
STATED: dict[str, MovementState] = {
    "succeeded": "done", "processing": "pending", "abnormal": "failed", "closed": "failed"
}
CARD = BankCard("ICBC_DEBIT", "6222000011112222", "张三")


class NoSealer:
    """Payment writes nothing personal (§31)."""

    def seal(self, person: str, values: dict[str, Any], context: str) -> bytes:
        raise AssertionError("a personal value in the payment log")

    def open(self, person: str, sealed: bytes, context: str) -> dict[str, Any]:
        raise AssertionError("a personal value in the payment log")


@dataclass
class Faults:
    """`before`: the next calls do nothing and are not answered. `after`: they do their work and are not answered."""

    before: int = 0
    after: int = 0

    def refuse(self) -> None:
        if self.before:
            self.before -= 1
            raise Unanswered("down")

    def silence(self) -> None:
        if self.after:
            self.after -= 1
            raise Unanswered("cut")


@dataclass
class FakeProvider:
    """WeChat Pay's rules on its own books. `pay` is the patient's phone."""

    clock: FixedClock
    faults: Faults = field(default_factory=Faults)
    trades: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    fate: RefundState = "succeeded"
    refusal: str = ""
    charge_during_next_prepay: bool = False
    misprint: Callable[[list[Movement]], list[Movement]] = list

    def prepay(self, order_id: str, description: str, amount_fen: int, payer: str, expires_at: datetime) -> str:
        self.faults.refuse()
        trade = self.trades.setdefault(order_id, {"amount": amount_fen, "expires": expires_at, "closed": False})
        if "paid_at" in trade:
            raise ProviderRefused("ORDERPAID")
        if self._is_closed(trade):
            raise ProviderRefused("ORDER_CLOSED")
        if self.charge_during_next_prepay:
            self.charge_during_next_prepay = False
            self.pay(order_id)
            raise Unanswered("cut")
        self.faults.silence()
        return f"wx-{order_id}"

    def for_phone(self, prepay_id: str) -> dict[str, str]:
        return {"package": f"prepay_id={prepay_id}"}

    def pay(self, order_id: str, *, late: bool = False) -> bool:
        trade = self.trades.get(order_id)
        if trade is None or "paid_at" in trade or (self._is_closed(trade) and not late):
            return False
        trade |= {"paid_at": self.clock.now(), "transaction": f"t-{order_id}"}
        return True

    def _is_closed(self, trade: dict[str, Any]) -> bool:
        return bool(trade["closed"] or trade["expires"] <= self.clock.now())

    def trade(self, order_id: str) -> Trade:
        self.faults.refuse()
        self.faults.silence()
        trade = self.trades.get(order_id)
        if trade is None:
            return Trade("absent")
        if "paid_at" in trade:
            return Trade("paid", trade["amount"], trade["transaction"], trade["paid_at"])
        return Trade("closed" if self._is_closed(trade) else "open")

    def close(self, order_id: str) -> None:
        self.faults.refuse()
        trade = self.trades.get(order_id)
        if trade is not None:
            if "paid_at" in trade:
                raise ProviderRefused("ORDERPAID")
            trade["closed"] = True
        self.faults.silence()

    def refund(self, refund_number: str, order_id: str, amount_fen: int, total_fen: int) -> RefundState:
        self.faults.refuse()
        if refund_number not in self.refunds:
            trade = self.trades[order_id]
            assert "paid_at" in trade
            assert total_fen == trade["amount"]
            others = [r for r in self.refunds.values() if r["order"] == order_id and r["state"] != "closed"]
            assert sum(r["amount"] for r in others) + amount_fen <= trade["amount"], "more would go back than was paid"
            if self.refusal:
                code, self.refusal = self.refusal, ""
                raise ProviderRefused(code)
            self.refunds[refund_number] = {
                "order": order_id, "amount": amount_fen, "state": "processing", "asked_at": self.clock.now(),
            }
        self.faults.silence()
        return self.refunds[refund_number]["state"]  # type: ignore[no-any-return]

    def refunded(self, refund_number: str) -> RefundState:
        self.faults.refuse()
        self.faults.silence()
        known = self.refunds.get(refund_number)
        return known["state"] if known else "absent"

    def refund_to_card(self, refund_number: str, bank_type: str, bank_account: str, real_name: str) -> None:
        self.faults.refuse()
        if self.refunds[refund_number]["state"] == "abnormal":
            self.refunds[refund_number]["state"] = "processing"
        self.faults.silence()

    def settle_refunds(self) -> None:
        """Processing refunds come to the end that fate has for them."""
        for refund in self.refunds.values():
            if refund["state"] == "processing":
                refund["state"] = self.fate

    def statement(self, day: date) -> list[Movement] | None:
        """From ten of the next morning. `misprint` changes what the statement says."""
        self.faults.refuse()
        if self.clock.now() < day_end(day) + timedelta(hours=10):
            return None
        lines = [
            Movement("wechatpay", "payment", "cash", order_id, trade["amount"], "done", order_id)
            for order_id, trade in self.trades.items()
            if "paid_at" in trade and shanghai_day(trade["paid_at"]) == day
        ] + [
            Movement("wechatpay", "refund", "cash", number, refund["amount"], STATED[refund["state"]], refund["order"])
            for number, refund in self.refunds.items()
            if shanghai_day(refund["asked_at"]) == day
        ]
        return self.misprint(lines)

    def notice(self, headers: Mapping[str, str], body: bytes) -> None:
        raise ProviderRefused("not_authentic")


@dataclass
class FakeInsurer:
    clock: FixedClock
    faults: Faults = field(default_factory=Faults)
    refusal: str = ""
    fund_fen: int = FUND_FEN
    account_fen: int = 0
    splits: dict[str, Split] = field(default_factory=dict)
    settled: dict[str, Split] = field(default_factory=dict)
    reversed: dict[str, str] = field(default_factory=dict)
    at: dict[str, datetime] = field(default_factory=dict)
    misprint: Callable[[list[Movement]], list[Movement]] = list

    def decompose(self, order_id: str, card_id: str, card_kind: str, title: str, amount_fen: int) -> Split:
        self.faults.refuse()
        self._maybe_refuse()
        rest = amount_fen - self.fund_fen - self.account_fen
        split = self.splits.setdefault(order_id, Split(f"d-{order_id}", self.fund_fen, self.account_fen, rest))
        self.faults.silence()
        return split

    def settle(self, decomposition_id: str) -> Settlement:
        self.faults.refuse()
        split = next(split for split in self.splits.values() if split.decomposition_id == decomposition_id)
        settlement_id = f"s-{decomposition_id}"
        if settlement_id not in self.settled:
            self._maybe_refuse()
            self.settled[settlement_id] = split
            self.at[settlement_id] = self.clock.now()
        self.faults.silence()
        return Settlement(settlement_id, split.fund_fen, split.account_fen)

    def reverse(self, refund_id: str, settlement_id: str) -> Settlement:
        self.faults.refuse()
        assert self.reversed.setdefault(settlement_id, refund_id) == refund_id, "reversed twice"
        self.at.setdefault(refund_id, self.clock.now())
        self.faults.silence()
        split = self.settled[settlement_id]
        return Settlement(settlement_id, split.fund_fen, split.account_fen)

    def settlement(self, order_id: str) -> Settlement | None:
        self.faults.refuse()
        split = self.splits.get(order_id)
        if split is None or f"s-{split.decomposition_id}" not in self.settled:
            return None
        return Settlement(f"s-{split.decomposition_id}", split.fund_fen, split.account_fen)

    def reversal(self, refund_id: str) -> Settlement | None:
        self.faults.refuse()
        for settlement_id, number in self.reversed.items():
            if number == refund_id:
                split = self.settled[settlement_id]
                return Settlement(settlement_id, split.fund_fen, split.account_fen)
        return None

    def statement(self, day: date) -> list[Movement] | None:
        self.faults.refuse()
        if self.clock.now() < day_end(day) + timedelta(hours=6):
            return None
        lines = []
        for settlement_id, split in self.settled.items():
            order_id = settlement_id.removeprefix("s-d-")
            for leg, fen in (("fund", split.fund_fen), ("account", split.account_fen)):
                moved = [("payment", order_id, self.at[settlement_id])]
                if number := self.reversed.get(settlement_id):
                    moved.append(("refund", number, self.at[number]))
                lines += [
                    Movement("insurer", what, leg, number, fen, "done", order_id)  # type: ignore[arg-type]
                    for what, number, at in moved
                    if fen and shanghai_day(at) == day
                ]
        return self.misprint(lines)

    def _maybe_refuse(self) -> None:
        if self.refusal:
            code, self.refusal = self.refusal, ""
            raise ProviderRefused(code)


class Registration:
    """The one endpoint that payment asks; `refusal` is (status, code) (§5)."""

    def __init__(self) -> None:
        self.refusal: tuple[int, str] | None = None
        self.asked: list[tuple[str, str | None]] = []

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        self.asked.append((path, key))
        assert body == {"checkpoint": "payment"}
        if self.refusal is not None:
            status, code = self.refusal
            raise PeerRefused(status, {"code": code, "failed": [{"code": "no_recent_visit"}]})
        return {}


class Views:
    """Documents as the read model keeps them."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
        self.lines: dict[Key, Movement] = {}

    def project(self, recorded: Recorded) -> None:
        for change in changes(recorded):
            document = self.documents[change.collection][change.id]
            for operator, fields in change.update.items():
                for path, value in fields.items():
                    *parents, last = path.split(".")
                    place = document
                    for parent in parents:
                        place = place.setdefault(parent, {})
                    if operator == "$set":
                        place[last] = value
                    else:
                        place.pop(last, None)

    def earn(self, order_id: str, kind: str, cause: Envelope) -> None:
        self.documents["ledger"][order_id] |= {"kind": kind, "visit_id": cause.data["visit_id"], "earned": True}

    def orders_of(self, visit_id: str) -> list[str]:
        return sorted(id_ for id_, row in self.documents["orders"].items() if row["visit_id"] == visit_id)

    def stuck(self) -> list[str]:
        return sorted(id_ for id_, row in self.documents["refunds"].items() if row.get("failed"))

    def moved(self, since: datetime, until: datetime) -> set[tuple[str, str, str]]:
        rows = [row for row in self.documents["movements"].values() if since <= row["at"] < until]
        return {(row["order_id"], row["what"], leg) for row in rows for leg in row["legs"]}

    def keep_statement(self, day: str, lines: Sequence[Movement]) -> None:
        self.lines |= {key(line): line for line in lines}

    def stated(self, keys: Iterable[Key]) -> list[Movement]:
        return [self.lines[each] for each in keys if each in self.lines]

    def reconciliations(self, day: str | None = None) -> list[dict[str, Any]]:
        rows = self.documents["reconciliations"].items()
        return [summary_of(id_, row) for id_, row in sorted(rows, reverse=True) if day in (None, id_)]

    def ledger(self, order_id: str | None = None) -> dict[str, Any]:
        rows = [row for id_, row in self.documents["ledger"].items() if order_id in (None, id_)]
        return ledger_of(
            {
                "kind": row["kind"],
                "earned": bool(row.get("earned")) and not row.get("late") and not row.get("refunding"),
                "paid": row.get("paid", {}),
                "refunded": row.get("refunded", {}),
                "settled_offline_fen": row.get("settled_offline_fen", 0),
            }
            for row in rows
        )


class World:
    def __init__(self) -> None:
        self.clock = FixedClock(NOW)
        self.backend = MemoryBackend()
        self.store = Store(self.backend, registry, NoSealer(), self.clock)
        self.provider, self.insurer = FakeProvider(self.clock), FakeInsurer(self.clock)
        self.registration = Registration()
        self.views = Views()
        self.handlers = Handlers(self)
        self.checkout = Checkout(self.handlers, self.provider, self.registration)  # type: ignore[arg-type]
        self.policies = inboxes(self.handlers, self.views)[GROUP]  # type: ignore[arg-type]
        statements = Statements(self.handlers, self.provider, self.insurer, self.views, self.clock)
        self._jobs = Jobs(self.handlers, self.provider, self.insurer).by_name() | statements.by_name()
        self.rows: dict[str, Row] = {}
        self.done: set[str] = set()
        self._states: dict[tuple[str, str], Any] = {}
        self.public: list[Envelope] = []
        self.derived: list[Envelope] = []
        self.heard: list[Envelope] = []
        self.held: dict[str, list[Envelope]] = {}
        self._read = 0
        self._heard = 0
        self._keys = 0
        self.handlers.begin_reconciling()

    # --- what follows from what was written

    def settle_down(self) -> None:
        """Relay, views, processors and policies, until nothing follows any more."""
        while self._read < len(self.backend.commits):
            commit = self.backend.commits[self._read]
            self._read += 1
            for due in commit.due:
                self.rows.setdefault(due.id, Row(due.id, due.job, due.args, due.at, 0))
            for logged in commit.events:
                event = registry.decode(logged.type, logged.data)
                self.views.project(Recorded(logged.stream, logged.version, event, commit.time))
                if logged.topic:
                    envelope = Envelope.parse(to_envelope(commit, logged, registry.source).to_bytes())
                    contracts().validate(envelope, logged.topic)
                    self.public.append(envelope)
                    self._derive(envelope)

    def _derive(self, envelope: Envelope) -> None:
        for processor in (refund_processor, insurance):
            key = (processor.app_id, envelope.partitionkey)
            self._states[key], outputs = processor.derive(self._states.get(key), envelope)
            for output in outputs:
                told = derived_envelope(output, envelope, processor.app_id)
                contracts().validate(told, processor.output_topic)
                self.derived.append(told)
                if told.name == "RefundDue":
                    self.policies["RefundDue"](told)

    def run_jobs(self) -> int:
        """Every row that is due, once; how many are still waiting then."""
        self.settle_down()
        due = [row for row in self.rows.values() if row.id not in self.done and row.due <= self.clock.now()]
        for row in sorted(due, key=lambda row: row.due):
            row = self.rows[row.id] = replace(row, attempt=row.attempt + 1)
            if self._jobs[row.job](row) is None:
                self.done.add(row.id)
        self.settle_down()
        return sum(1 for row in self.rows.values() if row.id not in self.done and row.due <= self.clock.now())

    def run_until_quiet(self, rounds: int = 30) -> None:
        for _ in range(rounds):
            if self.run_jobs() == 0:
                return
            self.provider.settle_refunds()
        raise AssertionError(f"still waiting: {sorted(set(self.rows) - self.done)}")

    def advance(self, **step: float) -> None:
        self.clock.advance(timedelta(**step))

    # --- what others say

    def hear(self, context: str, name: str, visit: str, stream: str, **data: Any) -> Envelope:
        """What another context tells; at once, or when its topic is let go (`held`): the order of a topic is kept."""
        self._heard += 1
        envelope = Envelope(
            id=f"{stream}/{self._heard}", source=f"/services/{context}", type=f"org.fuzhen.{context}.{name}.v1",
            subject=stream, time=rfc3339(self.clock.now()), partitionkey=visit, sequence=sequence(self._heard),
            data={"visit_id": visit, **data},
        )
        contracts().validate(envelope)
        if context in self.held:
            self.held[context].append(envelope)
        else:
            self.deliver(envelope)
        return envelope

    def deliver(self, envelope: Envelope) -> None:
        self.heard.append(envelope)
        if (handler := self.policies.get(envelope.name)) is not None:
            handler(envelope)
        self._derive(envelope)
        self.settle_down()

    def let_go(self, context: str) -> None:
        for envelope in self.held.pop(context, ()):
            self.deliver(envelope)

    def visit(self, visit: str = "v1", card_kind: str = "beijing_insured", clock_ahead: timedelta = NO_TIME) -> str:
        """`clock_ahead` of registration's clock, which sets the end of the hold."""
        self.hear(
            "registration", "VisitRequested", visit, f"visit-{visit}", patient_id="pt1", account_id="acc1",
            doctor_id="d1", department_id="dp1", session_id="se1", slot_id="sl1", day="2026-11-24",
            starts_at=rfc3339(NOW), entrance="app", card_id="card1", card_kind=card_kind, title="ordinary",
            fee_fen=FEE_FEN, assessment_id="as1",
            hold_until=rfc3339(self.clock.now() + clock_ahead + timedelta(minutes=15)),
        )
        return fee_order_id(visit)

    def prescription(self, visit: str = "v1", prescription: str = "p1") -> str:
        self.hear(
            "pharmacy", "PrescriptionIssued", visit, f"prescription-{prescription}", prescription_id=prescription,
            patient_id="pt1", account_id="acc1", doctor_id="d1", pharmacist_id="ph1", kind="western",
            card_kind="beijing_insured", amount_fen=DRUGS_FEN, signed_at=rfc3339(self.clock.now()),
            valid_until=rfc3339(self.clock.now() + timedelta(days=3)),
        )
        return prescription_order_id(prescription)

    def withdraw(self, visit: str = "v1", reason: str = "missed") -> None:
        self.hear("registration", "VisitWithdrawn", visit, f"visit-{visit}", slot_id="sl1", reason=reason)

    def lapse(self, visit: str = "v1") -> None:
        self.hear("registration", "VisitLapsed", visit, f"visit-{visit}", slot_id="sl1", reason="unpaid")

    def finish(self, visit: str = "v1") -> None:
        finished = {"patient_id": "p1", "doctor_id": "d1", "finished_at": rfc3339(NOW)}
        self.hear("consult", "ConsultFinished", visit, f"consult-{visit}", **finished)

    def void(self, prescription: str = "p1", visit: str = "v1") -> None:
        self.hear(
            "pharmacy", "PrescriptionVoided", visit, f"prescription-{prescription}",
            prescription_id=prescription, reason="withdrawn",
        )

    def dispense(self, prescription: str = "p1", visit: str = "v1", way: str = "courier") -> None:
        self.hear(
            "pharmacy", "PrescriptionDispensed", visit, f"prescription-{prescription}",
            prescription_id=prescription, way=way,
        )

    def desk_settles(
        self, prescription: str = "p1", visit: str = "v1", settlement: str = "h1", clock_ahead: timedelta = NO_TIME
    ) -> None:
        self.hear(
            "his", "PrescriptionSettled", visit, f"his-settlement-{settlement}", settlement_id=settlement,
            prescription_id=prescription, amount_fen=DRUGS_FEN, settled_at=rfc3339(self.clock.now() + clock_ahead),
            legs=[{"leg": "fund", "amount_fen": 6000}, {"leg": "cash", "amount_fen": 2000}],
        )

    # --- what people do

    def prepay(self, order_id: str, key: str = "", account: str = "acc1") -> Answer:
        self._keys += 1
        answer = self.checkout.prepay(Request(account, "prepay", key or f"key-{self._keys}"), account, order_id)
        self.settle_down()
        return answer

    def notice_of_payment(self, order_id: str) -> None:
        trade = self.provider.trades[order_id]
        command = orders.RecordCashCapture(trade["transaction"], trade["amount"], trade["paid_at"])
        self.handlers.record_cash_capture(Request("wechatpay", "trade", trade["transaction"]), order_id, command)
        self.settle_down()

    def notice_of_refund(self, number: str) -> None:
        refund = self.provider.refunds[number]
        if refund["state"] == "succeeded":
            success = refunds.RecordSuccess((("cash", refund["amount"]),))
            told = Request("wechatpay", "refund", number)
            self.handlers.record_success(told, refunds.refund_of_number(number), success)
        self.settle_down()

    def retry(self, order_id: str, card: BankCard | None = CARD) -> Answer:
        self._keys += 1
        request = Request("cashier1", "retry", f"key-{self._keys}")
        answer = self.checkout.retry_refund(request, "cashier1", refund_id_of(order_id), card)
        self.settle_down()
        return answer

    def pay_by_hand(self, order_id: str) -> None:
        """The cashier gives a failed cash leg back another way."""
        self._keys += 1
        request = Request("cashier1", "resolve", f"key-{self._keys}")
        command = refunds.ResolveRefund("cash", "cashier1", "paid_by_hand", "receipt 7")
        self.handlers.resolve_refund(request, refund_id_of(order_id), command, lambda _: Answer())
        self.settle_down()

    def decide_dispute(self, order_id: str, settlement: str, decision: orders.DisputeDecision) -> None:
        self._keys += 1
        request = Request("cashier1", "decide", f"key-{self._keys}")
        command = orders.ResolveDispute(settlement, decision, "cashier1", "why")
        self.handlers.resolve_dispute(request, order_id, command)
        self.settle_down()

    def pay(self, order_id: str) -> None:
        """The plain way: prepay, pay, notice, insurer."""
        self.run_until_quiet()
        self.prepay(order_id)
        if self.provider.pay(order_id):
            self.notice_of_payment(order_id)
        self.run_until_quiet()

    # --- what can be seen

    def differences(self) -> list[tuple[str, str, str, str]]:
        """(day, kind, number, state) of all days that were compared."""
        return [
            (day, followed.found.kind, followed.found.number, followed.state)
            for day in sorted(self.views.documents["reconciliations"])
            for followed in self.handlers.report(day).differences.values()
        ]

    def state(self, order_id: str) -> str:
        return self.handlers.order(order_id).status

    def refund_state(self, order_id: str) -> str:
        return self.handlers.refund(refund_id_of(order_id)).status

    def events(self, order_id: str) -> list[str]:
        """Short names of what stands on the order's topic and its refund's."""
        streams = (f"order-{order_id}", f"refund-{refund_id_of(order_id)}")
        return [envelope.name for envelope in self.public if envelope.stream in streams]

    def counts(self) -> Counter[tuple[str, str]]:
        return Counter((envelope.stream, envelope.name) for envelope in self.public)

    def totals(self) -> tuple[int, int, int, int]:
        """(paid, refunded, earned, held) in fen."""
        totals = self.views.ledger()["totals"]
        return totals["paid_fen"], totals["refunded_fen"], totals["earned_fen"], totals["held_fen"]

    def refused(self, code: str, call: Any, *args: Any) -> Refusal:
        with pytest.raises(Refusal) as raised:
            call(*args)
        assert raised.value.code == code
        return raised.value
