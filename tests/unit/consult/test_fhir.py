"""Encounter and Communication are valid FHIR R4 whatever became of a consult, for the HIS alone, wordless (§31)."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.encounter import Encounter
from flask.testing import FlaskClient

from eventkit.audit import Audit, MemoryTrail
from eventkit.auth import Caller
from eventkit.clock import FixedClock
from eventkit.memory_store import MemoryBackend
from eventkit.store import Answer, Decision, Request, Store
from eventkit.web import create_app
from services.consult import fhir
from services.consult.events import Event, registry
from services.consult.handlers import consult_stream, conversation_stream
from tests.store_suite import PlainSealer
from tests.unit.consult.story import (
    ABANDONED,
    ACCEPTED,
    CANCELLED,
    DECLINED,
    FINISHED,
    MISSED,
    PATIENT,
    SCHEDULED,
    SLOT,
    VISIT,
    noticed,
    prescribed,
    said,
)


class AnyToken:
    """The token says who it is: `<role>:<subject>`."""

    def verify(self, token: str) -> Caller:
        role, _, subject = token.partition(":")
        return Caller(subject, frozenset({role}), "j")


class Log:
    def __init__(self, *events: Event) -> None:
        self.store = Store(MemoryBackend(), registry, PlainSealer(), FixedClock(SLOT))
        self.trail = MemoryTrail()
        routes = fhir.make_routes(self.store, Audit(self.trail, FixedClock(SLOT)))
        verifier: Any = AnyToken()
        self.client: FlaskClient = create_app("consult", [routes], verifier, lambda: (True, {}), str).test_client()
        self.write(consult_stream(VISIT), *events)

    def write(self, stream: str, *events: Any) -> None:
        decision = Decision(events=[(stream, event) for event in events], answer=Answer(200, {}))
        self.store.execute(Request("test", "test", stream), [stream], lambda _: decision)

    def ask(self, path: str, who: str = "his:service:his") -> Any:
        return self.client.get(f"/api/consult/fhir/{path}", headers={"Authorization": f"Bearer {who}"})


@pytest.mark.parametrize(
    ("ends", "status", "period"),
    [
        ((), "planned", set()),
        ((ACCEPTED,), "in-progress", {"start"}),
        ((ACCEPTED, FINISHED), "finished", {"start", "end"}),
        ((MISSED,), "cancelled", set()),
        ((ACCEPTED, DECLINED), "cancelled", {"start"}),
        ((ACCEPTED, ABANDONED), "cancelled", {"start"}),
        ((CANCELLED,), "cancelled", set()),
    ],
)
def test_a_consult_is_an_encounter(ends: tuple[Event, ...], status: str, period: set[str]) -> None:
    answer = Log(SCHEDULED, *ends).ask(f"Encounter/{VISIT}")
    assert answer.content_type == "application/fhir+json"
    assert Encounter.model_validate_json(answer.data).status == status
    assert set(answer.json.get("period", {})) == period


def test_s31_messages_are_communications_without_their_words() -> None:
    log = Log(SCHEDULED, ACCEPTED)
    messages = (said(1, "patient", "胃痛"), noticed(2, "accepted"), said(3, "doctor", "多久了"), prescribed(4))
    log.write(conversation_stream(VISIT), *messages)
    answer = log.ask(f"Communication?encounter={VISIT}")
    bundle = Bundle.model_validate_json(answer.data)
    assert (bundle.type, bundle.total) == ("searchset", 4)
    found = [entry["resource"] for entry in answer.json["entry"]]
    assert [each["id"] for each in found] == [f"{VISIT}-{number}" for number in (1, 2, 3, 4)]
    assert [each["sender"]["type"] for each in found] == ["Patient", "Organization", "Practitioner", "Organization"]
    assert found[3]["about"][0]["identifier"]["value"] == "rx1"
    assert not any("payload" in each for each in found)
    assert "胃痛" not in answer.text
    assert log.ask(f"Communication?encounter=Encounter/{VISIT}").json["total"] == 4


def test_absent_is_an_empty_search_and_a_problem_when_read() -> None:
    log = Log(SCHEDULED)
    empty = log.ask("Communication?encounter=nothing")
    assert (Bundle.model_validate_json(empty.data).total, "entry" in empty.json) == (0, False)
    answer = log.ask("Encounter/nothing")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert log.ask("Communication").json["code"] == "invalid_input"


@pytest.mark.parametrize("who", ["patient:a1", "doctor:d-lin", "service:service:payment"])
@pytest.mark.parametrize("path", [f"Encounter/{VISIT}", f"Communication?encounter={VISIT}"])
def test_s31_nobody_else_reads_them(who: str, path: str) -> None:
    log = Log(SCHEDULED)
    assert log.ask(path, who).json["code"] == "forbidden"
    assert log.trail.lines == []
    log.ask(path)
    assert [(line["patient_id"], line["who"]["subject"]) for line in log.trail.lines] == [(PATIENT, "service:his")]


def test_the_examples_are_fhir() -> None:
    Encounter.model_validate(fhir.ENCOUNTER_EXAMPLE)
    Bundle.model_validate(fhir.COMMUNICATIONS_EXAMPLE)
