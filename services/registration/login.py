"""One-time codes (§7): kept as a keyed digest, valid once, for minutes, for a few tries. They are no events: nobody
needs to know a year later that a code was sent. Everything here is wall time."""

from __future__ import annotations

import hmac
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from eventkit.events import Refusal
from eventkit.vault import Vault
from services.registration.policy import LOGIN

_HOUR = timedelta(hours=1)


class LoginCodes:
    """`login_codes: {_id: blind phone, digest?, tries, expires_at, sent: [instants], failed?: [instants],
    locked_until?, gone_at}`."""

    def __init__(self, database: Database[dict[str, Any]], vault: Vault) -> None:
        self._codes = database["login_codes"]
        self._vault = vault

    def ensure_indexes(self) -> None:
        self._codes.create_index("gone_at", expireAfterSeconds=0, name="gone_at")

    def issue(self, phone: str) -> str:
        """A new code; the one before it is void. Raises Refusal("too_many_codes" | "login_locked")."""
        self._check_lock(phone)
        code = f"{secrets.randbelow(10**LOGIN.digits):0{LOGIN.digits}d}"
        now = datetime.now(UTC)
        # `sent` keeps the last so many instants: when it is full, its first must be an hour old.
        room = [{f"sent.{LOGIN.codes_an_hour - 1}": {"$exists": False}}, {"sent.0": {"$lt": now - _HOUR}}]
        try:
            self._codes.update_one(
                {"_id": self._blind(phone), "$or": room},
                {
                    "$set": {
                        "digest": self._digest(phone, code),
                        "tries": LOGIN.tries,
                        "expires_at": now + LOGIN.valid,
                        "gone_at": now + _HOUR,
                    },
                    "$push": {"sent": {"$each": [now], "$slice": -LOGIN.codes_an_hour}},
                },
                upsert=True,
            )
        except DuplicateKeyError as error:  # the row stands and has no room
            raise Refusal("too_many_codes") from error
        return code

    def redeem(self, phone: str, code: str) -> None:
        """Use the code up. Raises Refusal: login_code_wrong for a wrong, used, old or too often tried one alike;
        login_locked, which says for how long."""
        self._check_lock(phone)
        try:
            self._use_up(phone, code)
        except Refusal:
            self._count_failure(phone)
            raise

    def _use_up(self, phone: str, code: str) -> None:
        row = self._codes.find_one_and_update(
            {"_id": self._blind(phone), "tries": {"$gt": 0}, "expires_at": {"$gt": datetime.now(UTC)}},
            {"$inc": {"tries": -1}},
            return_document=ReturnDocument.AFTER,
        )
        digest = self._digest(phone, code)
        if row is None or not hmac.compare_digest(row.get("digest", ""), digest):
            raise Refusal("login_code_wrong")
        used = self._codes.update_one(
            {"_id": row["_id"], "digest": digest}, {"$unset": {"digest": "", "failed": ""}}
        )
        if used.modified_count == 0:  # somebody else came with it at the same time
            raise Refusal("login_code_wrong")

    def _check_lock(self, phone: str) -> None:
        now = datetime.now(UTC)
        if row := self._codes.find_one({"_id": self._blind(phone), "locked_until": {"$gt": now}}):
            left = row["locked_until"].replace(tzinfo=UTC) - now
            raise Refusal("login_locked", minutes=int(left.total_seconds()) // 60 + 1)

    def _count_failure(self, phone: str) -> None:
        """Only phones that asked for a code are counted: guessing at others' makes no rows and opens nothing."""
        now = datetime.now(UTC)
        row = self._codes.find_one_and_update(
            {"_id": self._blind(phone)},
            {"$push": {"failed": {"$each": [now], "$slice": -LOGIN.failures}}},
            return_document=ReturnDocument.AFTER,
        )
        failed = row["failed"] if row else []
        if len(failed) == LOGIN.failures and failed[0].replace(tzinfo=UTC) > now - _HOUR:
            locked = {"locked_until": now + LOGIN.locked, "gone_at": now + LOGIN.locked + _HOUR}
            self._codes.update_one(
                {"_id": self._blind(phone)}, {"$set": locked, "$unset": {"digest": "", "failed": ""}}
            )

    def _blind(self, phone: str) -> str:
        return self._vault.blind("phone", phone)

    def _digest(self, phone: str, code: str) -> str:
        return self._vault.blind("login-code", f"{phone}/{code}")
