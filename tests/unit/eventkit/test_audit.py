"""§31: who read what is written before it is answered, is only ever added to, and is shown to the patient's account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask.views import MethodView
from marshmallow import Schema, fields
from pymongo.errors import AutoReconnect

from eventkit.audit import KEPT, Audit, MemoryTrail, add_readings
from eventkit.auth import Caller
from eventkit.clock import FixedClock
from eventkit.problems import Catalogue
from eventkit.web import Routes, create_app

NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)


@dataclass(frozen=True)
class Of:
    patient_id: str = "p1"
    account_id: str = "a1"


class Named:
    """The token says who it is: `<role>:<subject>`."""

    def verify(self, token: str) -> Caller:
        role, _, subject = token.partition(":")
        return Caller(subject, frozenset({role}))


class BrokenTrail(MemoryTrail):
    def insert(self, lines: list[dict[str, Any]]) -> None:
        raise AutoReconnect("no primary")


class World:
    def __init__(self, trail: MemoryTrail) -> None:
        self.trail, self.clock = trail, FixedClock(NOW)
        audit = Audit(trail, self.clock)
        routes = Routes("registration", Catalogue(), "test")

        class Shown(Schema):
            name = fields.String()

        @routes.route("/patients/<patient_id>")
        class Patient(MethodView):
            @routes.access("patient", "doctor")
            @routes.response(200, Shown, example={"name": "林复安"})
            def get(self, patient_id: str) -> Any:
                audit.read("patient", patient_id, Of(patient_id))
                return {"name": "林复安"}

        @routes.route("/patients")
        class Patients(MethodView):
            @routes.access("patient", "doctor")
            @routes.response(200, Shown, example={"name": "林复安"})
            def get(self) -> Any:
                audit.read_list("patients", [("p1", "a1"), ("p2", "a2"), ("p1", "a1")])
                return {}

        @routes.route("/links/<photo_id>")
        class Linked(MethodView):
            @routes.response(200, Shown, example={"name": "林复安"})
            def get(self, photo_id: str) -> Any:
                audit.read("photo", photo_id, Of())
                return {}

        add_readings(routes, lambda: audit)
        app = create_app("registration", [routes], Named(), lambda: (True, {}), str)  # type: ignore[arg-type]
        self.client: FlaskClient = app.test_client()

    def get(self, path: str, who: str = "") -> Any:
        headers = {"X-Request-Id": "request-1"} | ({"Authorization": f"Bearer {who}"} if who else {})
        return self.client.get(f"/api/registration{path}", headers=headers)


@pytest.fixture
def world() -> World:
    return World(MemoryTrail())


def test_31_a_read_leaves_a_line_of_ids(world: World) -> None:
    assert world.get("/patients/p1", "doctor:d1").status_code == 200
    assert world.trail.lines == [{
        "at": NOW, "patient_id": "p1", "account_id": "a1", "who": {"subject": "d1", "roles": ["doctor"]},
        "what": {"operation": "GET /api/registration/patients/<patient_id>", "kind": "patient", "id": "p1"},
        "request_id": "request-1",
    }]  # fmt: skip


def test_31_a_list_leaves_a_line_for_each_patient_in_it(world: World) -> None:
    world.get("/patients", "doctor:d1")
    assert [(line["patient_id"], line["what"]["kind"]) for line in world.trail.lines] == [
        ("p1", "patients"), ("p2", "patients"),
    ]  # fmt: skip


def test_31_a_read_that_cannot_be_audited_is_not_answered() -> None:
    answer = World(BrokenTrail()).get("/patients/p1", "doctor:d1")
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert "林复安" not in answer.text


def test_31_the_patient_sees_who_read_newest_first(world: World) -> None:
    world.get("/patients/p1", "doctor:d1")
    world.clock.instant += timedelta(minutes=1)
    world.get("/links/ph1")
    readings = world.get("/patients/p1/readings", "patient:a1").json["readings"]
    assert [(r["subject"], r["roles"], r["kind"], r["record_id"]) for r in readings] == [
        ("link", [], "photo", "ph1"), ("d1", ["doctor"], "patient", "p1"),
    ]  # fmt: skip
    assert readings[1]["at"] == "2026-11-24T01:02:03.000Z"


@pytest.mark.parametrize(("path", "who"), [
    ("/patients/p1/readings", "patient:a2"), ("/patients/absent/readings", "patient:a2"),
])  # fmt: skip
def test_31_foreign_is_as_absent(world: World, path: str, who: str) -> None:
    world.get("/patients/p1", "doctor:d1")
    assert world.get(path, who).status_code == 404


def test_31_staff_does_not_ask_who_read(world: World) -> None:
    assert world.get("/patients/p1/readings", "doctor:d1").status_code == 403


def test_32_lines_are_kept_for_the_longest_six_months() -> None:
    assert date(2026, 3, 1) + KEPT >= date(2026, 9, 1)
    assert date(2027, 8, 31) + KEPT >= date(2028, 2, 29)
