"""Reading: the lists of a patient and a doctor (a projection), and pages of a conversation (straight from the log)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from eventkit.clock import rfc3339
from eventkit.core import Core
from eventkit.events import Recorded
from eventkit.mongo_store import CODEC, DURABLE, commits_of, to_event
from eventkit.store import LoggedEvent, StoreUnavailable, position
from eventkit.views import apply_once
from services.consult import sentences
from services.consult.domain import OPEN
from services.consult.events import (
    PRIVATE,
    ConsultAbandoned,
    ConsultAccepted,
    ConsultCancelled,
    ConsultDeclined,
    ConsultFinished,
    ConsultMissed,
    ConsultScheduled,
    MessagePosted,
)
from services.consult.handlers import conversation_stream

PAGE = 50
LISTED = 100
MARKS = "marks"
_STATES: dict[type[Any], str] = {
    ConsultDeclined: "declined",
    ConsultMissed: "missed",
    ConsultAbandoned: "abandoned",
    ConsultCancelled: "cancelled",
}


class Consults:
    """One document a visit: ids, times, states, no words (§31)."""

    def __init__(self, core: Core) -> None:
        self._consults = core.database.get_collection("consults", codec_options=CODEC, write_concern=DURABLE)

    def ensure_indexes(self) -> None:
        self._consults.create_index([("account_id", ASCENDING), ("starts_at", DESCENDING)], name="of_account")
        self._consults.create_index(
            [("doctor_id", ASCENDING), ("day", DESCENDING), ("starts_at", ASCENDING)], name="of_doctor"
        )

    def view(self, recorded: Recorded) -> None:
        if isinstance(recorded.event, PRIVATE):
            return
        apply_once(
            self._consults, recorded.event.visit_id, recorded.stream, recorded.version, _change(recorded.event)
        )

    def of_account(self, account_id: str, day: date | None) -> list[dict[str, Any]]:
        """The patient's side of «me → visits» (§17), newest first, at most LISTED."""
        return self._find({"account_id": account_id}, day, DESCENDING)

    def of_doctor(self, doctor_id: str, day: date | None) -> list[dict[str, Any]]:
        return self._find({"doctor_id": doctor_id}, day, DESCENDING)

    def queue(self, doctor_id: str, day: date, now: datetime) -> list[dict[str, Any]]:
        """What of `day` still needs the doctor, by slot; `waiting_seconds` since the slot's time."""
        visits = self._find({"doctor_id": doctor_id, "state": {"$in": list(OPEN)}}, day, ASCENDING)
        for visit in visits:
            if visit["state"] == "waiting":
                waited = (now - datetime.fromisoformat(visit["starts_at"])).total_seconds()
                visit["waiting_seconds"] = max(0, int(waited))
        return visits

    def schedule(self, doctor_id: str, first: date, days: int) -> list[dict[str, Any]]:
        """The doctor's visits of `days` days from `first`, by day and slot; days without visits are left out, and what
        ended without care."""
        wanted = {
            "doctor_id": doctor_id,
            "day": {"$gte": first.isoformat(), "$lt": (first + timedelta(days=days)).isoformat()},
            "state": {"$in": [*OPEN, "finished"]},
        }
        visits = self._find(wanted, None, ASCENDING, days * LISTED)
        return [{"day": day, "visits": list(of_day)} for day, of_day in groupby(visits, key=itemgetter("day"))]

    def _find(
        self, wanted: dict[str, Any], day: date | None, order: int, most: int = LISTED
    ) -> list[dict[str, Any]]:
        if day is not None:
            wanted["day"] = day.isoformat()
        try:
            return [_listed(found) for found in self._consults.find(wanted).sort("starts_at", order).limit(most)]
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error


def _change(event: Any) -> Mapping[str, Any]:
    match event:
        case ConsultScheduled():
            return {"$set": {
                "account_id": event.account_id, "patient_id": event.patient_id, "doctor_id": event.doctor_id,
                "day": event.day.isoformat(), "starts_at": event.starts_at, "state": "waiting",
            }}
        case MessagePosted():
            change: dict[str, Any] = {"$set": {"messages": event.number, "last_posted_at": event.posted_at}}
            if event.sender == "patient":
                change["$min"] = {"unanswered_since": event.posted_at}
            elif event.sender == "doctor":
                change["$unset"] = {"unanswered_since": ""}
            if event.prescription_id is not None:
                change["$addToSet"] = {"prescription_ids": event.prescription_id}
            return change
        case ConsultAccepted():
            return {"$set": {"state": "accepted", "accepted_at": event.accepted_at}}
        case ConsultFinished():
            return {"$set": {"state": "finished", "finished_at": event.finished_at}}
        case ConsultDeclined() | ConsultCancelled():
            return {"$set": {"state": _STATES[type(event)], "reason": event.reason}}
        case _:
            return {"$set": {"state": _STATES[type(event)]}}


