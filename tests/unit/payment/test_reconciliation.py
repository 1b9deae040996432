"""The daily comparison with both statements (§16): what differs, what cures itself, and what people are asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from eventkit.store import Answer, Request
from partners.wechatpay.bill import day_bill
from services.payment.domain.reconciliation import Report, ResolveDifference, compare, cure_of
from services.payment.events import DifferenceFound, Movement, Refusal
from services.payment.read_model import difference_view
from services.payment.wechatpay import movements_of, trade_number
from tests.unit.payment.given import FEE
from tests.unit.payment.world import World

PAID = Movement("wechatpay", "payment", "cash", "fee-v1", 1000, "done", "fee-v1")
CLAIMED = Movement("insurer", "payment", "fund", "fee-v1", 4000, "done", "fee-v1")
BACK = Movement("wechatpay", "refund", "cash", "rf-fee-v1", 1000, "done", "fee-v1")
SENT = replace(BACK, state="pending")
FAILED = replace(BACK, state="failed")
BY_HAND = replace(BACK, state="by_hand")
FOREIGN = Movement("wechatpay", "payment", "cash", "4200001", 700, "done")

COMPARED: list[tuple[str, list[Movement], list[Movement], list[str]]] = [
    ("nothing moved", [], [], []),
    ("the same on both sides", [PAID, CLAIMED, BACK], [PAID, CLAIMED, BACK], []),
    ("ours alone", [PAID], [], ["only_ours"]),
    ("theirs alone", [], [PAID], ["only_theirs"]),
    ("a trade of somebody else", [], [FOREIGN], ["only_theirs"]),
    ("one fen", [PAID], [replace(PAID, amount_fen=1001)], ["amount_differs"]),
    ("the fund's part alone differs", [PAID, CLAIMED], [PAID, replace(CLAIMED, amount_fen=3999)], ["amount_differs"]),
    ("on its way on both sides", [SENT], [SENT], []),
    ("back, and we wait", [SENT], [BACK], ["state_differs"]),
    ("back, and we gave up", [FAILED], [BACK], ["state_differs"]),
    ("we say back, they do not yet", [BACK], [SENT], ["state_differs"]),
    ("we say back, it failed", [BACK], [FAILED], ["state_differs"]),
    ("failed on both sides", [FAILED], [FAILED], []),
    ("not heard of it yet", [SENT], [], []),
    ("ended unpaid, asked again under another number", [replace(BACK, number="rf-fee-v1@2")],
     [FAILED, replace(BACK, number="rf-fee-v1@2")], []),
    ("a refund that we never asked for, on its way", [], [SENT], ["only_theirs"]),
    ("paid by hand", [BY_HAND], [FAILED], []),
    ("paid by hand, and by the provider as well", [BY_HAND], [BACK], ["state_differs"]),
    ("two at once", [PAID], [CLAIMED], ["only_theirs", "only_ours"]),
]


@pytest.mark.parametrize(("ours", "theirs", "then"), [row[1:] for row in COMPARED], ids=[row[0] for row in COMPARED])
def test_compare(ours: list[Movement], theirs: list[Movement], then: list[str]) -> None:
    assert [difference.kind for difference in compare(ours, theirs)] == then


def found(kind: str, what: str = "payment", leg: str = "cash", order_id: str = FEE, **more: Any) -> DifferenceFound:
    return DifferenceFound(
        day="2026-11-24", difference_id="x", kind=kind, party="wechatpay", what=what, leg=leg,  # type: ignore[arg-type]
        number="n", order_id=order_id, **more,
    )


CURES: list[tuple[DifferenceFound, str]] = [
    (found("only_theirs"), "record_payment"),
    (found("only_theirs", leg="fund"), "record_settlement"),
    (found("only_theirs", order_id=""), "person"),
    (found("only_theirs", "refund"), "person"),
    (found("only_ours"), "ask_again"),
    (found("only_ours", "refund"), "ask_again"),
    (found("amount_differs"), "person"),
    (found("state_differs", "refund", theirs_state="done", ours_state="pending"), "record_refund"),
    (found("state_differs", "refund", theirs_state="done", ours_state="failed"), "record_refund"),
    (found("state_differs", "refund", theirs_state="done", ours_state="by_hand"), "person"),
    (found("state_differs", "refund", theirs_state="pending", ours_state="done"), "ask_again"),
    (found("state_differs", "refund", theirs_state="failed", ours_state="done"), "ask_again"),
]


@pytest.mark.parametrize(("difference", "cure"), CURES)
def test_each_kind_has_a_cure(difference: DifferenceFound, cure: str) -> None:
    assert cure_of(difference) == cure


def test_the_provider_s_bill_is_read_as_it_is_written() -> None:
    """The sandbox writes it as WeChat Pay does; days are Shanghai's."""
    own = {
        "out_trade_no": trade_number("fee-v1"), "attach": "fee-v1", "transaction_id": "42001", "openid": "o1",
        "trade_type": "JSAPI", "description": "互联网复诊, 医事服务费", "total": 1000,
        "paid_at": "2026-11-24T15:59:59.999999Z",
    }
    other = own | {"out_trade_no": "canteen-7", "attach": None, "paid_at": "2026-11-23T16:00:00.000000Z", "total": 1}
    forged = own | {"out_trade_no": "forged-8", "attach": "fee-v1", "paid_at": "2026-11-24T01:00:00Z", "total": 5}
    next_day = own | {"out_trade_no": "x", "paid_at": "2026-11-24T16:00:00.000000Z"}
    refund = {
        "out_trade_no": own["out_trade_no"], "refund_id": "50001", "out_refund_no": "rf-fee-v1", "amount": 1000,
        "created_at": "2026-11-24T02:00:00Z",
    }
    states = ("SUCCESS", "PROCESSING", "ABNORMAL")
    refunds = [refund | {"status": state, "out_refund_no": f"rf-{state}"} for state in states]
    keys: Any = SimpleNamespace(appid="wx1", mchid="1900")
    bill = day_bill(date(2026, 11, 24), [own, other, forged, next_day], refunds, keys).decode("utf-8-sig")
    assert list(movements_of(bill)) == [
        PAID,
        Movement("wechatpay", "payment", "cash", "canteen-7", 1, "done"),
        Movement("wechatpay", "payment", "cash", "forged-8", 5, "done"),
        replace(BACK, number="rf-SUCCESS"),
        replace(SENT, number="rf-PROCESSING"),
        replace(FAILED, number="rf-ABNORMAL"),
    ]
    assert list(movements_of(day_bill(date(2026, 11, 1), [own], [], keys).decode("utf-8-sig"))) == []


