"""§32: a conversation is kept three years, and then its words are gone while that they were said stays."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from eventkit.clock import shanghai_day
from services.consult.domain import conversation_end
from services.consult.events import ConsultFinished, MessagePosted
from services.consult.handlers import consult_stream, conversation_stream
from tests.unit.consult.story import DAY, VISIT
from tests.unit.consult.test_handlers import Desk


@pytest.mark.parametrize(("day", "end"), [
    (date(2026, 11, 24), date(2029, 11, 24)), (date(2028, 2, 29), date(2031, 3, 1)),
])  # fmt: skip
def test_32_a_conversation_is_kept_three_years(day: date, end: date) -> None:
    assert conversation_end(day) == end


def test_32_then_its_words_go_and_the_record_stays() -> None:
    desk = Desk()
    sealer = cast(Any, desk.store)._sealer
    cast(Any, desk.handlers)._core.vault = SimpleNamespace(erase=lambda person, at: sealer.erased.add(person))
    desk.schedule()
    desk.accept()
    desk.say("请继续服药", "k1")
    desk.finish()

    def of(stream: str, kind: type[Any]) -> list[Any]:
        return [recorded.event for recorded in desk.store.load(stream)[stream] if isinstance(recorded.event, kind)]

    posted = of(conversation_stream(VISIT), MessagePosted)
    assert "请继续服药" in [message.text for message in posted]
    due = desk.due("forget_conversation").due
    assert (shanghai_day(due), shanghai_day(due - timedelta(microseconds=1))) == (
        conversation_end(DAY), conversation_end(DAY) - timedelta(days=1),
    )  # fmt: skip
    desk.run("forget_conversation")
    after = of(conversation_stream(VISIT), MessagePosted)
    assert [message.text for message in after] == [None] * len(posted)
    assert [message.number for message in after] == [message.number for message in posted]
    assert of(consult_stream(VISIT), ConsultFinished)[0].advice == "继续服药"
