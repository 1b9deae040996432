"""§32: a wish to be erased restricts while the law keeps the records, and erases after it; what happened stays."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from eventkit.clock import shanghai_day
from services.registration.events import PatientErased, PatientRestricted, VisitRequested
from services.registration.policy import records_end
from tests.unit.registration.story import DOCTOR
from tests.unit.registration.test_handlers import Story
from tests.unit.registration.test_http import Api, api, application, booking, client, story

__all__ = ["api", "application", "client", "story"]


def ask(api: Api, story: Story, who: str = "") -> Any:
    return api.post(f"/patients/{story.patient_id}/erasure", f"{who or story.account}/patient")


def said(story: Story, kind: type[Any]) -> list[Any]:
    return [event for event in story.events() if isinstance(event, kind)]


@pytest.mark.parametrize(("visited", "end"), [
    (date(2026, 11, 24), date(2041, 11, 24)), (date(2028, 2, 29), date(2043, 3, 1)),
])  # fmt: skip
def test_32_records_are_kept_fifteen_years(visited: date, end: date) -> None:
    assert records_end(visited) == end


def test_32_while_a_visit_is_open_nothing_is_restricted(api: Api, story: Story) -> None:
    story.book()
    answer = ask(api, story)
    assert (answer.status_code, answer.json["code"]) == (409, "care_ongoing")
    assert said(story, PatientRestricted) == []


def test_32_after_a_visit_the_patient_is_restricted_until_the_law_lets_go(api: Api, story: Story) -> None:
    patient = f"{story.account}/patient"
    story.book()
    api.post("/visits/v1/withdrawal", patient)
    [visit] = said(story, VisitRequested)
    day = records_end(visit.day)
    assert ask(api, story).json == {"patient_id": story.patient_id, "state": "restricted", "until": day.isoformat()}
    assert ask(api, story).json["until"] == day.isoformat()
    assert len(said(story, PatientRestricted)) == 1
    refused = api.post("/visits", patient, booking(story))
    assert (refused.status_code, refused.json["code"]) == (409, "patient_restricted")
    assert api.get(f"/patients/{story.patient_id}", patient).json["restricted_until"] == day.isoformat()


def test_32_foreign_is_as_absent(api: Api, story: Story) -> None:
    assert ask(api, story, "a9").status_code == 404
    assert said(story, PatientRestricted) == []


def test_32_doctors_are_not_shown_a_restricted_patient(api: Api, story: Story) -> None:
    story.book()
    story.pay()
    assert api.get("/visits/v1/condition", f"{DOCTOR}/doctor").status_code == 200
    story.trail.restrict(story.patient_id)  # as the view does when PatientRestricted is in the log
    assert api.get("/visits/v1/condition", f"{DOCTOR}/doctor").status_code == 404
    assert api.get("/visits/v1/condition", f"{story.account}/patient").status_code == 200
    assert api.get("/internal/visits/v1", "service:payment/service").status_code == 200


def test_32_after_the_legal_time_the_key_goes_and_what_happened_stays(api: Api, story: Story) -> None:
    patient = f"{story.account}/patient"
    story.book()
    api.post("/visits/v1/withdrawal", patient)
    ask(api, story)
    [due] = [due for due in story.due() if due.job == "erase_patient"]
    assert shanghai_day(due.at) == records_end(said(story, VisitRequested)[0].day)
    before = len(story.events())
    story.clock.instant = due.at - timedelta(microseconds=1)
    assert not story.erasure.erase(story.asked("jobs"), story.patient_id)
    story.clock.instant = due.at
    for _ in range(2):
        assert story.erasure.erase(story.asked("jobs"), story.patient_id)
    assert len(story.events()) == before + 1
    assert len(said(story, PatientErased)) == 1
    assert api.get(f"/patients/{story.patient_id}", patient).status_code == 404
    assert api.get("/patients", patient).json == {"patients": []}
    assert api.get("/visits/v1/condition", patient).status_code == 404
    assert api.get("/visits/v1", patient).json["fee_fen"] == 5000
    assert api.get(f"/internal/patients/{story.patient_id}", "service:his/his").status_code == 404


def test_32_who_never_had_a_visit_is_erased_in_two_days(api: Api, story: Story) -> None:
    assert ask(api, story).json["until"] == (shanghai_day(story.clock.now()) + timedelta(days=2)).isoformat()
