"""Ask the HIS, decide, append."""

from __future__ import annotations

from eventkit.core import Core
from eventkit.store import Answer, Decision, Histories, Request
from services.eligibility.domain import Assess, RedFlags, assess, months_before
from services.eligibility.events import EligibilityRefused
from services.eligibility.his import His
from services.eligibility.policy import criteria_on


class Handlers:
    def __init__(self, core: Core, his: His, flags: RedFlags) -> None:
        self._core = core
        self._his = his
        self._flags = flags

    def assess(self, request: Request, command: Assess, his_patient_id: str) -> Answer:
        """200 with the evidence, or 422 with the codes that failed; asked again with the same key, the same answer.
        When the HIS does not answer nothing is written and nobody is refused. Raises Unanswered."""
        criteria = criteria_on(command.day)
        visits = self._his.outpatient_visits(his_patient_id, months_before(command.day, criteria.outpatient_months))
        stream = f"assessment-{command.assessment_id}"

        def decide(_: Histories) -> Decision:
            outcome = assess(command, visits, self._core.clock.now(), criteria, self._flags)
            if isinstance(outcome, EligibilityRefused):
                answer = Answer(422, {"failed": list(outcome.failed)})
            else:
                answer = Answer(200, {"assessment_id": outcome.assessment_id, "evidence_id": outcome.evidence_id})
            return Decision([(stream, outcome)], answer=answer)

        return self._core.store.execute(request, [stream], decide)
