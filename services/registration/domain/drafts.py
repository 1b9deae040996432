"""A booking that is filled in part by part and submitted when it is whole (§10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.registration.domain.visits import BookVisit
from services.registration.events import DraftSaved, DraftSubmitted, Refusal

PARTS = (
    "card_id", "session_id", "slot_id", "entrance", "notice_version", "photo_ids", "follow_up", "stable", "emergency",
    "chief_complaint", "present_illness", "past_history", "allergies",
)
_MAY_BE_LEFT_OUT: Mapping[str, Any] = {"photo_ids": (), "past_history": "", "allergies": ""}


@dataclass(frozen=True, slots=True)
class Draft:
    """`parts` are those saved so far, each as it was saved last; `visit_id` once it was submitted."""

    draft_id: str
    account_id: str
    patient_id: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    visit_id: str = ""

    @property
    def missing(self) -> list[str]:
        return [part for part in PARTS if part not in self.parts and part not in _MAY_BE_LEFT_OUT]


def draft_stream(draft_id: str) -> str:
    return f"draft-{draft_id}"


def evolve(state: Draft | None, event: Any) -> Draft | None:
    match event:
        case DraftSaved():
            before = state or Draft(event.draft_id, event.account_id, event.patient_id)
            saved = {part: value for part in PARTS if (value := getattr(event, part)) is not None}
            return replace(before, parts={**before.parts, **saved})
        case DraftSubmitted(visit_id=visit_id) if state is not None:
            return replace(state, visit_id=visit_id)
    return state


def save(draft: Draft, parts: Mapping[str, Any]) -> DraftSaved:
    """What is named replaces what was saved of it; the rest stays. Raises Refusal("draft_submitted")."""
    if draft.visit_id:
        raise Refusal("draft_submitted")
    return DraftSaved(draft.draft_id, draft.account_id, draft.patient_id, **parts)


def booking(draft: Draft, visit_id: str) -> BookVisit:
    """The command that a draft comes to. Raises Refusal("draft_incomplete"), naming what is missing."""
    if draft.missing:
        raise Refusal("draft_incomplete", errors={part: ["missing"] for part in draft.missing})
    parts = {**_MAY_BE_LEFT_OUT, **draft.parts}
    return BookVisit(visit_id=visit_id, account_id=draft.account_id, patient_id=draft.patient_id, **parts)


def submit(draft: Draft | None, visit_id: str) -> DraftSubmitted:
    """One draft becomes one visit. Raises Refusal("draft_submitted")."""
    if draft is None or draft.visit_id:
        raise Refusal("draft_submitted")
    return DraftSubmitted(draft.draft_id, visit_id)
