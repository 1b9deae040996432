"""What every service that holds personal values does when registration restricts or erases a patient (§32)."""

from __future__ import annotations

from collections.abc import Mapping

from eventkit.core import Core
from eventkit.envelope import Envelope
from eventkit.inbox import Handler


def erasing(core: Core) -> Mapping[str, Handler]:
    """For the service's own `policies` group. Both effects are the same however often the event comes."""

    def restricted(envelope: Envelope) -> None:
        core.audit.restrict(envelope.data["patient_id"])

    def erased(envelope: Envelope) -> None:
        core.vault.erase(envelope.data["patient_id"], core.clock.now())

    return {"PatientRestricted": restricted, "PatientErased": erased}
