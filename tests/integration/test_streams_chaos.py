"""A short kill campaign; the long one is `make chaos kind=processors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processors import Plan, campaign


@pytest.mark.parametrize(("workers", "kills", "pauses"), [(1, 6, 0), (2, 5, 1)])
def test_nothing_is_lost_doubled_or_left_lying(
    parts: Any, tmp_path: Path, workers: int, kills: int, pauses: int
) -> None:
    report = campaign(Plan(parts.kafka, tmp_path, kills=kills, seed=workers, workers=workers, pauses=pauses, rate=400))
    assert report.faults == []
    assert sum(report.kills.get(moment, 0) for moment in ("working", "starting", "recovering", "paused")) == kills
    assert report.outputs > 0
