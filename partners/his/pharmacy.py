"""The HIS as a client of the Internet hospital: it asks for a prescription by id with its own credentials (§31)."""

from urllib.parse import quote

from eventkit.calls import Peer, PeerRefused, ServiceToken, Unanswered
from partners.front import Refused
from partners.kit import Row


class Pharmacy:
    def __init__(self, token_url: str, pharmacy_url: str, client_secret: str) -> None:
        self._peer = Peer("pharmacy", pharmacy_url, headers=ServiceToken(token_url, "his", client_secret))

    def prescription(self, prescription_id: str) -> Row:
        """Raises Refused: 404 when the Internet hospital does not know it, 502 when it is silent or lets us not in."""
        try:
            found: Row = self._peer.get(f"/api/pharmacy/internal/prescriptions/{quote(prescription_id, safe='')}")
        except PeerRefused as refused:
            if refused.status == 404:
                raise Refused(404, "no_such_prescription", "the Internet hospital does not know it") from refused
            raise Refused(502, "internet_hospital_refused", f"HTTP {refused.status} {refused.code}") from refused
        except Unanswered as silence:
            raise Refused(502, "internet_hospital_silent", str(silence)) from silence
        return found
