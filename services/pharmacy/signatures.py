"""The doctors' electronic signatures (§24): one ECDSA key a doctor, made and held by the pharmacy.

`doctor_keys: {_id: doctor_id, key_id, public: DER, sealed}`. The private key is sealed by the vault. This proves that
what is dispensed is what was signed through this doctor's login; certificates of an authority, with the key in the
doctor's own hands, are a later step and would replace this file alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pymongo import WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from eventkit.vault import Vault
from services.pharmacy.domain.prescription import canonical
from services.pharmacy.events import PrescriptionSigned, Signature

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class Signatures:
    def __init__(self, database: Database[dict[str, Any]], vault: Vault) -> None:
        self._keys = database.get_collection("doctor_keys", write_concern=WriteConcern(w="majority", j=True))
        self._vault = vault

    def pen_of(self, doctor_id: str) -> Callable[[bytes], Signature]:
        """What signs for this doctor; the key is made at the first signature. Raises StoreUnavailable."""
        row = self._keys.find_one({"_id": doctor_id}) or self._create(doctor_id)
        private = self._vault.open_bytes(_holder(doctor_id), bytes(row["sealed"]), f"doctor_keys/{doctor_id}")
        if private is None:
            raise LookupError(f"the signing key of {doctor_id} is erased")
        key = serialization.load_der_private_key(private, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("not an elliptic-curve key")
        return lambda content: Signature(row["key_id"], base64.b64encode(key.sign(content, _ALGORITHM)).decode())

    def holds(self, signed: PrescriptionSigned) -> bool:
        """Whether the doctor's key signed this very content."""
        content = canonical(signed)
        row = self._keys.find_one({"_id": signed.doctor_id})
        if row is None or signed.signature is None or row["key_id"] != signed.signature.key_id:
            return False
        key = serialization.load_der_public_key(bytes(row["public"]))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        try:
            key.verify(base64.b64decode(signed.signature.value), content, _ALGORITHM)
        except (InvalidSignature, ValueError):
            return False
        return hashlib.sha256(content).hexdigest() == signed.content_sha256

    def _create(self, doctor_id: str) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        row = {
            "_id": doctor_id,
            "key_id": hashlib.sha256(public).hexdigest()[:32],
            "public": public,
            "sealed": self._vault.seal_bytes(_holder(doctor_id), private, f"doctor_keys/{doctor_id}"),
        }
        try:
            self._keys.insert_one(row)
        except DuplicateKeyError:  # two first signatures met: one key stands
            return self._keys.find_one({"_id": doctor_id}) or row
        return row


def _holder(doctor_id: str) -> str:
    return f"doctor:{doctor_id}"
