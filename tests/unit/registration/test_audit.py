"""§31 in registration: each way to a patient's data leaves a line, and none answers without it."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from tests.unit.registration.story import DOCTOR
from tests.unit.registration.test_handlers import Story
from tests.unit.registration.test_http import Api, api, application, client, story

__all__ = ["api", "application", "client", "story"]

SERVICE = "service:payment/service"


@pytest.mark.parametrize(("path", "who", "kind"), [
    ("/patients", "{account}/patient", "patients"),
    ("/patients/{patient}", "{account}/patient", "patient"),
    ("/visits/v1", "{account}/patient", "visit"),
    ("/visits/v1", DOCTOR + "/doctor", "visit"),
    ("/visits/v1/condition", DOCTOR + "/doctor", "condition"),
    ("/internal/visits/v1", SERVICE, "visit"),
    ("/internal/patients/{patient}", "service:his/his", "patient"),
])  # fmt: skip
def test_31_every_read_is_audited_or_not_answered(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch, path: str, who: str, kind: str
) -> None:
    story.book()
    story.pay()
    path, who = path.format(patient=story.patient_id), who.format(account=story.account)
    assert api.get(path, who).status_code == 200
    [line] = story.trail.lines
    subject, _, role = who.partition("/")
    assert line["who"] == {"subject": subject, "roles": [role]}
    assert (line["patient_id"], line["account_id"]) == (story.patient_id, story.account)
    assert (line["what"]["kind"], line["at"]) == (kind, story.clock.now())

    def broken(lines: Any) -> None:
        raise AutoReconnect("no primary")

    monkeypatch.setattr(story.trail, "insert", broken)
    answer = api.get(path, who)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")


def test_31_what_was_refused_shows_nothing_and_leaves_nothing(api: Api, story: Story) -> None:
    story.book()
    story.pay()
    for path in (f"/patients/{story.patient_id}", "/visits/v1", "/visits/v1/condition"):
        assert api.get(path, "stranger/patient").status_code == 404
    assert story.trail.lines == []


def test_31_a_draft_leaves_a_line(api: Api, story: Story) -> None:
    patient = f"{story.account}/patient"
    begun = api.post("/drafts", patient, {"patient_id": story.patient_id})
    api.get(f"/drafts/{begun.json['draft_id']}", patient)
    assert [(line["what"]["kind"], line["patient_id"]) for line in story.trail.lines] == [("draft", story.patient_id)]


def test_31_the_account_sees_who_read_and_nobody_else_does(api: Api, story: Story) -> None:
    story.book()
    story.pay()
    api.get("/visits/v1/condition", DOCTOR + "/doctor")
    path = f"/patients/{story.patient_id}/readings"
    [reading] = api.get(path, f"{story.account}/patient").json["readings"]
    assert (reading["subject"], reading["roles"], reading["kind"]) == (DOCTOR, ["doctor"], "condition")
    assert api.get(path, "stranger/patient").status_code == 404
