"""Histories that the tables start from, and how an outcome reads: the names of the events, or a refusal's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.pharmacy.domain import care as cares
from services.pharmacy.domain import parcel as parcels
from services.pharmacy.domain import prescription as prescriptions
from services.pharmacy.domain.care import Care
from services.pharmacy.domain.drugs import Drug
from services.pharmacy.domain.parcel import Parcel
from services.pharmacy.domain.prescription import Prescription, SignPrescription, WantedLine
from services.pharmacy.events import (
    AddressGiven,
    CareAccepted,
    CareBooked,
    CareFinished,
    CareWithdrawn,
    DeliveryChosen,
    DispatchBegun,
    HerbalOrder,
    ParcelDelivered,
    ParcelHandedOver,
    ParcelMoved,
    ParcelOpened,
    ParcelReturned,
    PrescriptionDispensed,
    PrescriptionExpired,
    PrescriptionIssued,
    PrescriptionPaid,
    PrescriptionReturned,
    PrescriptionSigned,
    PrescriptionVoided,
    Refusal,
)

RX, VISIT, PATIENT, ACCOUNT, DOCTOR, PHARMACIST = "rx1", "v1", "p1", "a1", "d1", "ph1"
SIGNED_AT = datetime(2026, 11, 24, 1, 50, tzinfo=UTC)
VALID_UNTIL = SIGNED_AT + timedelta(hours=72)
SOON = SIGNED_AT + timedelta(hours=1)
MOMENT = timedelta(milliseconds=1)

DRUGS = {
    **{f"W{n}": Drug(f"W{n}", f"片{n}", "western", "片剂", "盒", 1000 + n) for n in range(1, 8)},
    **{f"H{n}": Drug(f"H{n}", f"草{n}", "herbal", "饮片", "克", 10 + n) for n in range(1, 20)},
    "morphine": Drug("morphine", "吗啡", "western", "片剂", "盒", 1, "narcotic"),
    "aconite": Drug("aconite", "生川乌", "herbal", "饮片", "克", 1, "toxic"),
}

booked = CareBooked(VISIT, PATIENT, ACCOUNT, DOCTOR, "beijing_insured")
accepted = CareAccepted(VISIT)
finished = CareFinished(VISIT)
withdrawn = CareWithdrawn(VISIT, "VisitWithdrawn")

signed = PrescriptionSigned(
    RX, VISIT, PATIENT, ACCOUNT, DOCTOR, "western", 5260, SIGNED_AT, VALID_UNTIL, "0" * 64
)
signed_again = replace(signed, signed_at=SOON, valid_until=SOON + timedelta(hours=72))
returned = PrescriptionReturned(RX, VISIT, PHARMACIST)
issued = PrescriptionIssued(
    RX, VISIT, PATIENT, ACCOUNT, DOCTOR, PHARMACIST, "western", "beijing_insured", 5260, SIGNED_AT, VALID_UNTIL
)
voided = PrescriptionVoided(RX, VISIT, "refused")
expired = PrescriptionExpired(RX, VISIT)
address = AddressGiven("ad1", PATIENT, "林复安", "19900000001", "北京市海淀区某路1号")
chosen = DeliveryChosen(RX, VISIT, "anda", "ad1")
paid = PrescriptionPaid(RX, "rx-rx1")
dispatching = DispatchBegun(RX)
by_courier = PrescriptionDispensed(RX, VISIT, "courier")
at_desk = PrescriptionDispensed(RX, VISIT, "desk")

opened = ParcelOpened(RX, RX, VISIT, "anda", "ad1")
handed_over = ParcelHandedOver(RX, RX, VISIT, "anda", "FZ1")


def moved(status: str, minutes: int) -> ParcelMoved:
    return ParcelMoved(RX, RX, VISIT, status, SIGNED_AT + timedelta(minutes=minutes))


delivered = ParcelDelivered(RX, RX, VISIT, SIGNED_AT + timedelta(hours=9), 1200)
came_back = ParcelReturned(RX, RX, VISIT, "refused")


def care(*events: object) -> Care:
    state = Care()
    for event in events:
        state = cares.evolve(state, event)
    return state


def prescription(*events: object) -> Prescription:
    state = Prescription()
    for event in events:
        state = prescriptions.evolve(state, event)
    return state


def parcel(*events: object) -> Parcel:
    state = Parcel()
    for event in events:
        state = parcels.evolve(state, event)
    return state


def wanted(*codes: str, quantity: int = 2) -> list[WantedLine]:
    return [WantedLine(code, quantity, "1片", "口服,一日3次") for code in codes]


def signing(*codes: str, kind: str = "western", doctor: str = DOCTOR, quantity: int = 2) -> SignPrescription:
    herbal = HerbalOrder(7, "hospital", "水煎服,一日1剂") if kind == "herbal" else None
    return SignPrescription(RX, VISIT, doctor, kind, "咳嗽", wanted(*codes, quantity=quantity), herbal=herbal)


def outcome(decide: Callable[[], Sequence[object]]) -> list[str] | str:
    try:
        return [type(event).__name__ for event in decide()]
    except Refusal as refusal:
        return refusal.code
