"""Where somebody is logged in (§7): a device has a refresh token, used once and replaced, and ends when it is revoked
or not used for a month. They are no events: a year later nobody needs to know. Everything here is wall time.

A token says in its `jti` from which device it comes: `<device id>.<random>`. Registration asks for revoked devices
every two seconds at most; another service that wants more than the fifteen minutes a token lives reads
`GET /api/registration/internal/revoked-devices`.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pymongo import DESCENDING, WriteConcern
from pymongo.database import Database

from eventkit.auth import Caller, InvalidToken, Keys, Verifier
from eventkit.clock import rfc3339
from eventkit.events import Refusal
from eventkit.ids import new_id
from eventkit.vault import Vault
from services.registration.policy import LOGIN

REVOKED_FOR = timedelta(minutes=16)  # a token's life and the leeway in reading it
_LOOK_SECONDS = 2.0
_LISTED = 50


@dataclass(frozen=True, slots=True)
class Login:
    """`refresh_token` is shown once and kept as a keyed digest."""

    device_id: str
    subject: str
    role: str
    refresh_token: str


class Devices:
    """`devices: {_id, subject, role, name, opened_at, seen_at, gone_at, digest, before?, revoked_at?}`."""

    def __init__(self, database: Database[dict[str, Any]], vault: Vault) -> None:
        self._devices = database.get_collection("devices", write_concern=WriteConcern(w="majority", j=True))
        self._vault = vault

    def ensure_indexes(self) -> None:
        self._devices.create_index("gone_at", expireAfterSeconds=0, name="gone_at")
        self._devices.create_index([("subject", 1), ("seen_at", DESCENDING)], name="subject")
        self._devices.create_index("revoked_at", sparse=True, name="revoked_at")

    def open(self, subject: str, role: str, name: str) -> Login:
        """`name` is what the device calls itself, for its owner to recognise."""
        login = _login(new_id(), subject, role)
        now = datetime.now(UTC)
        self._devices.insert_one({
            "_id": login.device_id, "subject": subject, "role": role, "name": name, "opened_at": now, "seen_at": now,
            "gone_at": now + LOGIN.device_unused, "digest": self._digest(login.refresh_token),
        })
        return login

    def refresh(self, refresh_token: str) -> Login:
        """The next refresh token. One that was used before was copied by somebody: its device is revoked.
        Raises Refusal("login_over")."""
        device_id, now, digest = refresh_token.partition(".")[0], datetime.now(UTC), self._digest(refresh_token)
        fresh = _login(device_id, "", "")
        row = self._devices.find_one_and_update(
            {"_id": device_id, "digest": digest, "revoked_at": {"$exists": False}, "gone_at": {"$gt": now}},
            {"$set": {
                "digest": self._digest(fresh.refresh_token), "before": digest, "seen_at": now,
                "gone_at": now + LOGIN.device_unused,
            }},
        )
        if row is None:
            self._devices.update_one(
                {"_id": device_id, "before": digest, "revoked_at": {"$exists": False}}, {"$set": {"revoked_at": now}}
            )
            raise Refusal("login_over")
        return Login(device_id, row["subject"], row["role"], fresh.refresh_token)

    def of(self, subject: str) -> list[dict[str, Any]]:
        """Where `subject` is logged in, the last seen first."""
        wanted = {"subject": subject, "revoked_at": {"$exists": False}, "gone_at": {"$gt": datetime.now(UTC)}}
        rows = self._devices.find(wanted).sort("seen_at", DESCENDING).limit(_LISTED)
        return [
            {
                "device_id": row["_id"],
                "name": row["name"],
                "opened_at": rfc3339(row["opened_at"].replace(tzinfo=UTC)),
                "seen_at": rfc3339(row["seen_at"].replace(tzinfo=UTC)),
            }
            for row in rows
        ]

    def revoke(self, subject: str, device_id: str) -> None:
        """Once more is the same. Raises Refusal("not_found") for a device that is not the subject's."""
        if self._devices.find_one({"_id": device_id, "subject": subject}) is None:
            raise Refusal("not_found")
        self._devices.update_one(
            {"_id": device_id, "revoked_at": {"$exists": False}}, {"$set": {"revoked_at": datetime.now(UTC)}}
        )

    def revoked(self) -> list[str]:
        """Devices revoked so lately that a token of theirs may still be about."""
        found = self._devices.find({"revoked_at": {"$gt": datetime.now(UTC) - REVOKED_FOR}}, {"_id": 1})
        return [row["_id"] for row in found]

    def _digest(self, refresh_token: str) -> str:
        return self._vault.blind("refresh-token", refresh_token)


class Revocations(Protocol):
    def revoked(self) -> list[str]: ...


class DeviceVerifier(Verifier):
    """Verifies tokens, and that their device was not revoked (seen after `_LOOK_SECONDS` at the latest)."""

    def __init__(self, keys: Keys, issuer: str, devices: Revocations, look_seconds: float = _LOOK_SECONDS) -> None:
        super().__init__(keys, issuer)
        self._devices = devices
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._revoked: frozenset[str] = frozenset()
        self._looked = float("-inf")

    def verify(self, token: str) -> Caller:
        caller = super().verify(token)
        device_id = device_of(caller)
        if device_id and device_id in self._now_revoked():
            raise InvalidToken("revoked")
        return caller

    def _now_revoked(self) -> frozenset[str]:
        with self._lock:
            if time.monotonic() - self._looked > self._look_seconds:
                self._revoked = frozenset(self._devices.revoked())
                self._looked = time.monotonic()
            return self._revoked


def device_of(caller: Caller) -> str:
    """The device that a caller's token comes from; empty for services, which have none."""
    device_id, dot, _ = caller.token_id.partition(".")
    return device_id if dot else ""


def _login(device_id: str, subject: str, role: str) -> Login:
    return Login(device_id, subject, role, f"{device_id}.{secrets.token_urlsafe(32)}")
