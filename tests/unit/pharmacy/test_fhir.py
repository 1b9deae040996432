"""MedicationRequest and MedicationDispense are valid FHIR R4 from signature to door, for the HIS alone (§24, §31)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.medicationdispense import MedicationDispense
from fhir.resources.R4B.medicationrequest import MedicationRequest
from flask.testing import FlaskClient

from eventkit.audit import Audit, MemoryTrail
from eventkit.web import create_app
from services.pharmacy import fhir
from services.pharmacy.domain.parcel import Parcel
from services.pharmacy.domain.prescription import Prescription
from services.pharmacy.events import HerbalOrder, Line, ParcelCameBack, Sheet
from tests.unit.pharmacy import given
from tests.unit.pharmacy.world import Believer, World

SHEET = Sheet(
    "咳嗽", (
        Line("W007", "苏黄止咳胶囊", "胶囊剂", "盒", 5260, 2, 10520, "3粒", "口服"),
        Line("W008", "布洛芬", "片剂", "盒", 1000, 1, 1000, "", ""),
    ),
)  # fmt: skip
signed = replace(given.signed, sheet=SHEET)
issued = (signed, given.issued)


@pytest.fixture
def world() -> World:
    return World()


def ask(world: World, path: str, who: str = "his:service:his", trail: MemoryTrail | None = None) -> Any:
    believer: Any = Believer()
    routes = fhir.make_routes(world.handlers, Audit(trail or MemoryTrail(), world.clock))
    app = create_app("pharmacy", [routes], believer, lambda: (True, {}), str)
    client: FlaskClient = app.test_client()
    return client.get(f"/api/pharmacy/fhir/{path}", headers={"Authorization": f"Bearer {who}"})


def test_an_issued_prescription_over_http(world: World) -> None:
    world.issue()
    answer = ask(world, "MedicationRequest?encounter=v1")
    assert answer.content_type == "application/fhir+json"
    [entry] = Bundle.model_validate_json(answer.data).entry
    asked = entry.resource
    assert (asked.id, asked.status, asked.intent) == ("rx1-1", "active", "order")
    assert asked.groupIdentifier.value == "rx1"
    dose = asked.dosageInstruction[0]
    assert (dose.text, dose.timing.repeat.frequency) == ("3粒 口服", 3)
    assert dose.doseAndRate[0].doseQuantity.value == Decimal(3)
    assert ask(world, "MedicationDispense?encounter=Encounter/v1").json["total"] == 0


def test_s24_what_never_took_effect_does_not_exist(world: World) -> None:
    world.book()
    world.accept()
    world.sign()
    assert ask(world, "MedicationRequest?encounter=v1").json["total"] == 0
    world.review("refuse", "剂量")
    assert ask(world, "MedicationRequest?encounter=v1").json["total"] == 0


def test_s21_drugs_on_their_way_over_http(world: World) -> None:
    world.hand_over()
    answer = ask(world, "MedicationDispense?encounter=v1")
    [entry] = Bundle.model_validate_json(answer.data).entry
    assert entry.resource.authorizingPrescription[0].reference == "MedicationRequest/rx1-1"
    assert entry.resource.status in ("in-progress", "completed")
    assert "海淀" not in answer.text


@pytest.mark.parametrize(
    ("end", "status"),
    [(None, "active"), (given.voided, "cancelled"), (given.expired, "stopped"), (given.at_desk, "completed")],
)
def test_every_end_has_a_status(end: object, status: str) -> None:
    found = fhir.medication_requests(given.prescription(*issued, *([end] if end else [])))
    assert [MedicationRequest.model_validate(each).status for each in found] == [status, status]
    assert [each["id"] for each in found] == ["rx1-1", "rx1-2"]


@pytest.mark.parametrize(
    ("then", "parcel", "status"),
    [
        ((given.dispatching,), given.parcel(given.opened), "in-progress"),
        ((given.dispatching, given.by_courier), given.parcel(given.opened, given.delivered), "completed"),
        ((given.dispatching, ParcelCameBack("rx1", "rx1")), given.parcel(given.came_back), "on-hold"),
        ((given.at_desk,), Parcel(), "completed"),
    ],
)
def test_drugs_under_way_given_out_and_back(then: tuple[object, ...], parcel: Parcel, status: str) -> None:
    found = fhir.medication_dispenses(given.prescription(*issued, *then), parcel)
    assert [MedicationDispense.model_validate(each).status for each in found] == [status, status]
    assert all(("whenHandedOver" in each) == (parcel.delivered is not None) for each in found)


def test_s25_a_herbal_prescription_counts_all_its_doses() -> None:
    line = Line("H001", "黄芪", "饮片", "克", 10, 15, 1050, "", "")
    herbal = replace(signed, kind="herbal", sheet=Sheet("咳嗽", (line,), HerbalOrder(7, "hospital", "水煎服,一日1剂")))
    [found] = fhir.medication_requests(given.prescription(herbal, given.issued))
    MedicationRequest.model_validate(found)
    assert found["dispenseRequest"]["quantity"] == {"value": 105, "unit": "克"}
    assert found["dosageInstruction"][0]["text"] == "水煎服,一日1剂"


def test_s32_what_was_erased_is_not_there() -> None:
    erased: Prescription = given.prescription(given.signed, given.issued, given.at_desk)
    assert fhir.medication_requests(erased) == fhir.medication_dispenses(erased, Parcel()) == []


@pytest.mark.parametrize("who", ["patient:a1", "doctor:d1", "pharmacist:ph1", "service:service:payment"])
@pytest.mark.parametrize("path", ["MedicationRequest", "MedicationDispense"])
def test_s31_nobody_else_reads_them(world: World, who: str, path: str) -> None:
    world.hand_over()
    trail = MemoryTrail()
    assert ask(world, f"{path}?encounter=v1", who, trail).json["code"] == "forbidden"
    assert trail.lines == []
    ask(world, f"{path}?encounter=v1", trail=trail)
    assert [(line["patient_id"], line["what"]["id"]) for line in trail.lines] == [("p1", "rx1")]
    assert ask(world, path).json["code"] == "invalid_input"


def test_the_examples_are_fhir() -> None:
    Bundle.model_validate(fhir.REQUESTS_EXAMPLE)
    Bundle.model_validate(fhir.DISPENSES_EXAMPLE)
