"""One visit of 2026-11-24, told in events: what the tables of this folder are made from."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from services.consult.events import (
    ConsultAbandoned,
    ConsultAccepted,
    ConsultCancelled,
    ConsultDeclined,
    ConsultFinished,
    ConsultMissed,
    ConsultScheduled,
    MessagePosted,
    Notice,
    Sender,
)

DAY = date(2026, 11, 24)
SLOT = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)  # 09:30 in Shanghai
DAY_STARTS = datetime(2026, 11, 23, 16, tzinfo=UTC)
DAY_ENDS = datetime(2026, 11, 24, 16, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
VISIT, PATIENT, ACCOUNT, DOCTOR = "v1", "p1", "a1", "d-lin"

SCHEDULED = ConsultScheduled(
    visit_id=VISIT, patient_id=PATIENT, account_id=ACCOUNT, doctor_id=DOCTOR, day=DAY, starts_at=SLOT,
    day_ends_at=DAY_ENDS,
)
ACCEPTED = ConsultAccepted(visit_id=VISIT, doctor_id=DOCTOR, accepted_at=SLOT)
DECLINED = ConsultDeclined(visit_id=VISIT, patient_id=PATIENT, doctor_id=DOCTOR, reason="unsuitable")
MISSED = ConsultMissed(visit_id=VISIT, doctor_id=DOCTOR, day=DAY)
ABANDONED = ConsultAbandoned(visit_id=VISIT, doctor_id=DOCTOR)
FINISHED = ConsultFinished(visit_id=VISIT, patient_id=PATIENT, doctor_id=DOCTOR, finished_at=SLOT)
CANCELLED = ConsultCancelled(visit_id=VISIT, reason="patient")


def said(number: int, sender: Sender, text: str | None = None, at: datetime = SLOT) -> MessagePosted:
    return MessagePosted(
        visit_id=VISIT, patient_id=PATIENT, message_id=f"{VISIT}-{number}", number=number, sender=sender, kind="text",
        posted_at=at, text=text,
    )


def noticed(number: int, notice: Notice, at: datetime = SLOT) -> MessagePosted:
    return MessagePosted(
        visit_id=VISIT, patient_id=PATIENT, message_id=f"{VISIT}-{number}", number=number, sender="system", kind="text",
        posted_at=at, notice=notice,
    )


def prescribed(number: int, at: datetime = SLOT) -> MessagePosted:
    return MessagePosted(
        visit_id=VISIT, patient_id=PATIENT, message_id=f"{VISIT}-{number}", number=number, sender="system",
        kind="prescription", posted_at=at, prescription_id="rx1",
    )
