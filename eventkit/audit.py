"""Who read what about whom (§31): a line for every read of a patient's data, written before the answer is given.

`audit: {_id, at, patient_id, account_id, who: {subject, roles}, what: {operation, kind, id?}, request_id}`, in each
service's own database. Lines are only ever inserted, and MongoDB removes them after six months (§32). They hold ids
and no personal value. A line that cannot be written is an answer that is not given: PyMongoError becomes a 503.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Protocol

from flask import g, request
from flask.views import MethodView
from marshmallow import Schema, fields
from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database

from eventkit.clock import Clock, rfc3339
from eventkit.events import Refusal
from eventkit.mongo_store import CODEC, DURABLE
from eventkit.web import Routes, caller, correlation_id

KEPT = timedelta(days=184)  # the longest six calendar months (§32)
SHOWN = 200
LINK = "link"  # who reads by a signed link has no token: whoever was given the link is in the line about the link

Line = dict[str, Any]


class OfPatient(Protocol):
    """Whatever says whose record it is: most events do."""

    @property
    def patient_id(self) -> str: ...
    @property
    def account_id(self) -> str: ...


class Trail(Protocol):
    """Where the lines are kept."""

    def insert(self, lines: list[Line]) -> None: ...
    def of_patient(self, patient_id: str, account_id: str) -> list[Line]: ...
    def restrict(self, patient_id: str) -> None: ...
    def restricted(self, patient_id: str) -> bool: ...


class MongoTrail:
    """Durable before it returns. Raises PyMongoError."""

    def __init__(self, database: Database[Line]) -> None:
        self._lines = database.get_collection(
            "audit", codec_options=CODEC, write_concern=DURABLE
        )
        self._restricted = database.get_collection("restrictions", write_concern=DURABLE)

    def ensure_indexes(self) -> None:
        self._lines.create_index("at", name="kept", expireAfterSeconds=int(KEPT.total_seconds()))
        self._lines.create_index(
            [("patient_id", ASCENDING), ("account_id", ASCENDING), ("at", DESCENDING)], name="of_patient"
        )

    def insert(self, lines: list[Line]) -> None:
        self._lines.insert_many(lines)

    def of_patient(self, patient_id: str, account_id: str) -> list[Line]:
        wanted = {"patient_id": patient_id, "account_id": account_id}
        return list(self._lines.find(wanted).sort("at", DESCENDING).limit(SHOWN))

    def restrict(self, patient_id: str) -> None:
        self._restricted.update_one({"_id": patient_id}, {"$set": {}}, upsert=True)

    def restricted(self, patient_id: str) -> bool:
        return self._restricted.find_one({"_id": patient_id}) is not None


class MemoryTrail:
    """For unit tests."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._restricted: set[str] = set()

    def insert(self, lines: list[Line]) -> None:
        self.lines += lines

    def of_patient(self, patient_id: str, account_id: str) -> list[Line]:
        return [
            line for line in reversed(self.lines)
            if (line["patient_id"], line["account_id"]) == (patient_id, account_id)
        ]  # fmt: skip

    def restrict(self, patient_id: str) -> None:
        self._restricted.add(patient_id)

    def restricted(self, patient_id: str) -> bool:
        return patient_id in self._restricted


class Audit:
    """Called in a view once the caller may see the record, and before it is answered."""

    def __init__(self, trail: Trail, clock: Clock) -> None:
        self._trail = trail
        self._clock = clock

    def read(self, kind: str, record_id: str, of: OfPatient) -> None:
        """The caller is about to be shown record `record_id`. Raises PyMongoError; Refusal("not_found") for a doctor
        when the patient is restricted (§32). Pharmacists, cashiers and services still see what the law has them keep
        and what was begun before."""
        if "caller" in g and caller().has("doctor") and self._trail.restricted(of.patient_id):
            raise Refusal("not_found")
        self._write({"kind": kind, "id": record_id}, [(of.patient_id, of.account_id)])

    def read_list(self, kind: str, of: Iterable[tuple[str, str]]) -> None:
        """The caller is about to be shown a list: one line a patient in it. `of`: (patient_id, account_id) of each
        row. Raises PyMongoError."""
        self._write({"kind": kind}, dict.fromkeys(of))

    def restrict(self, patient_id: str) -> None:
        """From now on doctors are not shown this patient's records. Raises PyMongoError."""
        self._trail.restrict(patient_id)

    def readings(self, patient_id: str, account_id: str) -> list[Line]:
        """Who read what about a patient of `account_id`, the latest SHOWN, newest first."""
        return [
            {
                "at": rfc3339(line["at"]),
                "subject": line["who"]["subject"],
                "roles": line["who"]["roles"],
                "operation": line["what"]["operation"],
                "kind": line["what"]["kind"],
                **({"record_id": line["what"]["id"]} if "id" in line["what"] else {}),
                "request_id": line["request_id"],
            }
            for line in self._trail.of_patient(patient_id, account_id)
        ]

    def _write(self, what: Line, of: Iterable[tuple[str, str]]) -> None:
        known = "caller" in g
        lines = [
            {
                "at": self._clock.now(),
                "patient_id": patient_id,
                "account_id": account_id,
                "who": {"subject": caller().subject if known else LINK,
                        "roles": sorted(caller().roles) if known else []},
                "what": {"operation": f"{request.method} {request.url_rule}", **what},
                "request_id": correlation_id(),
            }
            for patient_id, account_id in of
        ]  # fmt: skip
        if lines:
            self._trail.insert(lines)


class ReadingSchema(Schema):
    at = fields.String(required=True)
    subject = fields.String(required=True, metadata={"description": "Account, doctor, pharmacist … or service"})
    roles = fields.List(fields.String(), required=True)
    operation = fields.String(required=True)
    kind = fields.String(required=True)
    record_id = fields.String()
    request_id = fields.String(required=True)


class ReadingsSchema(Schema):
    readings = fields.List(fields.Nested(ReadingSchema), required=True)


READING = {
    "at": "2026-11-24T01:02:03.000Z", "subject": "doctor-shen", "roles": ["doctor"],
    "operation": "GET /api/consult/visits/<visit_id>", "kind": "visit", "record_id": "6f1c…", "request_id": "0f3a…",
}


def add_readings(routes: Routes, audit: Callable[[], Audit]) -> None:
    """GET patients/{patient_id}/readings, with which a patient sees who read about them in this service (§31)."""

    @routes.route("/patients/<patient_id>/readings")
    class Readings(MethodView):
        @routes.access("patient")
        @routes.response(200, ReadingsSchema, example={"readings": [READING]})  # type: ignore[untyped-decorator]
        @routes.refuses("not_found", "unavailable")
        def get(self, patient_id: str) -> Any:
            """Who read what about one of my patients here in the last six months, the latest two hundred. Not found
            where nobody has read anything, as for a patient of others."""
            found = audit().readings(patient_id, caller().subject)
            if not found:
                raise Refusal("not_found")
            return {"readings": found}
