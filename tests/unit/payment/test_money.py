"""Whatever happens, in whatever order, told twice or not at all: every fen is held, earned or given back, once
(§16)."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventkit.calls import Unanswered
from eventkit.events import Refusal
from services.payment.domain.refund import refund_number, refund_of_number
from services.payment.read_model import LEGS
from tests.unit.payment.world import World

ORDERS = st.sampled_from(["fee-v1", "fee-v2", "rx-p1"])
VISITS = st.sampled_from(["v1", "v2"])
CONTEXTS = st.sampled_from(["registration", "consult", "pharmacy", "his"])
FATES = st.sampled_from(["succeeded", "abnormal", "closed"])
REASONS = st.sampled_from(["missed", "declined", "patient", "session_cancelled"])
ONCE = (
    "PaymentRequested", "PaymentCaptured", "PaymentExpired", "OrderSettledOffline", "RefundRequested", "RefundSucceeded"
)


class Money(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(account=st.sampled_from([0, 300, 1000]), begun=st.dictionaries(ORDERS, st.booleans()), fate=FATES)
    def begin(self, account: int, begun: dict[str, bool], fate: Any) -> None:
        """Some orders are prepaid or paid already: a storm from nothing seldom comes as far as a refund."""
        self.world.insurer.account_fen = account
        self.world.visit("v1", "beijing_insured")
        self.world.visit("v2", "uninsured")
        self.world.prescription("v1", "p1")
        self.world.run_until_quiet()
        for order_id, paid in sorted(begun.items()):
            (self.world.pay if paid else self.world.prepay)(order_id)
        self.world.provider.fate = fate

    # --- the patient, the provider's notices, the desk

    @rule(order_id=ORDERS, charge=st.booleans())
    def prepay(self, order_id: str, charge: bool) -> None:
        self.world.provider.charge_during_next_prepay = charge
        with contextlib.suppress(Refusal, Unanswered):
            self.world.prepay(order_id)
        self.world.provider.charge_during_next_prepay = False

    @rule(order_id=ORDERS, late=st.booleans())
    def pay(self, order_id: str, late: bool) -> None:
        self.world.provider.pay(order_id, late=late)

    @rule(order_id=ORDERS)
    def tell_payment(self, order_id: str) -> None:
        if "paid_at" in self.world.provider.trades.get(order_id, {}):
            self.world.notice_of_payment(order_id)

    @rule(data=st.data())
    def tell_refund(self, data: st.DataObject) -> None:
        if numbers := sorted(self.world.provider.refunds):
            self.world.notice_of_refund(data.draw(st.sampled_from(numbers)))

    @rule(settlement=st.sampled_from(["h1", "h2"]))
    def settle_at_the_desk(self, settlement: str) -> None:
        self.world.desk_settles("p1", "v1", settlement)

    # --- what others decide

    @rule(visit=VISITS, reason=REASONS, at_once=st.booleans())
    def withdraw(self, visit: str, reason: str, at_once: bool) -> None:
        """`at_once`: and the refund that follows comes to whatever end fate has for it."""
        self.world.withdraw(visit, reason)
        if at_once:
            self.world.run_jobs()
            self.world.provider.settle_refunds()
            self.world.run_jobs()

    @rule(visit=VISITS)
    def lapse(self, visit: str) -> None:
        self.world.lapse(visit)

    @rule(visit=VISITS)
    def finish(self, visit: str) -> None:
        self.world.finish(visit)

    @rule()
    def void(self) -> None:
        self.world.void("p1", "v1")

    @rule(way=st.sampled_from(["courier", "desk"]))
    def dispense(self, way: str) -> None:
        self.world.dispense("p1", "v1", way)

    @rule(context=CONTEXTS)
    def hold_topic(self, context: str) -> None:
        self.world.held.setdefault(context, [])

    @rule(context=CONTEXTS)
    def let_topic_go(self, context: str) -> None:
        self.world.let_go(context)

    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        self.world.deliver(data.draw(st.sampled_from(self.world.heard)))

    # --- time, jobs, faults, people

    @rule(minutes=st.sampled_from([1, 20, 60 * 12, 60 * 24 * 3]))
    def pass_time(self, minutes: int) -> None:
        self.world.advance(minutes=minutes)
        self.world.run_jobs()

    @rule()
    def run_jobs(self) -> None:
        self.world.run_jobs()

    @rule(times=st.integers(1, 3), after=st.booleans(), insurer=st.booleans())
    def fall_silent(self, times: int, after: bool, insurer: bool) -> None:
        faults = self.world.insurer.faults if insurer else self.world.provider.faults
        faults.before, faults.after = (0, times) if after else (times, 0)

    @rule(code=st.sampled_from(["card_invalid", "account_short"]))
    def insurer_refuses(self, code: str) -> None:
        self.world.insurer.refusal = code

    @rule(fate=FATES, code=st.sampled_from(["", "NOT_ENOUGH"]))
    def refunds_fare(self, fate: str, code: str) -> None:
        self.world.provider.fate = fate  # type: ignore[assignment]
        self.world.provider.refusal = code
        self.world.provider.settle_refunds()

    @rule(order_id=ORDERS)
    def retry(self, order_id: str) -> None:
        with contextlib.suppress(Refusal, Unanswered):
            self.world.retry(order_id)

    @rule(order_id=ORDERS)
    def pay_by_hand(self, order_id: str) -> None:
        with contextlib.suppress(Refusal):
            self.world.pay_by_hand(order_id)

    @rule(settlement=st.sampled_from(["h1", "h2"]), decision=st.sampled_from(["desk_gives_back", "online_goes_back"]))
    def decide_dispute(self, settlement: str, decision: Any) -> None:
        with contextlib.suppress(Refusal):
            self.world.decide_dispute("rx-p1", settlement, decision)

    # --- always

    @invariant()
    def one_way_only(self) -> None:
        """§23: what is paid online is not settled at the desk, nor the other way round."""
        for (stream, name), _ in self.world.counts().items():
            if name == "OrderSettledOffline":
                captured = self.world.handlers.order(stream.removeprefix("order-")).captured
                assert captured is None or captured.late

    @invariant()
    def nothing_happens_twice(self) -> None:
        for (stream, name), count in self.world.counts().items():
            assert count == 1 or name not in ONCE, f"{name} {count} times in {stream}"

    @invariant()
    def every_fen_is_somewhere(self) -> None:
        for order_id in self.world.views.documents["ledger"]:
            ledger = self.world.views.ledger(order_id)
            for sums in (ledger["totals"], *ledger["by_leg"].values()):
                assert min(sums.values()) >= 0, (order_id, sums)
                assert sums["paid_fen"] == sums["refunded_fen"] + sums["earned_fen"] + sums["held_fen"]

    def teardown(self) -> None:
        """Then the storm is over: everybody answers, everything is told, every deadline passes, people retry."""
        world = self.world
        for faults in (world.provider.faults, world.insurer.faults):
            faults.before = faults.after = 0
        world.insurer.refusal = world.provider.refusal = ""
        for context in sorted(world.held):
            world.let_go(context)
        world.provider.fate = "succeeded"
        world.run_jobs()
        for order_id, trade in world.provider.trades.items():
            if "paid_at" in trade:
                world.notice_of_payment(order_id)
        world.advance(days=4)
        world.run_until_quiet(rounds=200)
        for refund_id in world.views.stuck():
            world.retry(refund_id.removeprefix("rf-"))
        world.run_until_quiet()
        world.advance(days=2)
        world.run_until_quiet(rounds=200)
        self.every_fen_is_somewhere()
        self.every_statement_was_compared()
        self.nothing_happens_twice()
        self.all_books_agree()
        self.what_should_go_back_is_back()

    def every_statement_was_compared(self) -> None:
        """What a day's statement showed otherwise was only not settled or not told yet, and nobody is needed for it;
        unless the provider gave back what people had already paid by hand."""
        twice = {number for number, refund in self.by_hand() if refund["state"] == "succeeded"}
        assert {number for _, _, number, state in self.world.differences() if state != "cured"} <= twice

    def ended_by_people(self) -> dict[str, int]:
        """Fen by order."""
        orders = ("fee-v1", "fee-v2", "rx-p1")
        legs = {order_id: self.world.handlers.refund(f"rf-{order_id}").legs for order_id in orders}
        return {id_: leg.amount_fen for id_, of in legs.items() for leg in of if leg.status == "resolved"}

    def by_hand(self) -> list[tuple[str, dict[str, Any]]]:
        """The provider's refunds whose leg people have ended."""
        found = []
        for number, refund in self.world.provider.refunds.items():
            leg = self.world.handlers.refund(refund_of_number(number)).leg("cash")
            if leg.status == "resolved" and number == refund_number(refund_of_number(number), leg.number):
                found.append((number, refund))
        return found

    def all_books_agree(self) -> None:
        world, by_leg = self.world, self.world.views.ledger()["by_leg"]
        trades = [trade for trade in world.provider.trades.values() if "paid_at" in trade]
        assert by_leg["cash"]["paid_fen"] == sum(trade["amount"] for trade in trades)
        back = [refund for refund in world.provider.refunds.values() if refund["state"] == "succeeded"]
        by_hand = self.ended_by_people()
        other = [refund for refund in back if refund["order"] not in by_hand]
        assert by_leg["cash"]["refunded_fen"] == sum(refund["amount"] for refund in other) + sum(by_hand.values())
        for leg in ("fund", "account"):
            claimed = {id_: getattr(split, f"{leg}_fen") for id_, split in world.insurer.settled.items()}
            assert by_leg[leg]["paid_fen"] == sum(claimed.values())
            assert by_leg[leg]["refunded_fen"] == sum(claimed[id_] for id_ in world.insurer.reversed)

    def what_should_go_back_is_back(self) -> None:
        for due in (envelope for envelope in self.world.derived if envelope.name == "RefundDue"):
            order_id = due.data["order_id"]
            assert self.world.refund_state(order_id) == "succeeded"
            by_leg = self.world.views.ledger(order_id)["by_leg"]
            assert {leg: by_leg[leg]["refunded_fen"] for leg in LEGS} == {leg: by_leg[leg]["paid_fen"] for leg in LEGS}
        for order_id in ("fee-v1", "fee-v2", "rx-p1"):
            order = self.world.handlers.order(order_id)
            late = order.captured is not None and order.captured.late
            assert not late or self.world.refund_state(order_id) == "succeeded"


TestMoney = Money.TestCase
TestMoney.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
