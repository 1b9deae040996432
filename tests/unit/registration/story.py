"""One booking for 2026-11-24, told in events: what the tables of this folder are made from. Nobody in it exists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.registration.domain.people import AddPatient, Guardian, HisPerson, Patient
from services.registration.domain.sessions import OpenSession, SlotState
from services.registration.domain.visits import BookVisit, Offer
from services.registration.events import (
    CardBound,
    ClaimReleased,
    PatientAdded,
    PhotoAdded,
    SessionOpened,
    Slot,
    SlotClosed,
    SlotHeld,
    SlotReleased,
    SlotSold,
    VisitAccepted,
    VisitBooked,
    VisitClaimed,
    VisitDescribed,
    VisitFinished,
    VisitLapsed,
    VisitRequested,
    VisitWithdrawn,
)

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)  # 16:00 in Shanghai
TODAY = date(2026, 11, 23)
DAY = date(2026, 11, 24)
DAY_ENDS = datetime(2026, 11, 24, 16, tzinfo=UTC)
MORNING = datetime(2026, 11, 24, 0, tzinfo=UTC)  # 08:00 in Shanghai
QUARTER = timedelta(minutes=15)
HOLD = timedelta(minutes=15)
SECOND = timedelta(seconds=1)

ACCOUNT, PATIENT, PERSON, DOCTOR, SESSION, VISIT = "a1", "p1", "P00000001", "doctor-shen", "s1", "v1"
SLOT, OTHER_SLOT = "s1-01", "s1-02"
NOTICE = "n" * 64
CLAIM = f"live-{PERSON}.{DOCTOR}.2026-11-24"


def id_number(born: date, order: int = 2) -> str:
    """A number with a right check digit; an even `order` is a woman's. 110100 is given to no district, so to nobody."""
    digits = f"110100{born:%Y%m%d}{order:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return digits + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11]


BORN = date(1968, 3, 2)
GUARDIAN = Guardian("林长青", id_number(date(1990, 1, 1), 1), "19900000002", "parent", consents=True)


def add(born: date = BORN, **change: Any) -> AddPatient:
    command = AddPatient(ACCOUNT, "林复安", id_number(born), "19900000001", "self")
    return replace(command, **change)


def his_person(born: date = BORN, sex: str = "female") -> HisPerson:
    return HisPerson(PERSON, born, sex)


ADDED = PatientAdded(
    patient_id=PATIENT, account_id=ACCOUNT, his_patient_id=PERSON, relation="self", name="林复安",
    id_number=id_number(BORN), phone="19900000001", birth_date=BORN, sex="female",
)
BOUND = CardBound(PATIENT, "C1", "insurance_card", "beijing_insured", "1000000001")
PHOTO = PhotoAdded("ph1", PATIENT, ACCOUNT)

PLAN = OpenSession(
    session_id=SESSION, doctor_id=DOCTOR, department_id="spleen-stomach", title="chief", day=DAY, day_ends_at=DAY_ENDS,
    starts_at=MORNING, ends_at=MORNING + 2 * QUARTER, slot_minutes=15, fee_fen=5000,
)
OPENED = SessionOpened(
    session_id=SESSION, doctor_id=DOCTOR, department_id="spleen-stomach", title="chief", day=DAY, starts_at=MORNING,
    ends_at=MORNING + 2 * QUARTER, fee_fen=5000, slots=(Slot(SLOT, MORNING), Slot(OTHER_SLOT, MORNING + QUARTER)),
)

BOOK = BookVisit(
    visit_id=VISIT, account_id=ACCOUNT, patient_id=PATIENT, card_id="C1", session_id=SESSION, slot_id=SLOT,
    entrance="mini_program", notice_version=NOTICE, follow_up=True, stable=True, emergency=False,
    chief_complaint="胃脘隐痛复诊", present_illness="服药后减轻", past_history="慢性胃炎", allergies="无",
    photo_ids=("ph1",),
)

REQUESTED = VisitRequested(
    visit_id=VISIT, patient_id=PATIENT, account_id=ACCOUNT, doctor_id=DOCTOR, department_id="spleen-stomach",
    session_id=SESSION, slot_id=SLOT, day=DAY, starts_at=MORNING, entrance="mini_program", card_id="C1",
    card_kind="beijing_insured", title="chief", fee_fen=5000, assessment_id="as1", hold_until=NOW + HOLD,
)
DESCRIBED = VisitDescribed(
    visit_id=VISIT, patient_id=PATIENT, his_patient_id=PERSON, claim=CLAIM, notice_version=NOTICE,
    notice_confirmed_at=NOW, notice_confirmed_by=ACCOUNT, follow_up=True, stable=True, emergency=False,
    photo_ids=("ph1",), chief_complaint="胃脘隐痛复诊", present_illness="服药后减轻", past_history="慢性胃炎",
    allergies="无",
)
HELD = (REQUESTED, DESCRIBED)
BOOKED = VisitBooked(
    visit_id=VISIT, order_id="fee-v1", patient_id=PATIENT, account_id=ACCOUNT, doctor_id=DOCTOR,
    department_id="spleen-stomach", session_id=SESSION, slot_id=SLOT, day=DAY, starts_at=MORNING,
    card_kind="beijing_insured", fee_fen=5000,
)
ACCEPTED, FINISHED = VisitAccepted(VISIT), VisitFinished(VISIT)
SLOT_HELD, SLOT_SOLD = SlotHeld(SLOT, SESSION, VISIT), SlotSold(SLOT, SESSION, VISIT)
SLOT_RELEASED, SLOT_CLOSED = SlotReleased(SLOT, SESSION, VISIT), SlotClosed(SLOT, SESSION)
CLAIMED, CLAIM_RELEASED = VisitClaimed(VISIT), ClaimReleased(VISIT)


def lapsed(reason: str) -> VisitLapsed:
    return VisitLapsed(VISIT, SLOT, reason)


def withdrawn(reason: str) -> VisitWithdrawn:
    return VisitWithdrawn(VISIT, SLOT, reason)


def offer(**change: Any) -> Offer:
    whole = Offer(
        patient=Patient(ADDED, (BOUND,)), session=OPENED, slot=SlotState(), claimed_by=None, notice_version=NOTICE,
        photos=(PHOTO,), now=NOW, hold=HOLD, day_ends_at=DAY_ENDS,
    )
    return replace(whole, **change)
