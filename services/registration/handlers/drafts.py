"""Drafts of bookings (§10), each only for the account that began it (§31)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventkit.auth import Caller
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.store import Answer, Decision, Histories, Request, fold
from services.registration.domain import drafts
from services.registration.domain.drafts import Draft, draft_stream
from services.registration.handlers.booking import Booking
from services.registration.handlers.people import People


class Drafts:
    def __init__(self, core: Core, people: People, booking: Booking) -> None:
        self._core = core
        self._people = people
        self._booking = booking

    def begin(self, request: Request, caller: Caller, patient_id: str, parts: Mapping[str, Any]) -> Answer:
        """Raises Refusal("not_found") for a patient that is not the caller's."""
        self._people.patient(patient_id, caller.subject)
        return self._save(request, Draft(derived_id("draft", caller.subject, request.key or ""), caller.subject,
                                         patient_id), parts, status=201)

    def save(self, request: Request, caller: Caller, draft_id: str, parts: Mapping[str, Any]) -> Answer:
        """Raises Refusal("not_found" | "draft_submitted")."""
        return self._save(request, self.draft(caller, draft_id), parts, status=200)

    def submit(self, request: Request, caller: Caller, draft_id: str) -> Answer:
        """§10: submitted as it stands; when that is refused the draft stays, to be changed and submitted again.
        Raises Refusal: not_found, draft_incomplete, draft_submitted, those of Booking.book; Unanswered."""
        visit_id = derived_id("visit", caller.subject, request.key or "")
        command = drafts.booking(self.draft(caller, draft_id), visit_id)
        return self._booking.book(request, command, draft_id)

    def draft(self, caller: Caller, draft_id: str) -> Draft:
        """Raises Refusal("not_found")."""
        stream = draft_stream(draft_id)
        draft: Draft | None = fold(drafts.evolve, None, self._core.store.load(stream)[stream])
        if draft is None or draft.account_id != caller.subject:
            raise Refusal("not_found")
        return draft

    def _save(self, request: Request, draft: Draft, parts: Mapping[str, Any], status: int) -> Answer:
        stream = draft_stream(draft.draft_id)

        def decide(histories: Histories) -> Decision:
            saved = drafts.save(fold(drafts.evolve, None, histories[stream]) or draft, parts)
            after = drafts.evolve(draft, saved)
            missing = after.missing if after else []
            return Decision([(stream, saved)], answer=Answer(status, {"draft_id": draft.draft_id, "missing": missing}))

        return self._core.store.execute(request, [stream], decide)
