"""A parcel whose courier tells late, twice and in any order (§21)."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from services.pharmacy.domain.parcel import Report, evolve, give_up, hand_over, note
from tests.unit.pharmacy.given import (
    SIGNED_AT,
    came_back,
    delivered,
    handed_over,
    moved,
    opened,
    outcome,
    parcel,
)

ROAD = [opened, handed_over]


def report(status: str, minutes: int, tracking_no: str = "FZ1") -> Report:
    return Report(tracking_no, status, SIGNED_AT + timedelta(minutes=minutes), 1200 if status == "delivered" else 0)


@pytest.mark.parametrize(
    ("what", "given", "told", "then"),
    [
        ("a step", ROAD, report("collected", 5), ["ParcelMoved"]),
        ("the same step again", [*ROAD, moved("collected", 5)], report("collected", 5), []),
        ("an earlier step later", [*ROAD, moved("in_transit", 9)], report("collected", 5), ["ParcelMoved"]),
        ("the same place another time", [*ROAD, moved("in_transit", 9)], report("in_transit", 20), ["ParcelMoved"]),
        ("the door", ROAD, report("delivered", 60), ["ParcelDelivered"]),
        ("the door again", [*ROAD, delivered], report("delivered", 60), []),
        ("a step after the door", [*ROAD, delivered], report("out_for_delivery", 50), []),
        ("refused at the door", ROAD, report("refused", 60), ["ParcelMoved"]),
        ("back again", [*ROAD, moved("refused", 60)], report("returned", 90), ["ParcelReturned"]),
        ("the door after it came back", [*ROAD, came_back], report("delivered", 99), []),
        ("its own acceptance", ROAD, report("accepted", 0), []),
        ("faster than our own record", [opened], report("collected", 5), "not_handed_over"),
        ("another parcel's number", ROAD, report("collected", 5, "FZ2"), "not_found"),
        ("no parcel at all", [], report("collected", 5), "not_found"),
    ],
)  # fmt: skip
def test_reports(what: str, given: list[object], told: Report, then: list[str] | str) -> None:
    assert outcome(lambda: note(parcel(*given), told)) == then, what


def test_in_any_order_and_twice_it_ends_at_the_door_with_the_couriers_fee() -> None:
    told = [report("collected", 5), report("in_transit", 30), report("out_for_delivery", 60), report("delivered", 90)]
    for order in itertools.permutations(told):
        state = parcel(opened, handed_over)
        for each in [*order, *order]:
            for event in note(state, each):
                state = evolve(state, event)
        assert state.state == "delivered"
        assert state.delivered is not None
        assert state.delivered.courier_fee_fen == 1200


def test_where_it_is_follows_the_couriers_clock_not_the_mail() -> None:
    assert parcel(opened, handed_over, moved("in_transit", 30), moved("collected", 5)).state == "in_transit"


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ([opened], ["ParcelHandedOver"]),
        (ROAD, []),
        ([opened, came_back], []),
        ([], "not_found"),
    ],
)
def test_handing_over_happens_once(given: list[object], then: list[str] | str) -> None:
    assert outcome(lambda: hand_over(parcel(*given), "FZ1")) == then


@pytest.mark.parametrize(
    ("given", "then"),
    [([opened], ["ParcelReturned"]), (ROAD, []), ([opened, came_back], []), ([], "not_found")],
)
def test_what_the_courier_does_not_take(given: list[object], then: list[str] | str) -> None:
    assert outcome(lambda: give_up(parcel(*given))) == then