# --- the service, day by day. The world begins on 24 November, 09:00 in Shanghai.


@pytest.fixture
def world() -> World:
    return World()


def at(world: World, *instant: int) -> None:
    """Move to this instant of November 2026, Shanghai's wall clock."""
    world.clock.instant = datetime(2026, 11, *instant, tzinfo=UTC) - timedelta(hours=8)


def days(world: World) -> list[str]:
    return [row["day"] for row in world.views.reconciliations()]


def test_a_day_is_compared_once_its_statements_are_there_and_makes_the_next_one_due(world: World) -> None:
    """10:15 of the next day; after an outage each missed day has its turn, once."""
    fee = world.visit()
    world.pay(fee)
    at(world, 25, 10, 14, 59)
    world.run_until_quiet()
    assert days(world) == []
    at(world, 25, 10, 15)
    world.run_until_quiet()
    assert days(world) == ["2026-11-24"]
    at(world, 29, 12)
    world.run_until_quiet()
    world.handlers.begin_reconciling()
    world.run_until_quiet()
    assert days(world) == [f"2026-11-{day}" for day in (28, 27, 26, 25, 24)]
    [summary] = world.views.reconciliations("2026-11-24")
    assert (summary["agreed"], summary["open"], world.differences()) == (2, 0, [])
    assert summary["stated"] == [
        {"party": "insurer", "what": "payment", "lines": 1, "amount_fen": 4000},
        {"party": "wechatpay", "what": "payment", "lines": 1, "amount_fen": 1000},
    ]


