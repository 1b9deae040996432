"""Sessions and their slots."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from services.registration.domain import sessions
from services.registration.domain.sessions import Session, SlotState
from services.registration.events import (
    DiaryCleared,
    DiaryEntered,
    Refusal,
    SessionCancelled,
    SessionOpened,
    SlotClosed,
)
from tests.unit.registration.story import (
    DAY_ENDS,
    MORNING,
    NOW,
    OPENED,
    OTHER_SLOT,
    PLAN,
    QUARTER,
    SESSION,
    SLOT,
    SLOT_CLOSED,
    SLOT_HELD,
    SLOT_RELEASED,
    SLOT_SOLD,
    VISIT,
)


def test_s9_a_session_opens_with_numbered_slots() -> None:
    assert sessions.open_session(PLAN, None, [], NOW) == (
        OPENED, DiaryEntered(SESSION, PLAN.starts_at, PLAN.ends_at),
    )


@pytest.mark.parametrize(
    ("change", "existing", "diary", "now", "refusal"),
    [
        ({}, OPENED, [], NOW, "session_known"),
        ({}, None, [], PLAN.ends_at, "session_over"),
        ({"ends_at": MORNING + timedelta(minutes=31)}, None, [], NOW, "session_malformed"),
        ({"ends_at": MORNING}, None, [], NOW, "session_malformed"),
        ({"ends_at": MORNING - QUARTER}, None, [], NOW, "session_malformed"),
        ({"ends_at": MORNING + 61 * QUARTER}, None, [], NOW, "session_malformed"),
        ({"ends_at": DAY_ENDS + QUARTER, "starts_at": DAY_ENDS - QUARTER}, None, [], NOW, "session_malformed"),
        ({}, None, [(MORNING + QUARTER, MORNING + 4 * QUARTER)], NOW, "session_overlaps"),
        ({}, None, [(MORNING - QUARTER, MORNING + 9 * QUARTER)], NOW, "session_overlaps"),
    ],
)
def test_s9_what_is_no_session(
    change: dict[str, Any], existing: SessionOpened | None, diary: list[tuple[datetime, datetime]], now: datetime,
    refusal: str,
) -> None:
    with pytest.raises(Refusal, match=refusal):
        sessions.open_session(replace(PLAN, **change), existing, [DiaryEntered("s0", *entry) for entry in diary], now)


def test_s9_sessions_may_follow_each_other() -> None:
    diary = [DiaryEntered("s0", MORNING - QUARTER, MORNING), DiaryEntered("s2", PLAN.ends_at, PLAN.ends_at + QUARTER)]
    assert sessions.open_session(PLAN, None, diary, NOW)[0] == OPENED


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ([], SlotState("open")),
        ([SLOT_HELD], SlotState("held", VISIT)),
        ([SLOT_HELD, SLOT_SOLD], SlotState("sold", VISIT)),
        ([SLOT_HELD, SLOT_RELEASED], SlotState("open")),
        ([SLOT_HELD, SLOT_SOLD, SLOT_RELEASED], SlotState("open")),
    ],
)
def test_s9_the_state_of_a_slot(given: list[Any], state: SlotState) -> None:
    assert reduce(sessions.evolve_slot, given, SlotState()) == state


SOLD_THEN_CLOSED = SlotState("sold", VISIT, closed=True)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ([SLOT_CLOSED], SlotState("closed", closed=True)),
        ([SLOT_HELD, SLOT_CLOSED], SlotState("held", VISIT, closed=True)),
        ([SLOT_HELD, SLOT_CLOSED, SLOT_SOLD], SOLD_THEN_CLOSED),  # paid while it closed: refunded after (§16)
        ([SLOT_HELD, SLOT_SOLD, SLOT_CLOSED], SOLD_THEN_CLOSED),
        ([SLOT_HELD, SLOT_SOLD, SLOT_CLOSED, SLOT_RELEASED], SlotState("closed", closed=True)),
    ],
)
def test_s29_a_closed_slot_never_goes_back_on_sale(given: list[Any], state: SlotState) -> None:
    assert reduce(sessions.evolve_slot, given, SlotState()) == state


def test_s29_a_cancelled_session_closes_every_slot_and_frees_the_doctor() -> None:
    assert sessions.cancel(Session(OPENED), "doctor", NOW, DAY_ENDS) == [
        (f"session-{SESSION}", SessionCancelled(SESSION, "doctor")),
        ("diary-doctor-shen.2026-11-24", DiaryCleared(SESSION)),
        (f"slot-{SLOT}", SLOT_CLOSED),
        (f"slot-{OTHER_SLOT}", SlotClosed(OTHER_SLOT, SESSION)),
    ]
    entered = DiaryEntered(SESSION, PLAN.starts_at, PLAN.ends_at)
    assert sessions.in_diary([entered, DiaryEntered("s9", DAY_ENDS, DAY_ENDS), DiaryCleared("s9")]) == [entered]
    assert sessions.in_diary([entered, DiaryCleared(SESSION)]) == []


@pytest.mark.parametrize(
    ("given", "now", "refusal"),
    [
        ([OPENED, SessionCancelled(SESSION, "doctor")], NOW, "session_cancelled"),
        ([OPENED], DAY_ENDS, "session_over"),
    ],
)
def test_s29_what_can_no_longer_be_cancelled(given: list[Any], now: datetime, refusal: str) -> None:
    session: Session | None = reduce(sessions.evolve, given, None)
    assert session is not None
    with pytest.raises(Refusal, match=refusal):
        sessions.cancel(session, "doctor", now, DAY_ENDS)


def test_s29_until_the_last_millisecond_of_its_day() -> None:
    assert sessions.cancel(Session(OPENED), "hospital", DAY_ENDS - timedelta(milliseconds=1), DAY_ENDS)
