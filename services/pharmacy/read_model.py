"""The pharmacist's queue, which follows the log. All other questions are answered from the log itself.

    prescriptions: {_id, visit_id, doctor_id, kind, amount_fen, signed_at, valid_until, state}
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo import ASCENDING
from pymongo.database import Database

from eventkit.clock import rfc3339
from eventkit.core import Core
from eventkit.events import Recorded
from eventkit.mongo_store import CODEC
from eventkit.views import apply_once
from services.pharmacy.domain.prescription import DISPENSED, EXPIRED, IN_REVIEW, ISSUED, RETURNED, VOIDED
from services.pharmacy.events import (
    PrescriptionDispensed,
    PrescriptionExpired,
    PrescriptionIssued,
    PrescriptionReturned,
    PrescriptionSigned,
    PrescriptionVoided,
)

QUEUE_LENGTH = 100
_STATES = {
    PrescriptionReturned: RETURNED,
    PrescriptionIssued: ISSUED,
    PrescriptionVoided: VOIDED,
    PrescriptionExpired: EXPIRED,
    PrescriptionDispensed: DISPENSED,
}


def prepare(core: Core) -> None:
    core.database["prescriptions"].create_index([("state", ASCENDING), ("signed_at", ASCENDING)], name="queue")


class Queue:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._rows = database.get_collection("prescriptions", codec_options=CODEC)

    def follow(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, PrescriptionSigned):
            shown = {
                "visit_id": event.visit_id,
                "doctor_id": event.doctor_id,
                "kind": event.kind,
                "amount_fen": event.amount_fen,
                "signed_at": event.signed_at,
                "valid_until": event.valid_until,
                "state": IN_REVIEW,
            }
        elif (state := _STATES.get(type(event))) is not None:
            shown = {"state": state}
        else:
            return
        apply_once(self._rows, event.prescription_id, recorded.stream, recorded.version, {"$set": shown})

    def waiting(self, now: datetime) -> list[dict[str, Any]]:
        """What waits for a pharmacist and can still be reviewed, the oldest first, QUEUE_LENGTH at most."""
        rows = self._rows.find({"state": IN_REVIEW, "valid_until": {"$gt": now}}).sort("signed_at").limit(QUEUE_LENGTH)
        return [
            {
                "prescription_id": row["_id"],
                "visit_id": row["visit_id"],
                "doctor_id": row["doctor_id"],
                "kind": row["kind"],
                "amount_fen": row["amount_fen"],
                "signed_at": rfc3339(row["signed_at"]),
                "valid_until": rfc3339(row["valid_until"]),
            }
            for row in rows
        ]
