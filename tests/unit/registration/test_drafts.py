"""§10: a booking saved in parts, resumed, and submitted once."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from eventkit.auth import Caller
from eventkit.events import Refusal
from services.registration.domain import drafts
from services.registration.domain.drafts import Draft
from services.registration.events import DraftSaved, DraftSubmitted
from tests.unit.registration.story import BOOK, NOTICE, VISIT
from tests.unit.registration.test_handlers import Story

WHOLE: dict[str, Any] = {part: getattr(BOOK, part) for part in drafts.PARTS}


def saved(**parts: Any) -> DraftSaved:
    return DraftSaved("d1", "a1", "p1", **parts)


def draft(*events: Any) -> Draft:
    state: Draft | None = reduce(drafts.evolve, events, None)
    assert state is not None
    return state


def test_s10_parts_add_up_and_the_last_word_counts() -> None:
    given = draft(saved(chief_complaint="胃痛", stable=True), saved(chief_complaint="", photo_ids=("ph1",)))
    assert given.parts == {"chief_complaint": "", "stable": True, "photo_ids": ("ph1",)}
    assert draft(saved(stable=True), saved(stable=False)).parts == {"stable": False}


def test_s10_a_whole_draft_is_the_booking() -> None:
    assert drafts.booking(draft(saved(**WHOLE)), VISIT) == BOOK


@pytest.mark.parametrize("left_out", [part for part in drafts.PARTS if part not in drafts._MAY_BE_LEFT_OUT])
def test_s10_what_is_missing_is_named(left_out: str) -> None:
    with pytest.raises(Refusal, match="draft_incomplete") as refusal:
        drafts.booking(draft(saved(**{part: value for part, value in WHOLE.items() if part != left_out})), VISIT)
    assert refusal.value.facts["errors"] == {left_out: ["missing"]}


def test_s10_history_allergies_and_photos_may_be_left_out() -> None:
    booked = drafts.booking(
        draft(saved(**{part: value for part, value in WHOLE.items() if part not in drafts._MAY_BE_LEFT_OUT})), VISIT
    )
    assert (booked.photo_ids, booked.past_history, booked.allergies) == ((), "", "")


def test_s10_a_submitted_draft_is_closed() -> None:
    closed = draft(saved(**WHOLE), DraftSubmitted("d1", "v1"))
    with pytest.raises(Refusal, match="draft_submitted"):
        drafts.save(closed, {"stable": True})
    with pytest.raises(Refusal, match="draft_submitted"):
        drafts.submit(closed, "v2")


@pytest.fixture
def story() -> Story:
    return Story()


def parts(story: Story, slot: int = 1, **change: Any) -> dict[str, Any]:
    command = story.command(slot=slot, **change)
    return {part: getattr(command, part) for part in drafts.PARTS}


def caller(story: Story) -> Caller:
    return Caller(story.account, frozenset({"patient"}))


def begin(story: Story, given: dict[str, Any]) -> str:
    answer = story.drafts.begin(story.asked(story.account), caller(story), story.patient_id, given)
    return str(answer.body["draft_id"])


def submit(story: Story, draft_id: str, key: str | None = None) -> Any:
    return story.drafts.submit(story.asked(story.account, key), caller(story), draft_id)


def test_s10_saved_in_parts_resumed_and_submitted_in_the_visits_insert(story: Story) -> None:
    whole = parts(story)
    draft_id = begin(story, {"session_id": whole["session_id"], "slot_id": whole["slot_id"]})
    answer = story.drafts.save(story.asked(story.account), caller(story), draft_id, {"notice_version": NOTICE})
    assert "notice_version" not in answer.body["missing"]
    story.drafts.save(story.asked(story.account), caller(story), draft_id, whole)
    assert story.slot() == "open", "a draft holds nothing"
    held = submit(story, draft_id, key="k")
    assert submit(story, draft_id, key="k") == held
    assert story.state(held.body["visit_id"]) == "held"
    assert story.backend.commits[-1].events[-1].type.endswith("DraftSubmitted.v1")
    assert story.drafts.draft(caller(story), draft_id).visit_id == held.body["visit_id"]
    with pytest.raises(Refusal, match="draft_submitted"):
        submit(story, draft_id)


def test_s10_refused_it_stays_and_goes_through_with_another_slot(story: Story) -> None:
    draft_id = begin(story, parts(story))
    story.sessions.session(story.session_id)
    other = story.log_in("19900000009")
    patient = story.patient(other, "P00000002")
    story.bind(other, patient)
    story.book("v9", account_id=other, patient_id=patient)
    with pytest.raises(Refusal, match="slot_taken"):
        submit(story, draft_id)
    story.drafts.save(
        story.asked(story.account), caller(story), draft_id, {"slot_id": f"{story.session_id}-02"}
    )
    assert submit(story, draft_id).status == 201


def test_s10_submitted_on_two_devices_at_once_it_is_one_visit(story: Story) -> None:
    draft_id = begin(story, parts(story))
    story.backend.first = lambda: submit(story, draft_id)
    with pytest.raises(Refusal):
        submit(story, draft_id)
    assert [envelope.name for envelope in story.published()].count("VisitRequested") == 1


def test_s31_a_foreign_draft_is_not_there_and_its_words_are_sealed(story: Story) -> None:
    draft_id = begin(story, parts(story))
    with pytest.raises(Refusal, match="not_found"):
        story.drafts.draft(Caller("a9", frozenset({"patient"})), draft_id)
    with pytest.raises(Refusal, match="not_found"):
        story.drafts.begin(story.asked("a9"), Caller("a9", frozenset({"patient"})), story.patient_id, {})
    assert "胃脘" not in str(story.backend.commits[-1].events[0].data)
    story.sealer.erased.add(story.patient_id)
    assert "chief_complaint" in story.drafts.draft(caller(story), draft_id).missing
