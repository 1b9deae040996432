"""What is listed: sessions with the states of their slots (§9), an account's visits (§17) and drafts (§10). No
personal values.

    sessions: {_id, doctor_id, department_id, title, day, starts_at, ends_at, fee_fen, cancelled?,
               slots: {slot_id: {starts_at, state: open | held | sold}}}
    visits:   {_id, account_id, patient_id, doctor_id, department_id, session_id, slot_id, day, starts_at, entrance,
               card_kind, fee_fen, hold_until, state, photo_ids}
    drafts:   {_id, account_id, patient_id, session_id?, slot_id?, saved_at, submitted?}
"""

from __future__ import annotations

from datetime import date
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database

from eventkit.clock import rfc3339
from eventkit.events import Recorded
from eventkit.views import apply_once
from services.registration.domain.sessions import slot_stream
from services.registration.events import (
    DraftSaved,
    DraftSubmitted,
    OfferEnded,
    SessionCancelled,
    SessionOpened,
    SlotHeld,
    SlotOffered,
    SlotReleased,
    SlotSold,
    VisitAccepted,
    VisitBooked,
    VisitDescribed,
    VisitFinished,
    VisitLapsed,
    VisitRequested,
    VisitWithdrawn,
)

Row = dict[str, Any]
_SLOT_STATES: dict[type, str] = {
    SlotHeld: "held", SlotSold: "sold", SlotReleased: "open", OfferEnded: "open",
    SlotOffered: "held",  # for who waited: nobody else can have it
}
_VISIT_STATES: dict[type, str] = {
    VisitBooked: "booked",
    VisitAccepted: "accepted",
    VisitFinished: "finished",
    VisitLapsed: "lapsed",
    VisitWithdrawn: "withdrawn",
}

OPEN_STATES = ("held", "booked", "accepted")


class ReadModel:
    def __init__(self, database: Database[Row]) -> None:
        self._sessions = database["sessions"]
        self._visits = database["visits"]
        self._drafts = database["drafts"]

    def ensure_indexes(self) -> None:
        self._sessions.create_index([("day", ASCENDING), ("doctor_id", ASCENDING)], name="day_doctor")
        self._visits.create_index([("account_id", ASCENDING), ("starts_at", DESCENDING)], name="account")
        self._visits.create_index([("patient_id", ASCENDING), ("day", DESCENDING)], name="patient")
        self._visits.create_index([("photo_ids", ASCENDING), ("doctor_id", ASCENDING)], name="photo")
        self._drafts.create_index([("account_id", ASCENDING), ("saved_at", DESCENDING)], name="account")

    # --- following own events

    def sessions_view(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, SessionOpened):
            document = {
                "doctor_id": event.doctor_id,
                "department_id": event.department_id,
                "title": event.title,
                "day": event.day.isoformat(),
                "starts_at": rfc3339(event.starts_at),
                "ends_at": rfc3339(event.ends_at),
                "fee_fen": event.fee_fen,
                "slots": {
                    slot.slot_id: {"starts_at": rfc3339(slot.starts_at), "state": "open"} for slot in event.slots
                },
            }
            apply_once(self._sessions, event.session_id, recorded.stream, recorded.version, {"$set": document})
        elif isinstance(event, SessionCancelled):
            change = {"$set": {"cancelled": True}}
            apply_once(self._sessions, event.session_id, recorded.stream, recorded.version, change)
        elif (state := _SLOT_STATES.get(type(event))) and recorded.stream == slot_stream(event.slot_id):
            change = {"$set": {f"slots.{event.slot_id}.state": state}}
            apply_once(self._sessions, event.session_id, recorded.stream, recorded.version, change)

    def visits_view(self, recorded: Recorded) -> None:
        event = recorded.event
        change: Row
        if isinstance(event, VisitRequested):
            change = {
                "account_id": event.account_id,
                "patient_id": event.patient_id,
                "doctor_id": event.doctor_id,
                "department_id": event.department_id,
                "session_id": event.session_id,
                "slot_id": event.slot_id,
                "day": event.day.isoformat(),
                "starts_at": rfc3339(event.starts_at),
                "entrance": event.entrance,
                "card_kind": event.card_kind,
                "fee_fen": event.fee_fen,
                "hold_until": rfc3339(event.hold_until),
                "state": "held",
            }
        elif isinstance(event, VisitDescribed):
            change = {"photo_ids": list(event.photo_ids)}
        elif state := _VISIT_STATES.get(type(event)):
            change = {"state": state}
        else:
            return
        apply_once(self._visits, event.visit_id, recorded.stream, recorded.version, {"$set": change})

    def drafts_view(self, recorded: Recorded) -> None:
        event = recorded.event
        change: Row
        if isinstance(event, DraftSaved):
            change = {
                "account_id": event.account_id, "patient_id": event.patient_id, "saved_at": rfc3339(recorded.time),
            }
            change |= {part: value for part in ("session_id", "slot_id") if (value := getattr(event, part)) is not None}
        elif isinstance(event, DraftSubmitted):
            change = {"submitted": True}
        else:
            return
        apply_once(self._drafts, event.draft_id, recorded.stream, recorded.version, {"$set": change})

    # --- queries

    def sessions(self, today: str, doctor_id: str | None, day: str | None) -> list[Row]:
        """From `today` on, or those of `day`; the earliest first."""
        wanted: Row = {"day": day or {"$gte": today}}
        if doctor_id is not None:
            wanted["doctor_id"] = doctor_id
        return [_session(row) for row in self._sessions.find(wanted).sort("starts_at", ASCENDING).limit(200)]

    def visits_of(self, account_id: str) -> list[Row]:
        """The order centre: the latest first."""
        rows = self._visits.find({"account_id": account_id}).sort("starts_at", DESCENDING).limit(200)
        return [{"visit_id": row.pop("_id"), **row} for row in rows]

    def care_of(self, patient_id: str) -> tuple[bool, date | None]:
        """-> whether a visit of the patient is still open, and the day of the latest one, however it ended."""
        ongoing = self._visits.find_one({"patient_id": patient_id, "state": {"$in": list(OPEN_STATES)}})
        last = self._visits.find_one({"patient_id": patient_id}, sort=[("day", DESCENDING)])
        return ongoing is not None, date.fromisoformat(last["day"]) if last else None

    def drafts_of(self, account_id: str) -> list[Row]:
        """Those not submitted, the last saved first."""
        wanted = {"account_id": account_id, "submitted": {"$exists": False}}
        rows = self._drafts.find(wanted).sort("saved_at", DESCENDING).limit(50)
        return [{"draft_id": row.pop("_id"), **row} for row in rows]

    def visits_showing(self, photo_id: str, doctor_id: str) -> list[str]:
        """Visits with this doctor to which the patient added the photo."""
        found = self._visits.find({"photo_ids": photo_id, "doctor_id": doctor_id}, {"_id": 1})
        return [row["_id"] for row in found]


def _session(row: Row) -> Row:
    cancelled = row.get("cancelled", False)
    closed = {"state": "closed"} if cancelled else {}
    slots = [{"slot_id": slot_id, **slot, **closed} for slot_id, slot in row["slots"].items()]
    return {
        "session_id": row["_id"],
        **row,
        "state": "cancelled" if cancelled else "open",
        "slots": sorted(slots, key=lambda slot: slot["starts_at"]),
    }
