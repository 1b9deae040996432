"""The cure is for exactly the libraries it was measured with, and keeps what was fetched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from faust.types import TP
from mode.utils.queues import FlowControlQueue

from eventkit import faust_cure

PLACE = TP("visit.v1", 0)


def test_the_installed_libraries_are_the_ones_it_was_written_for() -> None:
    faust_cure.check_versions()


def test_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_cure, "version", lambda name: "9.9.9")
    with pytest.raises(faust_cure.WrongVersion, match=r"faust-streaming 9\.9\.9 is installed"):
        faust_cure.App("any")


def test_resuming_keeps_what_was_fetched() -> None:
    async def story() -> None:
        control = faust_cure.KeepingFlowControl()
        queue: Any = FlowControlQueue(flow_control=control, clear_on_resume=True)
        queue.put_nowait("event")
        control.suspend()
        control.resume()
        assert queue.qsize() == 1
        assert control.is_active()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("committed", "acked", "offset"),
    [(5, [5, 6, 7], 8), (5, [6, 7], None), (5, [5, 7], 6), (0, [1], None), (None, [7, 8], 9)],
)
def test_nothing_is_committed_over_a_hole(committed: int | None, acked: list[int], offset: int | None) -> None:
    consumer = faust_cure.Consumer.__new__(faust_cure.Consumer)  # the real one needs a broker to exist
    consumer._acked, consumer._acked_index = {PLACE: acked}, {PLACE: set(acked)}
    consumer._committed_offset, consumer._gap = {PLACE: committed}, {PLACE: None}
    assert consumer._new_offset(PLACE) == offset
