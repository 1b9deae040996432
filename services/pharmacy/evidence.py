"""The signed documents of a prescription, as somebody needs them to verify it offline (§24, §25)."""

from __future__ import annotations

from typing import Any

from services.pharmacy.domain.prescription import Prescription, canonical, canonical_review, canonical_second
from services.pharmacy.events import Signature


def documents(prescription: Prescription) -> list[dict[str, Any]]:
    """What was signed, by whom, and the signature: the latest signing and what came of it, in that order."""
    signed, reviewed = prescription.facts, prescription.reviewed
    found = [_document("prescription", "doctor", signed.doctor_id, canonical(signed), signed.signature)]
    second = canonical_second(signed)
    if second is not None:
        found.append(_document("second_signature", "doctor", signed.doctor_id, second, signed.second_signature))
    if reviewed is not None and reviewed.signature is not None:
        content = canonical_review(reviewed, signed)
        found.append(_document("review", "pharmacist", reviewed.pharmacist_id, content, reviewed.signature))
    return [document for document in found if document is not None]


def _document(
    name: str, role: str, signer: str, content: bytes, signature: Signature | None
) -> dict[str, Any] | None:
    if signature is None:
        return None
    return {
        "document": name, "role": role, "signer": signer, "content": content.decode(),
        "certificate_serial": signature.key_id, "signature": signature.value,
    }  # fmt: skip
