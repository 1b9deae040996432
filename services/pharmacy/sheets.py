"""How prescriptions and parcels are shown, and to whom (§31)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eventkit.auth import Caller
from eventkit.clock import rfc3339
from services.pharmacy.domain.drugs import Drug
from services.pharmacy.domain.interactions import NOTES
from services.pharmacy.domain.parcel import Parcel
from services.pharmacy.domain.prescription import Prescription
from services.pharmacy.events import Line, Sheet

ALGORITHM = "CMS (PKCS#7) detached, ECDSA P-256 with SHA-256, DER in base64"


def may_see(caller: Caller, prescription: Prescription) -> bool:
    """The patient's own account, the doctor who signed, any pharmacist. To everybody else it does not exist."""
    signed = prescription.signed
    if signed is None:
        return False
    return (
        (caller.has("patient") and caller.subject == signed.account_id)
        or (caller.has("doctor") and caller.subject == signed.doctor_id)
        or caller.has("pharmacist")
    )


def drug(each: Drug) -> dict[str, Any]:
    """What a doctor needs to know to prescribe it."""
    shown: dict[str, Any] = {
        name: getattr(each, name) for name in ("name", "kind", "form", "unit", "price_fen", "generic", "en")
    }
    for name in ("atc", "limit_unit", "antibiotic", "decoction", "toxicity"):
        if value := getattr(each, name):
            shown[name] = value
    for name in ("max_single", "max_daily", "min_g", "max_g"):
        if (limit := getattr(each, name)) is not None:
            shown[name] = float(limit)
    notes = dict.fromkeys(note for group in each.groups for note in NOTES.get(group, ()))
    return {"drug_code": each.code, **shown, "notes": list(notes)}


def summary(prescription: Prescription, *, staff: bool) -> dict[str, Any]:
    signed = prescription.facts
    shown: dict[str, Any] = {
        "prescription_id": signed.prescription_id,
        "visit_id": signed.visit_id,
        "doctor_id": signed.doctor_id,
        "kind": signed.kind,
        "state": prescription.state,
        "paid": prescription.paid,
        "amount_fen": signed.amount_fen,
        "signed_at": rfc3339(signed.signed_at),
        "valid_until": rfc3339(signed.valid_until),
    }
    if prescription.way:
        shown["way"] = prescription.way
    if prescription.came_back:
        shown["came_back"] = True
    if prescription.collected:
        shown["collected"] = True
    if prescription.void_reason:
        shown["void_reason"] = prescription.void_reason
    if staff and prescription.reviewed and prescription.reviewed.reason:
        shown["review_reason"] = prescription.reviewed.reason
    return shown


def sheet(prescription: Prescription, *, staff: bool) -> dict[str, Any]:
    """The whole prescription. A patient reads the medical part only of what once took effect (§24)."""
    signed = prescription.facts
    shown = summary(prescription, staff=staff)
    shown |= {"patient_id": signed.patient_id, "content_sha256": signed.content_sha256}
    if prescription.issued:
        shown["pharmacist_id"] = prescription.issued.pharmacist_id
    if (staff or prescription.issued) and signed.sheet and signed.signature:
        shown |= {
            "diagnosis": signed.sheet.diagnosis,
            "lines": [_line(line) for line in signed.sheet.lines],
            "signature": {"algorithm": ALGORITHM, **asdict(signed.signature)},
        }
        shown |= _more(signed.sheet, staff=staff)
    if prescription.delivery:
        shown["delivery"] = {"courier": prescription.delivery.courier}
        if address := prescription.address:
            given = {"recipient": address.recipient, "phone": address.phone, "address": address.address}
            shown["delivery"] |= {name: value for name, value in given.items() if value is not None}
    return shown


def verification(prescription: Prescription, signature_holds: bool) -> dict[str, Any]:
    """What a stranger who holds the paper may know."""
    signed = prescription.facts
    return {
        "prescription_id": signed.prescription_id,
        "state": prescription.state,
        "content_sha256": signed.content_sha256,
        "signature_holds": signature_holds,
        "signed_at": rfc3339(signed.signed_at),
        "valid_until": rfc3339(signed.valid_until),
    }


def _line(line: Line) -> dict[str, Any]:
    return {name: value for name, value in asdict(line).items() if value is not None}


def _more(sheet: Sheet, *, staff: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"allergies": list(sheet.allergies)} if sheet.allergies else {}
    if sheet.herbal:
        shown["herbal"] = asdict(sheet.herbal)
    if sheet.second:
        shown["second"] = asdict(sheet.second)
    if staff:
        shown["stock_checked"] = sheet.stock_checked
    return shown


def tracking(parcel: Parcel) -> dict[str, Any] | None:
    """None while no parcel has been opened."""
    if parcel.opened is None:
        return None
    moves = sorted(parcel.moves, key=lambda move: move.moved_at)
    history = [{"status": move.status, "at": rfc3339(move.moved_at)} for move in moves]
    shown: dict[str, Any] = {
        "parcel_id": parcel.opened.parcel_id,
        "courier": parcel.opened.courier,
        "state": parcel.state,
        "history": history,
    }
    if parcel.handed_over:
        shown["tracking_no"] = parcel.handed_over.tracking_no
    if parcel.delivered:
        history.append({"status": "delivered", "at": rfc3339(parcel.delivered.delivered_at)})
        shown["courier_fee_fen"] = parcel.delivered.courier_fee_fen
    if parcel.returned:
        shown["return_reason"] = parcel.returned.reason
    return shown
