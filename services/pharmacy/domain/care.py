"""The visit as the pharmacy knows it: who it is about, whether its doctor may prescribe now, and what was prescribed.

Its facts come from other services over topics that have no order between them, so each fact stands alone: an end that
arrives before the acceptance still is an end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.pharmacy.events import (
    CareAccepted,
    CareBooked,
    CareFinished,
    CarePrescribed,
    CareTitled,
    CareWithdrawn,
)


@dataclass(frozen=True, slots=True)
class Care:
    booked: CareBooked | None = None
    title: str = ""
    accepted: bool = False
    finished: bool = False
    withdrawn: bool = False
    prescriptions: tuple[str, ...] = ()


def evolve(care: Care, event: object) -> Care:
    match event:
        case CareBooked():
            return replace(care, booked=event)
        case CareTitled():
            return replace(care, title=event.title)
        case CareAccepted():
            return replace(care, accepted=True)
        case CareFinished():
            return replace(care, finished=True)
        case CareWithdrawn():
            return replace(care, withdrawn=True)
        case CarePrescribed():
            return replace(care, prescriptions=(*care.prescriptions, event.prescription_id))
    return care


def note_booking(care: Care, booked: CareBooked) -> list[object]:
    return [] if care.booked else [booked]


def note_title(care: Care, visit_id: str, title: str) -> list[object]:
    return [] if care.title else [CareTitled(visit_id, title)]


def note_acceptance(care: Care, visit_id: str) -> list[object]:
    return [] if care.accepted else [CareAccepted(visit_id)]


def note_finish(care: Care, visit_id: str) -> list[object]:
    return [] if care.finished else [CareFinished(visit_id)]


def note_withdrawal(care: Care, visit_id: str, cause: str) -> list[object]:
    return [] if care.withdrawn else [CareWithdrawn(visit_id, cause)]
