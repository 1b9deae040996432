"""What the pharmacy writes down: prescriptions, parcels, and (privately) what it knows of the visit they belong to.

An event without a topic stays in the log. Medical text, signatures, addresses and remarks are `personal()`: they are
sealed under the patient's key and never travel (§31).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from eventkit.events import Refusal as Refusal
from eventkit.events import Registry, personal

registry = Registry("pharmacy")

PRESCRIPTIONS = "pharmacy.prescription.v1"
PARCELS = "pharmacy.parcel.v1"


@dataclass(frozen=True, slots=True)
class Dosing:
    """`amount` (a decimal number as text, so that it stays exact) of `unit` at a time, so often a day, for so long."""

    amount: str
    unit: str
    times_per_day: int
    days: int


@dataclass(frozen=True, slots=True)
class Line:
    """One drug on the sheet, with the price of the day it was signed. `quantity` counts `unit`s, on a herbal sheet
    grams a dose (剂); money is fen, of all doses."""

    drug_code: str
    name: str
    form: str
    unit: str
    price_fen: int
    quantity: int
    amount_fen: int
    dose: str
    usage: str
    dosing: Dosing | None = None


@dataclass(frozen=True, slots=True)
class HerbalOrder:
    """How many doses (剂), who decocts them (`hospital` 代煎, `self` 自煎), and how they are taken."""

    doses: int
    decoction: str
    usage: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What speaks against a prescription (§25). `key` says it for machines: `<code>:<drug>[+<drug>]`."""

    key: str
    code: str
    detail: str
    detail_en: str


@dataclass(frozen=True, slots=True)
class SecondSignature:
    """Why the doctor prescribes all the same. What is confirmed stands here as the doctor was shown it."""

    reason: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The medical part of a prescription. `stock_checked`: the hospital said that it has the drugs."""

    diagnosis: str
    lines: tuple[Line, ...]
    herbal: HerbalOrder | None = None
    allergies: tuple[str, ...] = ()
    second: SecondSignature | None = None
    stock_checked: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """`value` is base64 of a detached CMS signature in DER over the canonical content (RFC 5652; ECDSA P-256, SHA-256);
    `key_id` is the serial number of the signer's certificate, in hex."""

    key_id: str
    value: str


# --- the visit as the pharmacy knows it: stream care-<visit_id> ---


@registry.event("CareBooked")
@dataclass(frozen=True, slots=True)
class CareBooked:
    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    card_kind: str


@registry.event("CareTitled")
@dataclass(frozen=True, slots=True)
class CareTitled:
    """With which title the visit's doctor sees the patient, as the visit was requested: it decides on antibiotics."""

    visit_id: str
    title: str


@registry.event("CareAccepted")
@dataclass(frozen=True, slots=True)
class CareAccepted:
    visit_id: str


@registry.event("CareFinished")
@dataclass(frozen=True, slots=True)
class CareFinished:
    visit_id: str


@registry.event("CareWithdrawn")
@dataclass(frozen=True, slots=True)
class CareWithdrawn:
    """The visit ended without care; `cause` is the short name of the event that said so first."""

    visit_id: str
    cause: str


@registry.event("CarePrescribed")
@dataclass(frozen=True, slots=True)
class CarePrescribed:
    visit_id: str
    prescription_id: str


# --- stream prescription-<prescription_id> ---


