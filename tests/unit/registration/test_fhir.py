"""The Appointment is valid FHIR R4 at every state of a visit, for the HIS alone, and names nobody (§31)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fhir.resources.R4B.appointment import Appointment

from eventkit.audit import Audit, MemoryTrail
from eventkit.clock import FixedClock, rfc3339
from eventkit.web import create_app
from services.registration import fhir
from tests.unit.registration.story import NOW
from tests.unit.registration.test_handlers import Story

SECRETS = ("林复安", "19900000001", "胃脘")


@pytest.fixture
def story() -> Story:
    return Story()


def ask(story: Story, visit_id: str = "v1", role: str = "his", trail: MemoryTrail | None = None) -> Any:
    audit = Audit(trail or MemoryTrail(), FixedClock(NOW))
    routes = fhir.make_routes(story.visits, story.sessions, story.people, audit)
    app = create_app("registration", [routes], story.verifier, lambda: (True, {}), str)
    token = story.issuer.issue(f"service:{role}", [role])
    headers = {"Authorization": f"Bearer {token}"}
    return app.test_client().get(f"/api/registration/fhir/Appointment/{visit_id}", headers=headers)


def test_a_visit_is_an_appointment_from_held_to_withdrawn(story: Story) -> None:
    story.book()
    held = ask(story)
    assert held.content_type == "application/fhir+json"
    assert held.json["participant"][0]["status"] == "needs-action"  # the patient has still to pay (§10)
    story.pay()
    booked = ask(story)
    story.visits.withdraw(story.asked(story.account), "v1", "missed")
    found = [Appointment.model_validate_json(answer.data) for answer in (held, booked, ask(story))]
    assert [each.status for each in found] == ["pending", "booked", "cancelled"]
    assert [secret for secret in SECRETS if secret in held.text + booked.text] == []


def test_it_has_its_slot_and_the_person_as_the_his_knows_them(story: Story) -> None:
    story.book()
    appointment, visit = ask(story).json, story.visits.visit("v1")
    session = story.sessions.session(story.session_id)
    assert session is not None
    assert appointment["start"] == rfc3339(visit.request.starts_at)
    assert appointment["end"] == rfc3339(session.slots[1].starts_at)
    assert fhir.slot_end(session, session.slots[-1].slot_id) == session.ends_at
    length = timedelta(minutes=appointment["minutesDuration"])
    assert session.slots[1].starts_at - session.slots[0].starts_at == length
    numbers = {each["system"]: each["value"] for each in appointment["contained"][0]["identifier"]}
    known = story.people.patient(story.patient_id).added.his_patient_id
    assert numbers == {f"{fhir.IDS}patient": story.patient_id, f"{fhir.IDS}his-patient": known}


@pytest.mark.parametrize("role", ["patient", "doctor", "service", "operator"])
def test_s31_nobody_else_reads_it(story: Story, role: str) -> None:
    story.book()
    trail = MemoryTrail()
    assert ask(story, role=role, trail=trail).json["code"] == "forbidden"
    assert trail.lines == []
    ask(story, trail=trail)
    assert [(line["patient_id"], line["who"]["subject"]) for line in trail.lines] == [(story.patient_id, "service:his")]


def test_an_absent_visit_is_a_problem(story: Story) -> None:
    answer = ask(story, "nothing")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_every_state_has_a_status() -> None:
    assert set(fhir.STATUS) == {"held", "booked", "accepted", "finished", "lapsed", "withdrawn"}
    Appointment.model_validate(fhir.EXAMPLE)