def test_a_statement_that_is_late_or_silent_is_waited_for(world: World) -> None:
    world.pay(world.visit())
    at(world, 25, 10, 15)
    world.insurer.faults.before = 1
    assert world.run_jobs() == 1
    assert days(world) == []
    world.run_until_quiet()
    assert (days(world), world.differences()) == (["2026-11-24"], [])


def test_a_day_without_a_trade_has_no_statement(world: World) -> None:
    """The provider makes none then: four hours after its hour the day counts as empty."""
    world.provider.statement = lambda day: None  # type: ignore[method-assign, assignment]
    at(world, 25, 14, 14, 59)
    assert world.run_jobs() == 1
    at(world, 25, 14, 15)
    world.run_until_quiet()
    assert days(world) == ["2026-11-24"]


def test_a_payment_that_nobody_told_is_found_in_the_statement(world: World) -> None:
    """§16: only theirs. The notice is lost and no job looks any more; recorded by asking, and late money goes back."""
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.advance(minutes=15)
    world.run_until_quiet()
    world.done |= {f"last_look:{fee}"}
    world.settle_down()
    world.provider.pay(fee, late=True)
    at(world, 25, 11)
    world.run_until_quiet()
    assert world.differences() == [("2026-11-24", "only_theirs", fee, "cured")]
    assert world.totals() == (1000, 1000, 0, 0)
    at(world, 26, 11)
    world.run_until_quiet()
    assert len(world.differences()) == 1


def test_a_settlement_whose_answer_is_still_missing_is_recorded(world: World) -> None:
    """Only theirs, the fund's part: the insurer has settled and never answered."""
    world.insurer.account_fen = 300
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.provider.pay(fee)
    world.insurer.faults.after = 1
    world.notice_of_payment(fee)
    world.run_jobs()
    world.done |= {f"settle_insurance:{fee}"}
    at(world, 25, 11)
    world.run_until_quiet()
    assert {each[1:] for each in world.differences()} == {("only_theirs", fee, "cured")}
    assert (len(world.differences()), world.state(fee), world.totals()) == (2, "paid", (5000, 0, 0, 5000))


def test_a_refund_that_came_back_while_we_wait_is_recorded(world: World) -> None:
    """State differs, theirs is done."""
    fee = world.visit()
    world.pay(fee)
    world.withdraw()
    world.run_jobs()
    world.done |= {f"refund_cash:rf-{fee}:0"}
    world.provider.settle_refunds()
    at(world, 25, 11)
    world.run_until_quiet()
    assert world.differences() == [("2026-11-24", "state_differs", f"rf-{fee}", "cured")]
    assert (world.refund_state(fee), world.totals()) == ("succeeded", (5000, 5000, 0, 0))


def test_a_reversal_that_was_never_answered_is_recorded(world: World) -> None:
    fee = world.visit()
    world.pay(fee)
    world.insurer.faults.after = 1
    world.withdraw()
    world.run_jobs()
    world.done |= {f"refund_insurance:rf-{fee}:0"}
    at(world, 25, 11)
    world.run_until_quiet()
    assert world.differences() == [("2026-11-24", "state_differs", f"rf-{fee}", "cured")]
    assert world.totals() == (5000, 5000, 0, 0)


def test_what_their_statement_forgot_is_asked_for(world: World) -> None:
    """Only ours: when they confirm it, the statement was wrong and nothing is."""
    fee = world.visit()
    world.pay(fee)
    world.provider.misprint = lambda lines: []
    world.insurer.misprint = lambda lines: []
    at(world, 25, 11)
    world.run_until_quiet()
    assert [each[1:] for each in world.differences()] == [("only_ours", fee, "cured")] * 2


