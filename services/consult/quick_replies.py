"""Sentences that a doctor says often, one list a doctor: `quick_replies: {_id: doctor_id, replies: […]}`. They are the
doctor's own and name no patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import WriteConcern
from pymongo.database import Database

MOST = 50
LONGEST = 500


class QuickReplies:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._lists = database.get_collection("quick_replies", write_concern=WriteConcern(w="majority", j=True))

    def of(self, doctor_id: str) -> list[str]:
        found = self._lists.find_one({"_id": doctor_id})
        return list(found["replies"]) if found else []

    def replace(self, doctor_id: str, replies: Sequence[str]) -> None:
        self._lists.replace_one({"_id": doctor_id}, {"replies": list(replies)}, upsert=True)
