"""A parcel that comes back (§21): brought again, or fetched; one of the two, and nothing is paid or dispensed twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.pharmacy.courier import NotTaken
from services.pharmacy.domain.parcel import Report
from services.pharmacy.domain.prescription import ChooseDelivery, choose_delivery, collect, take_back
from services.pharmacy.events import ParcelCameBack, RedeliveryBegun, Refusal, ReturnCollected
from tests.unit.pharmacy.given import (
    ACCOUNT,
    PHARMACIST,
    RX,
    VALID_UNTIL,
    at_desk,
    by_courier,
    chosen,
    dispatching,
    issued,
    outcome,
    paid,
    prescription,
    signed,
)
from tests.unit.pharmacy.test_http import ADDRESS, PATIENT, get, post
from tests.unit.pharmacy.world import SIGNED_AT, Stage, World

SENT = (signed, issued, chosen, paid, dispatching, by_courier)
NEVER_LEFT = SENT[:-1]
BACK = ParcelCameBack(RX, RX)
AGAIN = RedeliveryBegun(RX, f"{RX}-2", "anda", "ad2")
BACK_AGAIN = ParcelCameBack(RX, f"{RX}-2")
FETCHED = ReturnCollected(RX, PHARMACIST)


@pytest.mark.parametrize(
    ("rule", "before", "brought", "fetched"),
    [
        ("§21 still under way", SENT, "already_dispensed", "not_returned_by_courier"),
        ("§21 the courier is being asked", NEVER_LEFT, "already_dispatched", "not_returned_by_courier"),
        ("§21 came back", (*SENT, BACK), ["AddressGiven", "RedeliveryBegun"], ["ReturnCollected"]),
        (
            "§21 never left", (*NEVER_LEFT, BACK), ["AddressGiven", "RedeliveryBegun"],
            ["ReturnCollected", "PrescriptionDispensed"],
        ),
        ("§21 brought again", (*SENT, BACK, AGAIN), "already_dispensed", "not_returned_by_courier"),
        (
            "§21 came back twice", (*SENT, BACK, AGAIN, BACK_AGAIN), ["AddressGiven", "RedeliveryBegun"],
            ["ReturnCollected"],
        ),
        ("§21 fetched already", (*SENT, BACK, FETCHED), "already_dispensed", "not_returned_by_courier"),
        (
            "§21 never left, fetched already", (*NEVER_LEFT, BACK, FETCHED, at_desk), "already_dispensed",
            "not_returned_by_courier",
        ),
        ("§22 dispensed at the desk", (signed, issued, at_desk), "already_dispensed", "not_returned_by_courier"),
    ],
)  # fmt: skip
def test_what_may_follow_a_return(
    rule: str, before: tuple[object, ...], brought: list[str] | str, fetched: list[str] | str
) -> None:
    state = prescription(*before)
    command = ChooseDelivery(ACCOUNT, "ad2", "anda", "张秀英", "19900000001", "北京市某路2号")
    late = VALID_UNTIL + timedelta(days=9)  # what is paid does not run out
    assert outcome(lambda: choose_delivery(command, state, ["anda"], late)) == brought, rule
    assert outcome(lambda: collect(state, PHARMACIST)) == fetched, rule


def test_only_the_patients_account_and_a_known_courier_bring_it_again() -> None:  # §31
    state = prescription(*SENT, BACK)
    for account, courier, code in (("a2", "anda", "not_found"), (ACCOUNT, "nobody", "unknown_courier")):
        command = ChooseDelivery(account, "ad2", courier, "张秀英", "19900000001", "北京市某路2号")
        assert outcome(lambda command=command: choose_delivery(command, state, ["anda"], VALID_UNTIL)) == code  # type: ignore[misc]


@pytest.mark.parametrize(
    ("before", "parcel_id", "then"),
    [
        (SENT, RX, ["ParcelCameBack"]),
        ((*SENT, BACK), RX, []),
        ((*SENT, BACK, AGAIN), RX, []),
        ((*SENT, BACK, AGAIN), f"{RX}-2", ["ParcelCameBack"]),
    ],
)
def test_a_return_counts_once_and_only_of_the_latest_parcel(
    before: tuple[object, ...], parcel_id: str, then: list[str]
) -> None:
    assert outcome(lambda: take_back(prescription(*before), parcel_id)) == then


def report(world: World, parcel_id: str, tracking_no: str, status: str, hours: int) -> None:
    for _ in range(2):
        at = SIGNED_AT + timedelta(hours=hours)
        world.handlers.note_report(world.request(), parcel_id, Report(tracking_no, status, at))


def sent_back() -> World:
    world = World()
    world.hand_over()
    report(world, "rx1", "FZ1", "refused", 5)
    report(world, "rx1", "FZ1", "returned", 9)
    return world


def test_refused_at_the_door_and_brought_again() -> None:  # §21
    world = sent_back()
    assert world.handlers.parcel("rx1").returned is not None
    assert world.commits_of("ParcelReturned") == [["ParcelReturned", "ParcelCameBack"]]

    world.courier.answers = ["FZ2"]
    world.choose()
    assert world.commits_of("RedeliveryBegun") == [["AddressGiven", "RedeliveryBegun", "ParcelOpened"]]
    world.run_due("hand_over")
    assert [order for order, _ in world.courier.orders][-1] == "rx1-2"
    report(world, "rx1-2", "FZ2", "delivered", 20)
    found = world.handlers.prescription("rx1")
    assert (found.parcel_id, found.way, found.came_back) == ("rx1-2", "courier", False)
    assert world.handlers.parcel("rx1-2").state == "delivered"
    assert world.stream("prescription-rx1").count("PrescriptionDispensed") == 1
    assert world.stream("prescription-rx1").count("DeliveryChosen") == 1  # the processor hears of one dispatch


def test_refused_at_the_door_and_fetched() -> None:  # §21
    world = sent_back()
    assert world.handlers.collect(world.request(), "rx1", "ph1").body == {
        "prescription_id": "rx1", "state": "dispensed",
    }  # fmt: skip
    for late in (world.choose, lambda: world.handlers.collect(world.request(), "rx1", "ph1")):
        with pytest.raises(Refusal):
            late()
    assert world.handlers.prescription("rx1").collected


def test_what_the_courier_did_not_take_is_dispensed_when_it_is_fetched() -> None:  # §21, §23
    world = World()
    world.courier.answers = [NotTaken("no_service")]
    world.hand_over()
    assert world.commits_of("ParcelReturned") == [["ParcelReturned", "ParcelCameBack"]]
    world.handlers.collect(world.request(), "rx1", "ph1")
    assert world.handlers.prescription("rx1").way == "desk"


def test_choosing_again_with_the_same_key_opens_one_parcel() -> None:
    world = sent_back()
    command = ChooseDelivery("a1", "ad2", "anda", "张秀英", "19900000001", "北京市某路2号")
    first = world.handlers.choose_delivery(world.request("same"), "rx1", command)
    assert world.handlers.choose_delivery(world.request("same"), "rx1", command).body == first.body
    assert world.stream("parcel-rx1-2") == ["ParcelOpened"]


def test_a_return_over_http() -> None:  # §21, §31
    stage = Stage()
    stage.world = sent_back()
    client = stage.app.test_client()
    shown = get(client, PATIENT, "/prescriptions/rx1").json
    assert shown is not None
    assert shown["came_back"] is True
    assert post(client, PATIENT, "/prescriptions/rx1/collection", None).status_code == 403
    assert post(client, PATIENT, "/prescriptions/rx1/delivery", ADDRESS, key="k2").status_code == 200
    parcel = get(client, PATIENT, "/prescriptions/rx1/parcel").json
    assert parcel is not None
    assert (parcel["parcel_id"], parcel["state"]) == ("rx1-2", "preparing")
    refused = post(client, "pharmacist:ph1", "/prescriptions/rx1/collection", None, key="k3").json
    assert refused is not None
    assert refused["code"] == "not_returned_by_courier"

    stage.world = sent_back()
    fetched = post(client, "pharmacist:ph1", "/prescriptions/rx1/collection", None, key="k4").json
    assert fetched == {"prescription_id": "rx1", "state": "dispensed"}
    shown = get(client, PATIENT, "/prescriptions/rx1").json
    assert shown is not None
    assert shown["collected"] is True