@pytest.mark.parametrize(
    ("misprint", "kind"),
    [
        (lambda lines: [replace(line, amount_fen=line.amount_fen + 1) for line in lines], "amount_differs"),
        (lambda lines: [*lines, FOREIGN], "only_theirs"),
        (lambda lines: [*lines, replace(SENT, number="rf-rx-none", order_id="rx-none")], "only_theirs"),
    ],
)
def test_what_no_question_cures_waits_for_a_cashier(
    world: World, misprint: Callable[[list[Movement]], list[Movement]], kind: str
) -> None:
    world.pay(world.visit())
    world.provider.misprint = misprint
    at(world, 25, 11)
    world.run_until_quiet()
    [(day, of_kind, _, state)] = world.differences()
    assert (day, of_kind, state) == ("2026-11-24", kind, "open")
    [(id_, followed)] = world.handlers.report(day).differences.items()
    shown = difference_view(followed)
    assert (shown["cure"], bool(shown["next"]), bool(shown["next_en"])) == ("person", True, True)
    command = ResolveDifference(id_, "cashier1", "their clerk corrected it")

    def resolve(key: str) -> Answer:
        view: Callable[[Report], Answer] = lambda report: Answer(200, difference_view(report.difference(id_)))  # noqa: E731
        return world.handlers.resolve_difference(Request("cashier1", "resolve", key), day, command, view)

    answer = resolve("k1")
    assert (answer.body["state"], answer.body["cashier"], "next" in answer.body) == ("resolved", "cashier1", False)
    assert resolve("k1") == answer
    with pytest.raises(Refusal, match="already_resolved"):
        resolve("k2")
    world.settle_down()
    assert [row["resolved"] for row in world.views.reconciliations(day)] == [1]


def test_a_missing_trade_that_they_deny_stays_open(world: World) -> None:
    """Only ours, and asked they know nothing of it: people, not we, find out where the money is."""
    fee = world.visit()
    world.pay(fee)
    del world.provider.trades[fee]
    at(world, 25, 11)
    world.run_until_quiet()
    assert world.differences() == [("2026-11-24", "only_ours", fee, "open")]


def test_midnight_between_two_clocks(world: World) -> None:
    """Our insurer settled at 23:59:58 by its clock and we heard at 00:00:03 (and the other way round): no alarm."""
    at(world, 24, 23, 59, 50)
    early, late = world.visit("v1"), world.visit("v2")
    world.run_until_quiet()
    for fee in (early, late):
        world.prepay(fee)
        world.provider.pay(fee)
    world.insurer.faults.after = 1
    world.notice_of_payment(early)
    world.run_jobs()
    at(world, 25, 0, 0, 3)
    world.notice_of_payment(late)
    world.run_until_quiet()
    world.insurer.at["s-d-fee-v2"] = world.clock.now() - timedelta(minutes=5)
    at(world, 27, 11)
    world.run_until_quiet()
    assert (days(world)[-2:], world.differences()) == (["2026-11-25", "2026-11-24"], [])


def test_ours_a_little_before_midnight_theirs_after(world: World) -> None:
    """Their clock is five minutes ahead: what we booked at 23:58 stands in their next statement."""
    at(world, 24, 23, 57)
    fee = world.visit()
    world.pay(fee)
    world.insurer.at[f"s-d-{fee}"] = world.clock.now() + timedelta(minutes=5)
    at(world, 27, 11)
    world.run_until_quiet()
    assert world.differences() == []


def test_a_refund_asked_for_days_before_it_succeeded_is_proven_by_asking(world: World) -> None:
    """They state it on the day it was asked for, then still on its way, and never again."""
    fee = world.visit()
    world.pay(fee)
    world.withdraw()
    world.run_jobs()
    at(world, 27, 9)
    world.run_jobs()
    assert world.refund_state(fee) == "requested"
    world.run_until_quiet()
    at(world, 29, 11)
    world.run_until_quiet()
    assert (world.refund_state(fee), world.differences()) == (
        "succeeded", [("2026-11-27", "state_differs", f"rf-{fee}", "cured")]
    )


def test_a_report_can_be_made_again_after_a_kill(world: World) -> None:
    """Killed after the statement was kept and before the report was written: the same ids, once."""
    world.pay(world.visit())
    world.provider.misprint = lambda lines: [*lines, FOREIGN]
    at(world, 25, 11)
    world.run_until_quiet()
    before = world.handlers.report("2026-11-24")
    world.done -= {"reconcile:2026-11-24"}
    world.run_until_quiet()
    assert world.handlers.report("2026-11-24") == before
