"""Who stands on the sheet: registration's to know, asked for when it is printed and kept nowhere here (§31)."""

from __future__ import annotations

from datetime import date
from urllib.parse import quote

from eventkit.calls import Peer, PeerRefused
from services.pharmacy.paper import Person


class People:
    def __init__(self, registration: Peer) -> None:
        self._registration = registration

    def patient(self, patient_id: str) -> Person:
        """Raises Unanswered: a sheet without a name is no prescription. Who is erased has none."""
        try:
            found = self._registration.get(f"/api/registration/internal/patients/{quote(patient_id, safe='')}")
        except PeerRefused as refused:
            if refused.status != 404:
                raise
            return Person(None)
        born = found.get("birth_date")
        return Person(found.get("name"), found.get("sex"), date.fromisoformat(born) if born else None)

    def doctor(self, doctor_id: str) -> str | None:
        """Raises Unanswered. None for a doctor who is no longer in the directory."""
        doctors = self._registration.get("/api/registration/doctors")["doctors"]
        return next((str(each["name"]) for each in doctors if each["doctor_id"] == doctor_id), None)
