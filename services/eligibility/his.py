"""The HIS as `partners/his` speaks it: which outpatient visits it has on record (§2)."""

from __future__ import annotations

from datetime import date
from urllib.parse import quote

from environs import Env

from eventkit.calls import Peer, PeerRefused
from eventkit.signing import partner_secret, signed_with
from services.eligibility.domain import OutpatientVisit


class His:
    def __init__(self, env: Env) -> None:
        """Raises EnvError naming the setting."""
        self._peer = Peer("his", env.str("FUZHEN_HIS_URL"), headers=signed_with(partner_secret(env, "his-api")))

    def outpatient_visits(self, his_patient_id: str, since: date) -> list[OutpatientVisit]:
        """On or after `since`; none for somebody the HIS does not know. Raises Unanswered, PeerRefused."""
        try:
            found = self._peer.get(
                f"/patients/{quote(his_patient_id, safe='')}/outpatient-visits", since=since.isoformat()
            )
        except PeerRefused as refused:
            if refused.code == "no_such_patient":
                return []
            raise
        return [OutpatientVisit(row["record_id"], date.fromisoformat(row["visited_on"])) for row in found["records"]]
