"""The electronic signatures of doctors and pharmacists (§24, §25): CMS over the canonical content, verifiable offline.

`signing_keys: {_id: "<role>:<id>", certificate: DER, sealed}`: one key and one certificate a person, made at the first
signature; the private key is sealed by the vault. This proves that what is dispensed is what was signed through this
person's login. Keys in their own hands (a card, a phone) would replace this file alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from pymongo import WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from eventkit.vault import Vault
from services.pharmacy import cms
from services.pharmacy.authority import Authority
from services.pharmacy.domain.prescription import canonical, canonical_second
from services.pharmacy.events import PrescriptionSigned, Signature

DOCTOR, PHARMACIST = "doctor", "pharmacist"


class Signatures:
    def __init__(self, database: Database[dict[str, Any]], vault: Vault, authority: Authority) -> None:
        self._keys = database.get_collection("signing_keys", write_concern=WriteConcern(w="majority", j=True))
        self._vault = vault
        self.authority = authority

    def pen_of(self, role: str, subject: str) -> Callable[[bytes], Signature]:
        """What signs for this person. Raises StoreUnavailable."""
        holder = f"{role}:{subject}"
        row = self._keys.find_one({"_id": holder}) or self._create(role, subject)
        private = self._vault.open_bytes(holder, bytes(row["sealed"]), f"signing_keys/{holder}")
        if private is None:
            raise LookupError(f"the signing key of {holder} is erased")
        key = load_der_private_key(private, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("not an elliptic-curve key")
        return pen(x509.load_der_x509_certificate(bytes(row["certificate"])), key)

    def holds(self, signed: PrescriptionSigned) -> bool:
        return holds(signed, self.authority.certificate)

    def _create(self, role: str, subject: str) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        holder = f"{role}:{subject}"
        row = {
            "_id": holder,
            "certificate": self.authority.issue(role, subject, key.public_key()).public_bytes(Encoding.DER),
            "sealed": self._vault.seal_bytes(holder, private, f"signing_keys/{holder}"),
        }
        try:
            self._keys.insert_one(row)
        except DuplicateKeyError:  # two first signatures met: one key stands
            return self._keys.find_one({"_id": holder}) or row
        return row


def pen(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], Signature]:
    """`key_id` is the certificate's serial number in hex, `value` the CMS in base64."""
    serial = f"{certificate.serial_number:x}"
    return lambda content: Signature(serial, base64.b64encode(cms.sign(content, certificate, key)).decode())


def holds(signed: PrescriptionSigned, authority: x509.Certificate) -> bool:
    """Whether this doctor signed this very content, and, where something spoke against it, signed that too."""
    content, second = canonical(signed), canonical_second(signed)
    if hashlib.sha256(content).hexdigest() != signed.content_sha256:
        return False
    if not _by(DOCTOR, signed.doctor_id, signed.signature, content, authority):
        return False
    return second is None or _by(DOCTOR, signed.doctor_id, signed.second_signature, second, authority)


def _by(role: str, subject: str, signature: Signature | None, content: bytes, authority: x509.Certificate) -> bool:
    if signature is None:
        return False
    try:
        seal = cms.verify(base64.b64decode(signature.value), content, authority)
    except (cms.Broken, ValueError):
        return False
    return (seal.role, seal.subject) == (role, subject)
