"""What events only name by id, asked of the Internet hospital by its FHIR API with our own credentials (§31)."""

from urllib.parse import quote

from eventkit.calls import Peer, PeerRefused, ServiceToken, Unanswered
from partners.front import Refused
from partners.kit import Row

READ = {"Appointment": "registration", "Encounter": "consult"}
SEARCHED = {
    "Communication": "consult", "MedicationRequest": "pharmacy", "MedicationDispense": "pharmacy",
    "Invoice": "payment", "PaymentReconciliation": "payment",
}  # fmt: skip


class Records:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @classmethod
    def at(cls, public_url: str, token_url: str, client_secret: str) -> "Records":
        """Through the gateway, as any outsider."""
        return cls(Peer("internet-hospital", public_url, headers=ServiceToken(token_url, "his", client_secret)))

    def of_visit(self, visit_id: str) -> dict[str, list[Row]]:
        """FHIR resources by type; a type without any is an empty list. Raises Refused (502)."""
        found = {
            kind: self._ask(f"/api/{service}/fhir/{kind}/{quote(visit_id, safe='')}")
            for kind, service in READ.items()
        }
        for kind, service in SEARCHED.items():
            bundles = self._ask(f"/api/{service}/fhir/{kind}", encounter=visit_id)
            found[kind] = [entry["resource"] for bundle in bundles for entry in bundle.get("entry", [])]
        return found

    def _ask(self, path: str, **params: str) -> list[Row]:
        """One resource, or none where there is nothing (not yet, or not any more)."""
        try:
            return [self._peer.get(path, **params)]
        except PeerRefused as refused:
            if refused.status == 404:
                return []
            raise Refused(502, "internet_hospital_refused", f"HTTP {refused.status} {refused.code}") from refused
        except Unanswered as silence:
            raise Refused(502, "internet_hospital_silent", str(silence)) from silence
