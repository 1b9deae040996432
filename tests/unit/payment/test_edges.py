"""Edges in time and in insurance: the last millisecond of the hold and of the three days, clocks that differ, each kind
of card, each refusal of the insurer, and answers that never came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventkit.calls import Unanswered
from eventkit.clock import FixedClock
from partners.front import Refused
from partners.insurer.fund import SCHEMA, Fund
from partners.kit import Books
from tests.unit.payment.given import NOW
from tests.unit.payment.world import FEE_FEN, World

MS = timedelta(milliseconds=1)
HOLD = timedelta(minutes=15)
THREE_DAYS = timedelta(days=3)
FIVE = timedelta(minutes=5)


@pytest.fixture
def world() -> World:
    return World()


def at(world: World, after: timedelta) -> None:
    world.clock.instant = NOW + after


# --- §10, §23: the last millisecond


@pytest.mark.parametrize(("kind", "lives"), [("fee", HOLD), ("drugs", THREE_DAYS)])
def test_paying_begins_in_the_last_millisecond_and_not_at_the_end(world: World, kind: str, lives: timedelta) -> None:
    """§10, §23"""
    order_id = world.visit() if kind == "fee" else world.prescription()
    world.run_until_quiet()
    at(world, lives - MS)
    assert world.prepay(order_id).body["prepay_id"]
    at(world, lives)
    world.refused("payment_expired", world.prepay, order_id)


@pytest.mark.parametrize(("kind", "lives"), [("fee", HOLD), ("drugs", THREE_DAYS)])
def test_money_of_the_last_millisecond_is_in_time(world: World, kind: str, lives: timedelta) -> None:
    """§10, §23: and nobody told of it before the end."""
    order_id = world.visit() if kind == "fee" else world.prescription()
    world.run_until_quiet()
    world.prepay(order_id)
    at(world, lives - MS)
    assert world.provider.pay(order_id)
    at(world, lives)
    world.run_until_quiet()
    assert (world.state(order_id), "PaymentExpired" in world.events(order_id)) == ("paid", False)


@pytest.mark.parametrize(("kind", "lives"), [("fee", HOLD), ("drugs", THREE_DAYS)])
def test_unpaid_it_ends_at_the_end_and_not_a_millisecond_before(world: World, kind: str, lives: timedelta) -> None:
    """§10, §23: exactly three days from signing."""
    order_id = world.visit() if kind == "fee" else world.prescription()
    world.run_until_quiet()
    world.prepay(order_id)
    at(world, lives - MS)
    world.run_jobs()
    assert world.state(order_id) == "awaiting_payment"
    at(world, lives)
    world.run_until_quiet()
    assert world.state(order_id) == "expired"
    assert not world.provider.pay(order_id)


@pytest.mark.parametrize(("after", "state"), [(THREE_DAYS - MS, "settled_offline"), (THREE_DAYS, "expired")])
def test_the_desk_has_exactly_three_days(world: World, after: timedelta, state: str) -> None:
    """§22, §23: its report may come late; what counts is when it settled."""
    rx = world.prescription()
    at(world, THREE_DAYS)
    world.run_until_quiet()
    assert world.state(rx) == "expired"
    world.desk_settles(clock_ahead=after - THREE_DAYS)
    assert world.state(rx) == state
    assert bool(world.views.documents["disputes"]) == (state == "expired")


# --- clocks of two services


@pytest.mark.parametrize("ahead", [-FIVE, FIVE])
def test_the_hold_ends_once_whatever_registration_s_clock_says(world: World, ahead: timedelta) -> None:
    """§10: payment is the authority. `hold_until` is registration's; payment keeps it by its own clock, so five minutes
    between them shorten or lengthen the hold, and never sell nor lose anything."""
    fee = world.visit(clock_ahead=ahead)
    world.run_until_quiet()
    world.prepay(fee)
    at(world, HOLD + ahead - MS)
    world.run_jobs()
    assert world.state(fee) == "awaiting_payment"
    at(world, HOLD + ahead)
    world.run_until_quiet()
    assert world.events(fee) == ["PaymentRequested", "PaymentExpired"]
    world.lapse()
    world.run_until_quiet()
    assert world.events(fee) == ["PaymentRequested", "PaymentExpired"]


def test_registration_gave_up_first_and_the_money_is_there(world: World) -> None:
    """§16: its clock is so far ahead that its own backstop came first. Paid in time by ours, and refunded."""
    fee = world.visit()
    world.pay(fee)
    world.lapse()
    world.run_until_quiet()
    assert [e.data["reason"] for e in world.derived if e.name == "RefundDue"] == ["lapsed"]
    assert world.totals() == (FEE_FEN, FEE_FEN, 0, 0)


def test_a_hold_that_is_over_when_it_is_heard_of(world: World) -> None:
    """§10: payment was down. Nobody can pay, and registration is told."""
    fee = world.visit(clock_ahead=-timedelta(minutes=20))
    world.run_until_quiet()
    assert (world.state(fee), world.provider.trades) == ("expired", {})
    world.refused("payment_expired", world.prepay, fee)


def test_the_desk_s_clock_is_ahead_of_ours(world: World) -> None:
    """§23: by its clock the three days were just over. Until PaymentExpired stands, a settlement counts."""
    rx = world.prescription()
    at(world, THREE_DAYS - MS)
    world.desk_settles(clock_ahead=FIVE)
    at(world, THREE_DAYS)
    world.run_until_quiet()
    assert (world.state(rx), world.events(rx)) == ("settled_offline", ["PaymentRequested", "OrderSettledOffline"])


# --- §5 at payment


def test_eligibility_is_asked_at_each_new_prepay_and_not_at_a_retry(world: World) -> None:
    """§5: a retry of the same command is the same question, with the same key."""
    fee = world.visit()
    world.run_until_quiet()
    world.provider.faults.before = 1
    with pytest.raises(Unanswered):
        world.prepay(fee, key="k1")
    world.prepay(fee, key="k1")
    world.prepay(fee, key="k2")
    keys = [key for _, key in world.registration.asked]
    assert (len(keys), keys[0] == keys[1], keys[1] == keys[2]) == (3, True, False)
    world.prepay(fee, key="k2")
    assert len(world.registration.asked) == 3


def test_a_refusal_at_payment_leaves_the_hold_as_it_is(world: World) -> None:
    """§5: nothing is half done; who becomes eligible again may pay until the hold ends."""
    fee = world.visit()
    world.run_until_quiet()
    world.registration.refusal = (422, "not_eligible")
    world.refused("not_eligible", world.prepay, fee)
    assert (world.state(fee), world.provider.trades) == ("awaiting_payment", {})
    world.registration.refusal = None
    world.pay(fee)
    assert world.state(fee) == "paid"


# --- §12-§14: kinds of card, refusals, splits


@pytest.mark.parametrize(
    ("card_kind", "fund", "cash"),
    [("beijing_insured", 4000, 1000), ("other_insured", 0, 5000), ("uninsured", 0, 5000)],
)
def test_the_fee_by_kind_of_card(world: World, card_kind: str, fund: int, cash: int) -> None:
    """§13, §14"""
    world.pay(world.visit(card_kind=card_kind))
    by_leg = world.views.ledger()["by_leg"]
    assert (by_leg["fund"]["paid_fen"], by_leg["cash"]["paid_fen"]) == (fund, cash)
    assert bool(world.insurer.splits) == (card_kind == "beijing_insured")


@pytest.mark.parametrize("code", ["card_invalid", "not_designated", "not_covered"])
def test_each_refusal_of_the_insurer_makes_it_self_pay(world: World, code: str) -> None:
    """§14: asked once; a visit is not lost for it, and nothing is claimed or reversed."""
    world.insurer.refusal = code
    fee = world.visit()
    world.pay(fee)
    world.withdraw()
    world.run_until_quiet()
    assert (world.totals(), world.insurer.settled, world.insurer.reversed) == ((5000, 5000, 0, 0), {}, {})


@pytest.mark.parametrize(
    ("fund", "account", "legs"),
    [
        (0, 0, {"cash": 5000}),
        (4000, 999, {"fund": 4000, "account": 999, "cash": 1}),
        (4000, 1000, {"fund": 4000, "account": 1000}),
        (5000, 0, {"fund": 5000}),
        (0, 5000, {"account": 5000}),
    ],
)
def test_a_split_at_its_edges_is_paid_and_goes_back_leg_by_leg(
    world: World, fund: int, account: int, legs: dict[str, int]
) -> None:
    """§12, §16"""
    world.insurer.fund_fen, world.insurer.account_fen = fund, account
    fee = world.visit()
    world.pay(fee)
    assert {leg.leg: leg.amount_fen for leg in world.handlers.order(fee).legs} == legs
    world.run_until_quiet()
    assert world.state(fee) == "paid"
    world.withdraw()
    world.run_until_quiet()
    by_leg = world.views.ledger()["by_leg"]
    assert {leg: sums["refunded_fen"] for leg, sums in by_leg.items() if sums["refunded_fen"]} == legs


def test_an_unknown_settlement_is_asked_for_before_it_is_made_again(world: World) -> None:
    """§13: settled, never answered, and by now the insurer would refuse: what it did is what counts."""
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.provider.pay(fee)
    world.insurer.faults.after = 1
    world.notice_of_payment(fee)
    assert world.run_jobs() == 1
    world.insurer.settle = pytest.fail  # type: ignore[method-assign, assignment]
    world.run_until_quiet()
    assert (world.state(fee), world.totals()) == ("paid", (5000, 0, 0, 5000))


def test_an_unknown_settlement_that_never_happened_is_made(world: World) -> None:
    fee = world.visit()
    world.run_until_quiet()
    world.prepay(fee)
    world.provider.pay(fee)
    world.insurer.faults.before = 2
    world.notice_of_payment(fee)
    world.run_until_quiet()
    assert (world.state(fee), len(world.insurer.settled)) == ("paid", 1)


def test_an_unknown_reversal_is_asked_for_before_it_is_made_again(world: World) -> None:
    """§16"""
    fee = world.visit()
    world.pay(fee)
    world.insurer.faults.after = 1
    world.withdraw()
    world.run_jobs()
    world.insurer.reverse = pytest.fail  # type: ignore[method-assign, assignment]
    world.run_until_quiet()
    assert world.totals() == (5000, 5000, 0, 0)


# --- the insurer sandbox's dated rule


def fund_at(tmp_path: Path, instant: datetime) -> Fund:
    return Fund(Books(tmp_path / "insurer.db", SCHEMA), FixedClock(instant))


def fee_of(**more: object) -> dict[str, object]:
    return {
        "card_id": "c1", "card_kind": "beijing_insured", "item": "medical_service_fee", "title": "ordinary",
        "amount_fen": 5000, "hospital_code": "H1100001", **more,
    }


def test_the_fund_s_rule_begins_with_its_shanghai_day(tmp_path: Path) -> None:
    """§12: valid from 8 April 2017, 00:00 in Shanghai."""
    begins = datetime(2017, 4, 7, 16, tzinfo=UTC)
    with pytest.raises(Refused) as refused:
        fund_at(tmp_path, begins - MS).decompose("t1", "x", fee_of())
    assert refused.value.code == "not_covered"
    split = fund_at(tmp_path, begins).decompose("t1", "x", fee_of())
    assert (split["fund_fen"], split["self_fen"], split["rule"]) == (4000, 1000, "2017-04-08/ordinary")


@pytest.mark.parametrize(
    ("fee", "account", "parts"),
    [
        (fee_of(), 0, (4000, 0, 1000)),
        (fee_of(), 999, (4000, 999, 1)),
        (fee_of(), 1000, (4000, 1000, 0)),
        (fee_of(), 9000, (4000, 1000, 0)),
        (fee_of(title="chief", amount_fen=8000), 0, (4000, 0, 4000)),
        (fee_of(title="unheard_of"), 0, (4000, 0, 1000)),
        (fee_of(amount_fen=4000), 500, (4000, 0, 0)),
        (fee_of(amount_fen=3999), 500, (3999, 0, 0)),
        (fee_of(amount_fen=1), 0, (1, 0, 0)),
    ],
)
def test_the_fund_pays_its_part_and_never_more_than_the_fee(
    tmp_path: Path, fee: dict[str, object], account: int, parts: tuple[int, int, int]
) -> None:
    """§12"""
    fund = fund_at(tmp_path, NOW)
    fund.set_card("c1", "valid", account)
    split = fund.decompose("t1", "x", fee)
    assert (split["fund_fen"], split["account_fen"], split["self_fen"]) == parts


@pytest.mark.parametrize(
    ("state", "fee", "code"),
    [
        ("invalid", fee_of(), "card_invalid"),
        ("not_designated", fee_of(), "not_designated"),
        ("valid", fee_of(card_kind="other_insured"), "not_covered"),
        ("valid", fee_of(card_kind="uninsured"), "not_covered"),
        ("valid", fee_of(item="drug"), "not_covered"),
    ],
)
def test_what_the_insurer_refuses(tmp_path: Path, state: str, fee: dict[str, object], code: str) -> None:
    """§13, §14"""
    fund = fund_at(tmp_path, NOW)
    fund.set_card("c1", state, 0)
    with pytest.raises(Refused) as refused:
        fund.decompose("t1", "x", fee)
    assert refused.value.code == code


def test_the_insurer_s_statement_of_a_day(tmp_path: Path) -> None:
    """§16: by Shanghai days, from six in the next morning."""
    begins = datetime(2026, 11, 23, 16, tzinfo=UTC)  # 24 November, 00:00 in Shanghai
    day = begins.date() + timedelta(days=1)
    numbers = {}
    for name, instant in (("eve", begins - MS), ("first", begins), ("last", begins + timedelta(days=1) - MS)):
        fund = fund_at(tmp_path, instant)
        split = fund.decompose(name, "x", fee_of())
        numbers[name] = fund.settle(split["decomposition_id"])["settlement_id"]
    fund_at(tmp_path, begins + timedelta(hours=1)).reverse("rf-eve", numbers["eve"])
    fund_at(tmp_path, begins + timedelta(days=1)).reverse("rf-first", numbers["first"])
    ready = begins + timedelta(days=1, hours=6)
    with pytest.raises(Refused) as refused:
        fund_at(tmp_path, ready - MS).statement(day)
    assert refused.value.code == "statement_not_ready"
    found = fund_at(tmp_path, ready).statement(day)
    assert [row["trade_no"] for row in found["settlements"]] == ["first", "last"]
    assert [row["reversal_no"] for row in found["reversals"]] == ["rf-eve"]
    assert found["totals"] == {
        "claimed_fund_fen": 8000, "claimed_account_fen": 0, "reversed_fund_fen": 4000, "reversed_account_fen": 0
    }
