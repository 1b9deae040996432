"""The account's wish that a patient be erased (§32): restricted while the law keeps the records, erased after it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Protocol

from eventkit.auth import Caller
from eventkit.clock import day_end, shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.store import Answer, Decision, Due, Histories, Request, fold
from services.registration.domain import people
from services.registration.handlers.people import patient_stream
from services.registration.policy import records_end

GRACE = timedelta(days=2)  # so that a visit which is being booked at this very moment is seen before anything is erased


class CareGiven(Protocol):
    def care_of(self, patient_id: str) -> tuple[bool, date | None]:
        """-> whether a visit is still open, and the day of the latest."""
        ...


class Erasure:
    def __init__(self, core: Core, care: CareGiven) -> None:
        self._core = core
        self._care = care

    def ask(self, request: Request, caller: Caller, patient_id: str) -> Answer:
        """Restricts at once and names the day of the erasure; asked again it says the same.
        Raises Refusal("not_found" | "care_ongoing")."""
        stream = patient_stream(patient_id)
        ongoing, last = self._care.care_of(patient_id)

        def decide(histories: Histories) -> Decision:
            state = fold(people.evolve, None, histories[stream])
            if state is None or state.erased or state.added.account_id != caller.subject:
                raise Refusal("not_found")
            restricted = people.restrict(state, ongoing=ongoing, until=self._until(last))
            until = restricted.until
            return Decision(
                [(stream, restricted)] if state.restricted is None else [],
                due=[Due(f"erase:{patient_id}", day_end(until - timedelta(days=1)), "erase_patient",
                         {"patient_id": patient_id})],
                answer=Answer(202, {"patient_id": patient_id, "state": "restricted", "until": until.isoformat()}),
            )  # fmt: skip

        return self._core.store.execute(request, [stream], decide)

    def erase(self, request: Request, patient_id: str) -> bool:
        """Whether the patient is erased now. Not before the law lets go of the last visit, even of one that was being
        booked when the erasure was asked for. The key goes first: what is told is true."""
        stream = patient_stream(patient_id)
        now = self._core.clock.now()
        ongoing, last = self._care.care_of(patient_id)
        if ongoing or (last is not None and shanghai_day(now) < records_end(last)):
            return False
        self._core.vault.erase(patient_id, now)

        def decide(histories: Histories) -> Decision:
            state = fold(people.evolve, None, histories[stream])
            if state is None:
                raise Refusal("not_found")
            return Decision([(stream, event) for event in people.erase(state, now)], answer=Answer(200, {}))

        self._core.store.execute(request, [stream], decide)
        return True

    def _until(self, last: date | None) -> date:
        soon = shanghai_day(self._core.clock.now() + GRACE)
        return soon if last is None else max(soon, records_end(last))
