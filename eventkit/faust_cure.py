"""What faust-streaming 0.15.3 does wrong after a kill -9, cured by four small subclasses (docs/adr/0004).

The loss. When table recovery ends, `Recovery` resumes the source partitions, *then* awaits the seek to the committed
offsets, *then* calls `flow_control.resume()`, and mode's `FlowControlEvent.resume()` ends by emptying every queue. The
fetcher runs all the while, so what it put there is gone, the read position is past it, and every partition has a hole.

Why nobody sees it. `Consumer._new_offset` refuses to commit over a hole only if it is wider than one message, and
`Consumer._add_gap` declares every hole that the fetcher itself meets as read, so the commit follows.

The cure: queues are not emptied on resume (they are on suspend and on stop, and what is read twice the reader drops),
and nothing is committed unless it follows what was committed. Beyond it, an app with `stored_positions` seeks to them
instead of to the group's offsets and commits them and nothing else: then the group's offsets decide nothing.

Everything here leans on internals, so any other version of the three libraries is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.queues import FlowControlEvent

WRITTEN_FOR = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}


class WrongVersion(RuntimeError):
    """An installed library is not the one that the cure was written and measured for."""


def check_versions() -> None:
    """Raises WrongVersion, naming what is installed and what to do."""
    for name, wanted in WRITTEN_FOR.items():
        if (found := version(name)) != wanted:
            raise WrongVersion(
                f"{name} {found} is installed, eventkit/faust_cure.py was written for {wanted}: read it against the "
                "new source and run `python -m tests.chaos processors kills=40` before changing WRITTEN_FOR"
            )


class KeepingFlowControl(FlowControlEvent):
    """Resuming keeps what was fetched. Where emptying is right, on revocation and on stop, Faust does it itself."""

    def resume(self) -> None:
        self._suspend.clear()
        self._resume.set()


class Consumer(driver.Consumer):
    def _new_offset(self, tp: TP) -> int | None:
        """`_committed_offset` is the next offset wanted: what was acked first must be just that. The check comes before
        the library's own look at its gaps, which would fill the hole."""
        acked, committed = self._acked[tp], self._committed_offset[tp]
        if acked and committed is not None and min(acked) > committed:
            return None
        offset: int | None = super()._new_offset(tp)
        return offset

    async def seek_to_committed(self) -> Mapping[TP, int]:
        stored = self.app.stored_positions
        if stored is None:
            committed: Mapping[TP, int] = await super().seek_to_committed()
            return committed
        assigned = self.assignment()
        positions = {tp: offset for tp, offset in stored().items() if tp in assigned}
        if positions:
            await self.seek_wait(positions)
        return positions

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        stored = self.app.stored_positions
        if stored is None:
            acked: dict[TP, int] = super()._filter_committable_offsets(tps)
            return acked
        return {tp: offset for tp, offset in stored().items() if self._should_commit(tp, offset)}


class Transport(driver.Transport):
    Consumer = Consumer


class App(faust.App):
    """`stored_positions` answers, for every source partition that is recovered here, the next offset to process."""

    stored_positions: Callable[[], Mapping[TP, int]] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_versions()
        super().__init__(*args, **kwargs)

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        return KeepingFlowControl(loop=self.loop)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self, loop=self.loop)
