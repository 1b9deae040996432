"""A visit from the pick of a slot to its end: given events / when command / then events or refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from services.registration.domain import visits
from services.registration.domain.people import Patient
from services.registration.domain.sessions import SlotState
from services.registration.domain.visits import Events, Visit
from services.registration.events import ClaimReleased, HoldUnpaid, Refusal, VisitClaimed
from tests.unit.registration.story import (
    ACCEPTED,
    ADDED,
    BOOK,
    BOOKED,
    BOUND,
    CLAIM,
    CLAIM_RELEASED,
    CLAIMED,
    DESCRIBED,
    FINISHED,
    HELD,
    MORNING,
    NOTICE,
    NOW,
    PHOTO,
    REQUESTED,
    SECOND,
    SLOT,
    SLOT_HELD,
    SLOT_RELEASED,
    SLOT_SOLD,
    VISIT,
    lapsed,
    offer,
    withdrawn,
)

STREAM, SLOT_STREAM = f"visit-{VISIT}", f"slot-{SLOT}"
UNPAID = ("holds-a1", HoldUnpaid("a1", VISIT, NOW))
RELEASE: Events = [(SLOT_STREAM, SLOT_RELEASED), (CLAIM, CLAIM_RELEASED)]


def test_s10_a_booking_holds_slot_and_claim_in_one_insert() -> None:
    assert visits.book(BOOK, offer(), "as1") == [
        (STREAM, REQUESTED),
        (STREAM, DESCRIBED),
        (SLOT_STREAM, SLOT_HELD),
        (CLAIM, CLAIMED),
    ]


@pytest.mark.parametrize(
    ("command", "met", "refusal"),
    [
        ({"notice_version": "o" * 64}, {}, "notice_outdated"),  # §4
        ({}, {"notice_version": "o" * 64}, "notice_outdated"),  # §4
        ({"account_id": "a2"}, {}, "not_found"),  # §31
        ({"card_id": "C2"}, {}, "card_unknown"),  # §8
        ({}, {"patient": Patient(ADDED)}, "card_unknown"),  # §8
        ({"photo_ids": ("ph1", "ph2")}, {}, "photo_unknown"),  # §10
        ({}, {"photos": (replace(PHOTO, patient_id="p2"),)}, "photo_unknown"),  # §31
        ({"slot_id": "s1-09"}, {}, "slot_gone"),  # §9
        ({}, {"now": MORNING}, "session_over"),  # §9
        ({}, {"slot": SlotState("held", "v0")}, "slot_taken"),  # §9
        ({}, {"slot": SlotState("sold", "v0")}, "slot_taken"),  # §9
        ({}, {"slot": SlotState("closed", closed=True)}, "session_cancelled"),  # §29
        ({}, {"slot": SlotState("held", "v0", closed=True)}, "session_cancelled"),  # §29
        ({}, {"claimed_by": "v0"}, "already_booked"),  # §30
    ],
)
def test_refused_bookings(command: dict[str, Any], met: dict[str, Any], refusal: str) -> None:
    with pytest.raises(Refusal, match=refusal):
        visits.book(replace(BOOK, **command), offer(**met), "as1")


def test_s10_a_hold_does_not_outlast_the_day() -> None:
    late = offer(now=MORNING - SECOND, day_ends_at=MORNING)
    requested: Any = visits.book(BOOK, late, "as1")[0][1]
    assert requested.hold_until == MORNING


def test_s9_the_last_second_before_the_slot_can_be_booked() -> None:
    assert visits.book(BOOK, offer(now=MORNING - SECOND), "as1")


def test_s4_the_confirmation_says_which_version_when_and_by_whom() -> None:
    described: Any = visits.book(BOOK, offer(), "as1")[1][1]
    assert (described.notice_version, described.notice_confirmed_at, described.notice_confirmed_by) == (
        NOTICE, NOW, "a1",
    )


def test_s30_two_accounts_with_the_same_person_meet_in_one_claim() -> None:
    other = replace(ADDED, patient_id="p2", account_id="a2")
    command = replace(BOOK, account_id="a2", patient_id="p2", photo_ids=())
    assert visits.book(command, offer(patient=Patient(other, (BOUND,))), "as1")[3][0] == CLAIM


Decide = Callable[[Visit], Events]


def complete(visit: Visit) -> Events:
    return visits.complete(visit, "fee-v1", late=False)


def complete_late(visit: Visit) -> Events:
    return visits.complete(visit, "fee-v1", late=True)


def lapse(visit: Visit) -> Events:
    return visits.lapse(visit, "unpaid", NOW)


def miss(visit: Visit) -> Events:
    return visits.withdraw(visit, "missed")


def ineligible_at(checkpoint: str) -> Decide:
    return lambda visit: visits.turn_ineligible(visit, checkpoint, NOW)


BOOKED_NOW = (*HELD, BOOKED)
ENDED = ((*HELD, lapsed("unpaid")), (*HELD, withdrawn("patient")), (*BOOKED_NOW, ACCEPTED, FINISHED))


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        (HELD, complete, [(STREAM, BOOKED), (SLOT_STREAM, SLOT_SOLD)]),  # §11
        (BOOKED_NOW, complete, []),  # §11: once
        ((*HELD, lapsed("unpaid")), complete, []),  # §16: payment refunds it
        ((*HELD, withdrawn("patient")), complete, []),  # §16
        (HELD, complete_late, []),  # §16
        (HELD, lapse, [(STREAM, lapsed("unpaid")), *RELEASE, UNPAID]),  # §10
        (BOOKED_NOW, lapse, []),  # §10: paid in the last second
        ((*HELD, lapsed("unpaid")), lapse, []),  # §10: payment and the backstop both say so
        (BOOKED_NOW, miss, [(STREAM, withdrawn("missed")), *RELEASE]),  # §18
        ((*BOOKED_NOW, ACCEPTED), miss, [(STREAM, withdrawn("missed")), *RELEASE]),  # §27
        (HELD, visits.withdraw_by_patient, [(STREAM, withdrawn("patient")), *RELEASE]),  # §29
        (BOOKED_NOW, visits.withdraw_by_patient, [(STREAM, withdrawn("patient")), *RELEASE]),  # §29
        ((*BOOKED_NOW, ACCEPTED), visits.withdraw_by_patient, "already_accepted"),  # §29
        (ENDED[0], visits.withdraw_by_patient, "visit_over"),  # §29
        (ENDED[1], visits.withdraw_by_patient, "visit_over"),  # §29
        (ENDED[2], visits.withdraw_by_patient, "visit_over"),  # §29
        (BOOKED_NOW, visits.accept, [(STREAM, ACCEPTED)]),  # §18
        ((*BOOKED_NOW, ACCEPTED), visits.accept, []),
        ((*BOOKED_NOW, withdrawn("patient")), visits.accept, []),
        ((*BOOKED_NOW, ACCEPTED), visits.finish, [(STREAM, FINISHED), (CLAIM, CLAIM_RELEASED)]),  # §28, §30
        ((*BOOKED_NOW, ACCEPTED, FINISHED), visits.finish, []),
        (HELD, ineligible_at("payment"), [(STREAM, lapsed("ineligible")), *RELEASE]),  # §5
        (BOOKED_NOW, ineligible_at("payment"), []),  # §5: paid before
        (BOOKED_NOW, ineligible_at("acceptance"), [(STREAM, withdrawn("ineligible")), *RELEASE]),  # §5
        (HELD, ineligible_at("booking"), []),  # §5: there was no visit then
        *((ended, miss, []) for ended in ENDED),  # what has ended stays as it ended
        *((ended, lapse, []) for ended in ENDED),
    ],
)
def test_after_the_hold(given: tuple[Any, ...], when: Decide, then: Events | str) -> None:
    visit: Visit | None = reduce(visits.evolve, given, None)
    assert visit is not None
    if isinstance(then, str):
        with pytest.raises(Refusal, match=then):
            when(visit)
    else:
        assert when(visit) == then


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (HELD, "held"),
        (BOOKED_NOW, "booked"),
        ((*BOOKED_NOW, ACCEPTED), "accepted"),
        ((*BOOKED_NOW, ACCEPTED, FINISHED), "finished"),
        ((*HELD, lapsed("unpaid")), "lapsed"),
        ((*BOOKED_NOW, withdrawn("missed")), "withdrawn"),
    ],
)
def test_s17_the_state_a_patient_sees(given: tuple[Any, ...], state: str) -> None:
    visit: Visit | None = reduce(visits.evolve, given, None)
    assert visit is not None
    assert visit.state == state


@pytest.mark.parametrize(
    ("given", "holder"),
    [
        ([], None),
        ([CLAIMED], VISIT),
        ([CLAIMED, CLAIM_RELEASED], None),
        ([CLAIMED, CLAIM_RELEASED, VisitClaimed("v2")], "v2"),
        ([CLAIMED, CLAIM_RELEASED, VisitClaimed("v2"), ClaimReleased("v2")], None),
    ],
)
def test_s30_who_holds_a_claim(given: list[Any], holder: str | None) -> None:
    assert visits.claimant(given) == holder