def _listed(found: dict[str, Any]) -> dict[str, Any]:
    listed = {name: found[name] for name in ("state", "patient_id", "account_id", "doctor_id", "day")}
    listed |= {
        "visit_id": found["_id"], "starts_at": rfc3339(found["starts_at"]), "messages": found.get("messages", 0)
    }
    for instant in ("unanswered_since", "last_posted_at", "accepted_at", "finished_at"):
        if instant in found:
            listed[instant] = rfc3339(found[instant])
    for name in ("reason", "prescription_ids"):
        if name in found:
            listed[name] = found[name]
    return listed


class Messages:
    """A conversation as its people read it. Only what a majority of the replica set holds is shown: a message that a
    failover could take back would leave a reader with a number that later means another message."""

    def __init__(self, core: Core) -> None:
        self._commits = commits_of(core.database).with_options(read_concern=ReadConcern("majority"))
        self._registry = core.registry
        self._vault = core.vault

    def page(self, visit_id: str, after: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """The messages numbered from `after` + 1, at most `limit`, in order. Raises StoreUnavailable."""
        stream = conversation_stream(visit_id)
        first, last = position(stream, after + 1), position(stream, after + limit)
        try:
            found = list(self._commits.find({"positions": {"$elemMatch": {"$gte": first, "$lte": last}}}))
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error
        logged = (
            to_event(event)
            for document in found
            for event in document["events"]
            if event["stream"] == stream and after < event["version"] <= after + limit
        )
        return [self._message(event) for event in sorted(logged, key=lambda event: event.version)]

    def _message(self, logged: LoggedEvent) -> dict[str, Any]:
        private = (
            self._vault.open(logged.person, logged.sealed, logged.position)
            if logged.sealed is not None and logged.person is not None
            else None
        )
        event: MessagePosted = self._registry.decode(logged.type, logged.data, private)
        message: dict[str, Any] = {
            "number": event.number, "message_id": event.message_id, "sender": event.sender, "kind": event.kind,
            "posted_at": rfc3339(event.posted_at),
        }
        if event.prescription_id is not None:
            message["prescription_id"] = event.prescription_id
            message["text"], message["text_en"] = sentences.PRESCRIPTION
        elif event.notice is not None:
            message["notice"] = event.notice
            message["text"], message["text_en"] = sentences.NOTICES[event.notice]
        elif event.call is not None:
            message["call_id"], message["call"] = event.call_id, event.call
            message["text"], message["text_en"] = sentences.CALLS[event.call]
        elif event.media_id is not None:
            message["media_id"] = event.media_id
            if event.milliseconds is not None:
                message["milliseconds"] = event.milliseconds
        elif event.text is not None:
            message["text"] = event.text
        return message


class Marks:
    """How far each side has received and read a conversation: `marks: {_id: visit_id, patient: {delivered, read},
    doctor: {…}}`, numbers of messages. They only grow, so that repeated and reordered marks change nothing."""

    def __init__(self, core: Core) -> None:
        self._marks = core.database.get_collection(MARKS, write_concern=DURABLE, read_concern=ReadConcern("majority"))

    def set(self, visit_id: str, side: str, delivered: int, read: int) -> None:
        """What is read has been received. Raises StoreUnavailable."""
        try:
            self._marks.update_one(
                {"_id": visit_id},
                {"$max": {f"{side}.delivered": max(delivered, read), f"{side}.read": read}},
                upsert=True,
            )
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error

    def unread(self, visits: Sequence[dict[str, Any]], side: str) -> list[dict[str, Any]]:
        """The listed visits with how many messages this side has not read. Raises StoreUnavailable."""
        try:
            found = {m["_id"]: m for m in self._marks.find({"_id": {"$in": [v["visit_id"] for v in visits]}})}
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error
        read = {visit_id: marks.get(side, {}).get("read", 0) for visit_id, marks in found.items()}
        return [{**v, "unread": max(0, v["messages"] - read.get(v["visit_id"], 0))} for v in visits]

    def of(self, visit_id: str) -> dict[str, dict[str, int]]:
        """{patient: {delivered, read}, doctor: {delivered, read}}. Raises StoreUnavailable."""
        try:
            found = self._marks.find_one({"_id": visit_id}) or {}
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error
        return {side: found.get(side, {"delivered": 0, "read": 0}) for side in ("patient", "doctor")}
