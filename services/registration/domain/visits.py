"""A visit from the pick of a slot to its end. What a decision writes may span three streams, in one insert: the visit,
its slot (§9), and the claim that keeps one live visit a person, doctor and day (§30)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.registration.domain.people import Patient
from services.registration.domain.sessions import SlotState, slot_stream
from services.registration.domain.waiting import NOBODY, Waiting, waiting_stream
from services.registration.events import (
    ClaimReleased,
    HoldUnpaid,
    PhotoAdded,
    Refusal,
    SessionOpened,
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
    WaitingLeft,
)

Events = list[tuple[str, object]]
_SHANGHAI = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True, slots=True)
class BookVisit:
    """§10: the slot, the patient's own words, and what was confirmed and declared."""

    visit_id: str
    account_id: str
    patient_id: str
    card_id: str
    session_id: str
    slot_id: str
    entrance: str
    notice_version: str
    follow_up: bool
    stable: bool
    emergency: bool
    chief_complaint: str
    present_illness: str
    past_history: str
    allergies: str
    photo_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a booking meets when it arrives: the session, its slot, who holds the claim, the notice in force, the photos
    it names as far as they exist, the time a hold lasts and when the session's day ends, who waits for the session, and
    until when the account may not book."""

    patient: Patient
    session: SessionOpened
    slot: SlotState
    claimed_by: str | None
    notice_version: str
    photos: Sequence[PhotoAdded]
    now: datetime
    hold: timedelta
    day_ends_at: datetime
    waiting: Waiting = NOBODY
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """`state`: held, booked, accepted, finished, lapsed, withdrawn. The last three are the end."""

    request: VisitRequested
    state: str = "held"
    described: VisitDescribed | None = None
    order_id: str = ""


def visit_stream(visit_id: str) -> str:
    return f"visit-{visit_id}"


def claim_stream(his_patient_id: str, session: SessionOpened) -> str:
    """§30: one live visit a patient, doctor and day; the patient is the real person, whichever account books."""
    return f"live-{his_patient_id}.{session.doctor_id}.{session.day.isoformat()}"


def evolve(state: Visit | None, event: Any) -> Visit | None:
    if isinstance(event, VisitRequested):
        return Visit(event)
    if state is None:
        return None
    match event:
        case VisitDescribed():
            return replace(state, described=event)
        case VisitBooked(order_id=order_id):
            return replace(state, state="booked", order_id=order_id)
        case VisitAccepted():
            return replace(state, state="accepted")
        case VisitFinished():
            return replace(state, state="finished")
        case VisitLapsed():
            return replace(state, state="lapsed")
        case VisitWithdrawn():
            return replace(state, state="withdrawn")
    return state


def claimant(events: Iterable[Any]) -> str | None:
    """The live visit that holds a claim stream."""
    visit_id = None
    for event in events:
        match event:
            case VisitClaimed():
                visit_id = event.visit_id
            case ClaimReleased():
                visit_id = None
    return visit_id


def book(command: BookVisit, offer: Offer, assessment_id: str) -> Events:
    """§4 the notice in force is confirmed; §8 with an own card; §9 the slot is open; §10 it is held while the patient
    pays; §30 no other live visit. Eligibility (§5) was granted before, as `assessment_id`.
    Raises Refusal: not_found, card_unknown, photo_unknown, notice_outdated, slot_gone, session_over, session_cancelled,
    slot_taken, already_booked, booking_paused."""
    patient, session, now = offer.patient, offer.session, offer.now
    if patient.added.account_id != command.account_id:
        raise Refusal("not_found")
    if offer.paused_until is not None and now < offer.paused_until:
        raise Refusal("booking_paused", until=f"{offer.paused_until.astimezone(_SHANGHAI):%Y-%m-%d %H:%M}")
    card = patient.card(command.card_id)
    if card is None:
        raise Refusal("card_unknown")
    own = {photo.photo_id for photo in offer.photos if photo.patient_id == command.patient_id}
    if not own.issuperset(command.photo_ids):
        raise Refusal("photo_unknown")
    if command.notice_version != offer.notice_version:
        raise Refusal("notice_outdated")
    slot = next((slot for slot in session.slots if slot.slot_id == command.slot_id), None)
    if slot is None:
        raise Refusal("slot_gone")
    if slot.starts_at <= now:
        raise Refusal("session_over")
    if offer.slot.closed:
        raise Refusal("session_cancelled")
    if offer.slot.state != "open" and not _offered_to(command, offer):
        raise Refusal("slot_taken")
    if offer.claimed_by is not None:
        raise Refusal("already_booked")
    claim = claim_stream(patient.added.his_patient_id, session)
    requested = VisitRequested(
        visit_id=command.visit_id,
        patient_id=command.patient_id,
        account_id=command.account_id,
        doctor_id=session.doctor_id,
        department_id=session.department_id,
        session_id=session.session_id,
        slot_id=slot.slot_id,
        day=session.day,
        starts_at=slot.starts_at,
        entrance=command.entrance,
        card_id=card.card_id,
        card_kind=card.card_kind,
        title=session.title,
        fee_fen=session.fee_fen,
        assessment_id=assessment_id,
        hold_until=min(now + offer.hold, offer.day_ends_at),
    )
    described = VisitDescribed(
        visit_id=command.visit_id,
        patient_id=command.patient_id,
        his_patient_id=patient.added.his_patient_id,
        claim=claim,
        notice_version=command.notice_version,
        notice_confirmed_at=now,
        notice_confirmed_by=command.account_id,
        follow_up=command.follow_up,
        stable=command.stable,
        emergency=command.emergency,
        photo_ids=command.photo_ids,
        chief_complaint=command.chief_complaint,
        present_illness=command.present_illness,
        past_history=command.past_history,
        allergies=command.allergies,
    )
    return [
        (visit_stream(command.visit_id), requested),
        (visit_stream(command.visit_id), described),
        (slot_stream(slot.slot_id), SlotHeld(slot.slot_id, session.session_id, command.visit_id)),
        (claim, VisitClaimed(command.visit_id)),
        *_no_longer_waiting(command, offer),
    ]


def _offered_to(command: BookVisit, offer: Offer) -> bool:
    """A slot that came free is for who waited, while the offer lasts (§9)."""
    offered = offer.slot.offered
    return offered is not None and offered.patient_id == command.patient_id and offer.now < offered.until


def _no_longer_waiting(command: BookVisit, offer: Offer) -> Events:
    entry = offer.waiting.of_patient(command.patient_id)
    return [(waiting_stream(command.session_id), WaitingLeft(entry.entry_id, "booked"))] if entry else []


def holds_stream(account_id: str) -> str:
    return f"holds-{account_id}"


def paused_until(unpaid: Iterable[HoldUnpaid], limit: int, window: timedelta, pause: timedelta) -> datetime | None:
    """§10: who lets `limit` holds run out within `window` books nothing for `pause` from the last of them."""
    times = sorted(hold.at for hold in unpaid)
    if not times or sum(at > times[-1] - window for at in times) < limit:
        return None
    return times[-1] + pause


def complete(visit: Visit, order_id: str, *, late: bool) -> Events:
    """§11: only payment completes the booking. A payment that comes too late completes nothing and is refunded by
    payment (§16)."""
    if visit.state != "held" or late:
        return []
    request = visit.request
    booked = VisitBooked(
        visit_id=request.visit_id,
        order_id=order_id,
        patient_id=request.patient_id,
        account_id=request.account_id,
        doctor_id=request.doctor_id,
        department_id=request.department_id,
        session_id=request.session_id,
        slot_id=request.slot_id,
        day=request.day,
        starts_at=request.starts_at,
        card_kind=request.card_kind,
        fee_fen=request.fee_fen,
    )
    return [
        (visit_stream(request.visit_id), booked),
        (slot_stream(request.slot_id), SlotSold(request.slot_id, request.session_id, request.visit_id)),
    ]


def lapse(visit: Visit, reason: str, now: datetime) -> Events:
    """§10: unpaid in time the hold ends and the slot is back on sale; once paid, there is no hold to end."""
    if visit.state != "held":
        return []
    request = visit.request
    unpaid = HoldUnpaid(request.account_id, request.visit_id, now)
    return [
        (visit_stream(request.visit_id), VisitLapsed(request.visit_id, request.slot_id, reason)),
        *_release(visit),
        *([(holds_stream(request.account_id), unpaid)] if reason == "unpaid" else []),
    ]


def withdraw(visit: Visit, reason: str) -> Events:
    """§18, §19, §27, §29: care did not take place. What has ended already stays as it ended."""
    if visit.state in ("lapsed", "withdrawn", "finished"):
        return []
    request = visit.request
    withdrawn = VisitWithdrawn(request.visit_id, request.slot_id, reason)
    return [(visit_stream(request.visit_id), withdrawn), *_release(visit)]


def withdraw_by_patient(visit: Visit) -> Events:
    """§29: before acceptance, also while paying. Raises Refusal: already_accepted, visit_over."""
    if visit.state == "accepted":
        raise Refusal("already_accepted")
    events = withdraw(visit, "patient")
    if not events:
        raise Refusal("visit_over")
    return events


def turn_ineligible(visit: Visit, checkpoint: str, now: datetime) -> Events:
    """§5: the patient was eligible when booking and no longer is at payment or at acceptance."""
    if checkpoint == "payment":
        return lapse(visit, "ineligible", now)
    if checkpoint == "acceptance":
        return withdraw(visit, "ineligible")
    return []


def accept(visit: Visit) -> Events:
    """§18, so that §29 knows."""
    if visit.state != "booked":
        return []
    return [(visit_stream(visit.request.visit_id), VisitAccepted(visit.request.visit_id))]


def finish(visit: Visit) -> Events:
    """§28; the visit is no longer live, so the claim of §30 ends and the slot stays sold."""
    if visit.state not in ("booked", "accepted"):
        return []
    visit_id = visit.request.visit_id
    return [(visit_stream(visit_id), VisitFinished(visit_id)), *_release_claim(visit)]


def _release(visit: Visit) -> Events:
    request = visit.request
    released = SlotReleased(request.slot_id, request.session_id, request.visit_id)
    return [(slot_stream(request.slot_id), released), *_release_claim(visit)]


def _release_claim(visit: Visit) -> Events:
    return [(visit.described.claim, ClaimReleased(visit.request.visit_id))] if visit.described else []
