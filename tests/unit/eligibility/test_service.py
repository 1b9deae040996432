"""The one question over HTTP: granted, refused with every reason, away, asked again."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from flask.testing import FlaskClient

from eventkit.auth import Caller, Verifier
from eventkit.calls import Unanswered
from eventkit.clock import FixedClock
from eventkit.contracts import contracts
from eventkit.core import Core
from eventkit.memory_store import MemoryBackend
from eventkit.relay import to_envelope
from eventkit.store import Store
from eventkit.web import create_app
from services.eligibility.domain import OutpatientVisit
from services.eligibility.events import registry
from services.eligibility.handlers import Handlers
from services.eligibility.his import His
from services.eligibility.http import routes
from services.eligibility.problems import RULES
from services.eligibility.red_flags import read_red_flags
from tests.store_suite import PlainSealer
from tests.unit.eligibility.test_domain import NOW

QUESTION: dict[str, Any] = {
    "visit_id": "v1", "patient_id": "p1", "his_patient_id": "P00000001", "birth_date": "1968-03-02",
    "checkpoint": "booking", "day": "2026-11-24",
    "declared": {"follow_up": True, "stable": True, "emergency": False}, "symptoms": "胃脘隐痛复诊",
}


class FakeHis:
    def __init__(self) -> None:
        self.visits = [OutpatientVisit("R1", date(2026, 10, 1))]
        self.asked: list[tuple[str, date]] = []
        self.away = False

    def outpatient_visits(self, his_patient_id: str, since: date) -> list[OutpatientVisit]:
        self.asked.append((his_patient_id, since))
        if self.away:
            raise Unanswered("his")
        return self.visits


class Roles(Verifier):
    """The token is the role."""

    def __init__(self) -> None:
        pass

    def verify(self, token: str) -> Caller:
        return Caller("service:registration", frozenset({token}))


@pytest.fixture(scope="module")
def application() -> Any:
    return create_app("eligibility", [routes], Roles(), lambda: (True, {}), str)


class World:
    def __init__(self, client: FlaskClient) -> None:
        self.client, self.his, self.backend = client, FakeHis(), MemoryBackend()
        clock = FixedClock(NOW)
        core = SimpleNamespace(store=Store(self.backend, registry, PlainSealer(), clock), clock=clock)
        routes.handlers = Handlers(cast(Core, core), cast(His, self.his), read_red_flags())

    def ask(self, key: str = "k1", role: str = "service", **change: Any) -> Any:
        headers = {"Authorization": f"Bearer {role}", "Idempotency-Key": key}
        return self.client.post("/api/eligibility/assessments", json={**QUESTION, **change}, headers=headers)


@pytest.fixture
def world(application: Any) -> World:
    return World(application.test_client())


def test_s2_granted_with_its_evidence(world: World) -> None:
    answer = world.ask()
    assert (answer.status_code, answer.json["evidence_id"]) == (200, "R1")
    assert world.his.asked == [("P00000001", date(2026, 5, 24))]


def test_s5_refused_with_every_reason_and_what_to_do(world: World) -> None:
    world.his.visits = []
    refused = world.ask(birth_date="2022-01-01", symptoms="昨晚呕血")
    assert (refused.status_code, refused.json["code"]) == (422, "not_eligible")
    failed = refused.json["failed"]
    assert [rule["code"] for rule in failed] == ["too_young", "no_recent_visit", "red_flag"]
    assert all(rule[member] for rule in failed for member in ("detail", "detail_en", "next", "next_en"))


def test_the_same_key_gets_the_same_answer(world: World) -> None:
    refused = world.ask(symptoms="昨晚呕血")
    again = world.ask(symptoms="昨晚呕血")
    assert (again.status_code, again.json) == (422, refused.json)
    assert len(world.backend.commits) == 1
    assert world.ask(key="k2").status_code == 200


def test_s5_when_the_his_is_away_nobody_is_refused_and_nothing_is_written(world: World) -> None:
    world.his.away = True
    away = world.ask()
    assert (away.status_code, away.json["code"], world.backend.commits) == (503, "partner_unavailable", [])
    world.his.away = False
    assert world.ask().status_code == 200


@pytest.mark.parametrize("checkpoint", ["booking", "payment", "acceptance"])
def test_s5_each_of_the_three_checks_is_a_decision_of_its_own_with_its_evidence(
    world: World, checkpoint: str
) -> None:
    granted = world.ask(checkpoint=checkpoint).json
    world.his.visits = []
    refused = world.ask(key="k2", checkpoint=checkpoint)
    assert [rule["code"] for rule in refused.json["failed"]] == ["no_recent_visit"]
    written = [event.data for commit in world.backend.commits for event in commit.events]
    assert [data["checkpoint"] for data in written] == [checkpoint, checkpoint]
    assert (written[0]["evidence_id"], written[0]["assessment_id"]) == ("R1", granted["assessment_id"])
    assert "evidence_id" not in written[1]


@pytest.mark.parametrize(
    ("day", "visited_on", "status"),
    [
        ("2026-08-31", date(2026, 2, 28), 200), ("2026-08-31", date(2026, 2, 27), 422),
        ("2028-08-31", date(2028, 2, 29), 200), ("2028-08-31", date(2028, 2, 28), 422),
        ("2028-08-30", date(2028, 2, 29), 200), ("2028-08-29", date(2028, 2, 28), 422),
    ],
)
def test_s2_exactly_six_calendar_months_also_at_the_end_of_february(
    world: World, day: str, visited_on: date, status: int
) -> None:
    world.his.visits = [OutpatientVisit("R1", visited_on)]
    assert world.ask(day=day).status_code == status


@pytest.mark.parametrize(
    ("birth_date", "day", "status"),
    [
        ("2020-11-24", "2026-11-24", 200), ("2020-11-25", "2026-11-24", 422),
        ("2020-02-29", "2026-02-28", 422), ("2020-02-29", "2026-03-01", 200),
    ],
)
def test_s1_the_sixth_birthday_itself_and_29_february(world: World, birth_date: str, day: str, status: int) -> None:
    world.his.visits = [OutpatientVisit("R1", date.fromisoformat(day).replace(day=1) - timedelta(days=9))]
    assert world.ask(birth_date=birth_date, day=day).status_code == status


@pytest.mark.parametrize("role", ["patient", "doctor", "his"])
def test_s31_only_services_ask(world: World, role: str) -> None:
    assert world.ask(role=role).status_code == 403


@pytest.mark.parametrize(
    "change",
    [{"checkpoint": "later"}, {"birth_date": "yesterday"}, {"declared": {}}, {"day": "2026-13-01"}, {"name": "林复安"}],
)
def test_what_is_no_question(world: World, change: dict[str, Any]) -> None:
    assert world.ask(**change).json["code"] == "invalid_input"


def test_s31_what_is_written_keeps_its_contract_and_names_nobody(world: World) -> None:
    world.ask()
    world.ask(key="k2", symptoms="昨晚呕血")
    for commit in world.backend.commits:
        for logged in commit.events:
            contracts().validate(to_envelope(commit, logged, registry.source), "eligibility.assessment.v1")
            assert logged.sealed is None
    commits = world.backend.commits
    written = orjson.dumps([[event.data for event in c.events] + [c.answer.body] for c in commits]).decode()
    for personal in ("1968", "呕血", "胃脘", "P00000001"):
        assert personal not in written


def test_every_rule_that_can_fail_has_its_sentence() -> None:
    assert set(RULES) == {"too_young", "no_recent_visit", "not_follow_up", "not_stable", "emergency", "red_flag"}


def test_the_operation_documents_its_answers(world: World) -> None:
    [(_, operations)] = world.client.get("/api/eligibility/openapi.json").json["paths"].items()  # type: ignore[index]
    assert {"200", "401", "403", "422", "503"} <= set(operations["post"]["responses"])
    assert "example" in operations["post"]["responses"]["200"]["content"]["application/json"]
