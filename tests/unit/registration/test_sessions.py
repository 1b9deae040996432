"""Sessions and their slots."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from services.registration.domain import sessions
from services.registration.domain.sessions import SlotState
from services.registration.events import DiaryEntered, Refusal, SessionOpened
from tests.unit.registration.story import (
    DAY_ENDS,
    MORNING,
    NOW,
    OPENED,
    PLAN,
    QUARTER,
    SESSION,
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
