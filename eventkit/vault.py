"""Personal values are encrypted per person; erasing the person's key erases the person (§32, design rule 10).

A person's data key is random, wrapped by the master key (AES-256-GCM), and kept in the service's own database:
`person_keys: {_id: person, wrapped: bytes | null, erased_at?}`. `wrapped: null` marks an erased person, for whom
no new key may be made by accident. Sealed values are bound to their place by their context (additional data).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pymongo import ReturnDocument, WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from eventkit.store import StoreUnavailable

_NONCE = 12
KEY_CACHE_SECONDS = 30.0  # how long an erased key may still open values in a process that had it at hand


class ErasedPerson(Exception):
    """Nothing can be written about a person whose key is erased."""


def read_master_key(path: str | Path) -> bytes:
    """32 bytes, base64 in a file. Raises ValueError for anything else."""
    key = base64.b64decode(Path(path).read_bytes(), validate=False)
    if len(key) != 32:
        raise ValueError(f"{path} does not hold 32 bytes in base64")
    return key


class Vault:
    def __init__(self, database: Database[dict[str, Any]], master_key: bytes) -> None:
        self._keys = database.get_collection("person_keys", write_concern=WriteConcern(w="majority", j=True))
        self._master = AESGCM(master_key)
        self._index_key = hmac.digest(master_key, b"fuzhen blind index", "sha256")
        self._cache: dict[str, tuple[float, bytes | None]] = {}
        self._lock = threading.Lock()

    def blind(self, purpose: str, value: str) -> str:
        """A keyed digest to find a personal value by, without storing it."""
        return hmac.digest(self._index_key, f"{purpose}\x1f{value}".encode(), hashlib.sha256).hex()[:40]

    def seal(self, person: str, values: dict[str, Any], context: str) -> bytes:
        return self.seal_bytes(person, orjson.dumps(values), context)

    def open(self, person: str, sealed: bytes, context: str) -> dict[str, Any]:
        """Empty once the person is erased."""
        opened = self.open_bytes(person, sealed, context)
        return {} if opened is None else orjson.loads(opened)

    def seal_bytes(self, person: str, value: bytes, context: str) -> bytes:
        """Raises ErasedPerson, StoreUnavailable."""
        key = self._key(person, create=True)
        if key is None:
            raise ErasedPerson(person)
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(key).encrypt(nonce, value, f"{person}\x1f{context}".encode())

    def open_bytes(self, person: str, sealed: bytes, context: str) -> bytes | None:
        """None once the person is erased. Raises ValueError when the bytes were not sealed for this place."""
        key = self._key(person, create=False)
        if key is None:
            return None
        try:
            return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], f"{person}\x1f{context}".encode())
        except InvalidTag as error:
            raise ValueError(f"sealed value at {context} does not belong there") from error

    def erase(self, person: str, at: datetime) -> None:
        self._keys.update_one({"_id": person}, {"$set": {"wrapped": None, "erased_at": at}}, upsert=True)
        with self._lock:
            self._cache.pop(person, None)

    def _key(self, person: str, *, create: bool) -> bytes | None:
        with self._lock:
            cached = self._cache.get(person)
        if cached and cached[0] > time.monotonic():
            return cached[1]
        try:
            key = self._fetch(person, create=create)
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error
        with self._lock:
            if len(self._cache) > 10_000:
                self._cache.clear()
            if key is not None:
                self._cache[person] = (time.monotonic() + KEY_CACHE_SECONDS, key)
        return key

    def _fetch(self, person: str, *, create: bool) -> bytes | None:
        document = self._keys.find_one({"_id": person})
        if document is None:
            if not create:
                return None
            nonce = os.urandom(_NONCE)
            wrapped = nonce + self._master.encrypt(nonce, AESGCM.generate_key(256), person.encode())
            try:
                document = self._keys.find_one_and_update(
                    {"_id": person},
                    {"$setOnInsert": {"wrapped": wrapped}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
            except DuplicateKeyError:  # two first writers met
                document = self._keys.find_one({"_id": person})
        kept = document["wrapped"] if document else None
        if kept is None:
            return None
        return self._master.decrypt(bytes(kept[:_NONCE]), bytes(kept[_NONCE:]), person.encode())
