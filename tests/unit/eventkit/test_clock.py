"""Time: one clock, moved for everybody at once, and days of Asia/Shanghai."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from eventkit.clock import SystemClock, day_end, main, rfc3339, shanghai_day


def test_two_clocks_on_one_file_see_a_move_at_once(tmp_path: Path) -> None:
    here, there = SystemClock(tmp_path / "clock"), SystemClock(tmp_path / "clock")
    here.advance(timedelta(days=3))
    assert timedelta(days=2, hours=23) < there.now() - datetime.now(UTC) < timedelta(days=3, hours=1)


def test_time_that_was_written_into_events_does_not_return(tmp_path: Path) -> None:
    clock = SystemClock(tmp_path / "clock")
    clock.advance(timedelta(hours=1))
    with pytest.raises(ValueError, match="only moves forward"):
        clock.move_to(datetime.now(UTC))


def test_without_a_file_the_clock_is_the_wall_and_cannot_be_moved() -> None:
    clock = SystemClock()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    with pytest.raises(ValueError, match="FUZHEN_CLOCK_FILE"):
        clock.advance(timedelta(seconds=1))


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-11-23T15:59:59.999+00:00", date(2026, 11, 23)),
        ("2026-11-23T16:00:00+00:00", date(2026, 11, 24)),
    ],
)
def test_a_day_begins_at_midnight_in_shanghai(instant: str, day: date) -> None:
    assert shanghai_day(datetime.fromisoformat(instant)) == day


def test_a_day_ends_where_the_next_begins() -> None:
    assert day_end(date(2026, 11, 23)) == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert shanghai_day(day_end(date(2026, 11, 23))) == date(2026, 11, 24)


def test_instants_are_written_in_utc_with_milliseconds() -> None:
    assert rfc3339(datetime.fromisoformat("2026-11-24T09:30:00.5+08:00")) == "2026-11-24T01:30:00.500Z"


def test_the_command_moves_the_clock_and_explains_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUZHEN_CLOCK_FILE", str(tmp_path / "clock"))
    assert main(["advance", "86400"]) == 0
    assert capsys.readouterr().out[:10] == shanghai_day(datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert main([]) == 2
    assert "advance SECONDS" in capsys.readouterr().err
