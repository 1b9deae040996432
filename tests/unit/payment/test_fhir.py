"""Invoice and PaymentReconciliation are valid FHIR R4, exact to the fen, for the HIS alone (§16, §31)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from flask.testing import FlaskClient

from eventkit.audit import Audit, MemoryTrail
from eventkit.auth import Caller
from eventkit.web import create_app
from services.payment import fhir
from tests.unit.payment.world import World


class AnyToken:
    """The token says who it is: `<role>:<subject>`."""

    def verify(self, token: str) -> Caller:
        role, _, subject = token.partition(":")
        return Caller(subject, frozenset({role}), "j")


@pytest.fixture
def world() -> World:
    return World()


def ask(world: World, path: str, who: str = "his:service:his", trail: MemoryTrail | None = None) -> Any:
    verifier: Any = AnyToken()
    views: Any = world.views
    routes = fhir.make_routes(world.handlers, views, Audit(trail or MemoryTrail(), world.clock))
    app = create_app("payment", [routes], verifier, lambda: (True, {}), str)
    client: FlaskClient = app.test_client()
    return client.get(f"/api/payment/fhir/{path}", headers={"Authorization": f"Bearer {who}"})


def paid(world: World) -> None:
    fee = world.visit()
    world.run_until_quiet()
    world.pay(fee)
    world.run_until_quiet()


def resources(answer: Any) -> list[Any]:
    """As a reader meets them: checked, with numbers as they are written."""
    assert answer.content_type == "application/fhir+json"
    Bundle.model_validate_json(answer.data)
    return [entry["resource"] for entry in json.loads(answer.data, parse_float=Decimal).get("entry", [])]


def test_an_order_is_an_invoice_with_its_legs(world: World) -> None:
    world.visit()
    [opening] = resources(ask(world, "Invoice?encounter=v1"))
    assert opening["status"] == "draft"
    world.run_until_quiet()
    [waiting] = resources(ask(world, "Invoice?encounter=Encounter/v1"))
    assert (waiting["id"], waiting["status"]) == ("fee-v1", "issued")
    amounts = [str(part["amount"]["value"]) for part in waiting["lineItem"][0]["priceComponent"]]
    assert amounts == ["50.00", "40.00", "10.00"]
    assert (str(waiting["totalGross"]["value"]), waiting["totalGross"]["currency"]) == ("50.00", "CNY")
    assert resources(ask(world, "PaymentReconciliation?encounter=v1")) == []


def test_s16_what_was_paid_and_went_back_comes_to_nothing(world: World) -> None:
    paid(world)
    [invoice] = resources(ask(world, "Invoice?encounter=v1"))
    assert invoice["status"] == "balanced"
    [reconciled] = resources(ask(world, "PaymentReconciliation?encounter=v1"))
    assert str(reconciled["paymentAmount"]["value"]) == "50.00"
    world.withdraw()
    world.run_until_quiet()
    [refunded] = resources(ask(world, "PaymentReconciliation?encounter=v1"))
    moved = {
        (part["type"]["coding"][0]["code"], part["identifier"]["value"]): str(part["amount"]["value"])
        for part in refunded["detail"]
    }
    assert moved == {
        ("payment", "fund"): "40.00", ("payment", "cash"): "10.00",
        ("adjustment", "fund"): "-40.00", ("adjustment", "cash"): "-10.00",
    }
    assert str(refunded["paymentAmount"]["value"]) == "0.00"


@pytest.mark.parametrize(("fen", "written"), [(0, "0.00"), (1, "0.01"), (10, "0.10"), (-4001, "-40.01")])
def test_fen_are_written_exactly(fen: int, written: str) -> None:
    assert f"{fhir.money(fen)['value']:f}" == written
    large = fhir.money(123_456_789_012_345_678)["value"]
    assert f"{large:f}" == "1234567890123456.78"


@pytest.mark.parametrize("who", ["patient:acc1", "cashier:c1", "doctor:d1", "service:service:pharmacy"])
@pytest.mark.parametrize("path", ["Invoice", "PaymentReconciliation"])
def test_s31_nobody_else_reads_them(world: World, who: str, path: str) -> None:
    world.visit()
    trail = MemoryTrail()
    assert ask(world, f"{path}?encounter=v1", who, trail).json["code"] == "forbidden"
    assert trail.lines == []
    ask(world, f"{path}?encounter=v1", trail=trail)
    assert [(line["patient_id"], line["what"]["id"]) for line in trail.lines] == [("pt1", "fee-v1")]
    assert ask(world, path).json["code"] == "invalid_input"
    assert ask(world, f"{path}?encounter=nothing").json["total"] == 0


def test_the_examples_are_fhir() -> None:
    Bundle.model_validate(fhir.INVOICES_EXAMPLE)
    Bundle.model_validate(fhir.RECONCILIATIONS_EXAMPLE)
    assert set(fhir.INVOICE_STATUS) == {
        "opening", "awaiting_payment", "confirming", "paid", "settled_offline", "expired",
    }