@registry.event("PrescriptionSigned", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class PrescriptionSigned:
    """`content_sha256` is that of the canonical content (`domain.prescription.canonical`), which `signature` signs."""

    prescription_id: str
    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    kind: str
    amount_fen: int
    signed_at: datetime
    valid_until: datetime
    content_sha256: str
    sheet: Sheet | None = personal()
    signature: Signature | None = personal()
    second_signature: Signature | None = personal()


@registry.event("PrescriptionReviewed")
@dataclass(frozen=True, slots=True)
class PrescriptionReviewed:
    """Why the pharmacist decided as they did; the public event that follows says only what."""

    prescription_id: str
    patient_id: str
    pharmacist_id: str
    outcome: str
    reason: str | None = personal()
    reviewed_at: datetime | None = None
    signature: Signature | None = personal()


@registry.event("PrescriptionReturned", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class PrescriptionReturned:
    prescription_id: str
    visit_id: str
    pharmacist_id: str


@registry.event("PrescriptionIssued", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class PrescriptionIssued:
    prescription_id: str
    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    pharmacist_id: str
    kind: str
    card_kind: str
    amount_fen: int
    signed_at: datetime
    valid_until: datetime


@registry.event("PrescriptionVoided", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class PrescriptionVoided:
    """`reason` is refused (by the pharmacist) or withdrawn (with its visit)."""

    prescription_id: str
    visit_id: str
    reason: str


@registry.event("PrescriptionExpired", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class PrescriptionExpired:
    prescription_id: str
    visit_id: str


@registry.event("AddressGiven")
@dataclass(frozen=True, slots=True)
class AddressGiven:
    address_id: str
    patient_id: str
    recipient: str | None = personal()
    phone: str | None = personal()
    address: str | None = personal()


@registry.event("DeliveryChosen", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class DeliveryChosen:
    prescription_id: str
    visit_id: str
    courier: str
    address_id: str


@registry.event("PrescriptionPaid")
@dataclass(frozen=True, slots=True)
class PrescriptionPaid:
    """Paid online in time, as payment says. From here on it can no longer expire."""

    prescription_id: str
    order_id: str


@registry.event("DispatchBegun")
@dataclass(frozen=True, slots=True)
class DispatchBegun:
    """The courier is being asked to come. From here on the desk can no longer dispense the same drugs."""

    prescription_id: str


@registry.event("PrescriptionDispensed", topic=PRESCRIPTIONS, key="visit_id")
@dataclass(frozen=True, slots=True)
class PrescriptionDispensed:
    """`way` is courier or desk."""

    prescription_id: str
    visit_id: str
    way: str


@registry.event("ParcelCameBack")
@dataclass(frozen=True, slots=True)
class ParcelCameBack:
    """In the same commit as its ParcelReturned: the drugs are in the pharmacy, and the patient chooses what next."""

    prescription_id: str
    parcel_id: str


@registry.event("RedeliveryBegun")
@dataclass(frozen=True, slots=True)
class RedeliveryBegun:
    """After a return the patient wants them brought again, perhaps to another door."""

    prescription_id: str
    parcel_id: str
    courier: str
    address_id: str


@registry.event("ReturnCollected")
@dataclass(frozen=True, slots=True)
class ReturnCollected:
    """After a return the drugs were given out at the desk. They were paid for before."""

    prescription_id: str
    pharmacist_id: str


# --- stream parcel-<parcel_id>: the first parcel has its prescription's id, the next ones a number after it ---


@registry.event("ParcelOpened")
@dataclass(frozen=True, slots=True)
class ParcelOpened:
    parcel_id: str
    prescription_id: str
    visit_id: str
    courier: str
    address_id: str


@registry.event("ParcelHandedOver", topic=PARCELS, key="visit_id")
@dataclass(frozen=True, slots=True)
class ParcelHandedOver:
    parcel_id: str
    prescription_id: str
    visit_id: str
    courier: str
    tracking_no: str


@registry.event("ParcelMoved", topic=PARCELS, key="visit_id")
@dataclass(frozen=True, slots=True)
class ParcelMoved:
    """`status` is collected, in_transit, out_for_delivery or refused (by the recipient)."""

    parcel_id: str
    prescription_id: str
    visit_id: str
    status: str
    moved_at: datetime


@registry.event("ParcelDelivered", topic=PARCELS, key="visit_id")
@dataclass(frozen=True, slots=True)
class ParcelDelivered:
    """The recipient paid the courier `courier_fee_fen` at the door; no part of it is in our order (§21)."""

    parcel_id: str
    prescription_id: str
    visit_id: str
    delivered_at: datetime
    courier_fee_fen: int


@registry.event("ParcelReturned", topic=PARCELS, key="visit_id")
@dataclass(frozen=True, slots=True)
class ParcelReturned:
    """`reason` is refused (by the recipient) or undeliverable (the courier does not take or bring it)."""

    parcel_id: str
    prescription_id: str
    visit_id: str
    reason: str
