"""Every number here that is somebody's policy, dated: what holds on a day is the last row that began by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Policy:
    """§26 ages in full years, §10 the hold while a patient pays, and the limits of what may be sent to us."""

    valid_from: date
    guardian_consents_under: int
    guardian_acts_under: int
    hold: timedelta
    backstop: timedelta  # how long after a hold's end registration waits for payment's word before ending it by itself
    photos: int
    offer: timedelta  # how long a freed slot waits for who waited for it
    unpaid_holds: int  # so many holds run out within `unpaid_window` pause an account for `unpaid_pause`
    unpaid_window: timedelta
    unpaid_pause: timedelta


@dataclass(frozen=True, slots=True)
class Tariff:
    """§12: the medical service fee by channel and title."""

    valid_from: date
    channel: str
    title: str
    fee_fen: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Asia/Shanghai, over midnight: from `begins` until before `ends` nobody is woken by what can wait. `after_the_day`
    is how long after a visit's day its withdrawal is still told at once."""

    valid_from: date
    begins: time
    ends: time
    after_the_day: timedelta


@dataclass(frozen=True, slots=True)
class Entrance:
    """§6; `qr_content` is what its QR code says."""

    entrance: str
    name: str
    name_en: str
    qr_content: str


@dataclass(frozen=True, slots=True)
class Retention:
    """§32: how long a visit's records are kept, in years from its day."""

    valid_from: date
    records_years: int


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """§7: one-time codes. Wall time, not the movable clock: they keep strangers out."""

    digits: int = 6
    valid: timedelta = timedelta(minutes=5)
    tries: int = 5
    codes_an_hour: int = 20
    failures: int = 10  # wrong codes within an hour, whichever codes they were, that lock a phone out
    locked: timedelta = timedelta(minutes=15)
    device_unused: timedelta = timedelta(days=30)  # how long a device stays logged in without being used


Dated = TypeVar("Dated", Policy, Tariff, QuietHours, Retention)

POLICIES = (
    Policy(
        valid_from=date(2024, 1, 1),
        guardian_consents_under=14,
        guardian_acts_under=8,
        hold=timedelta(minutes=15),
        backstop=timedelta(minutes=10),
        photos=9,
        offer=timedelta(minutes=10),
        unpaid_holds=3,
        unpaid_window=timedelta(days=30),
        unpaid_pause=timedelta(days=7),
    ),
)

INTERNET = "internet"
TARIFFS = tuple(
    Tariff(date(2024, 1, 1), INTERNET, title, 50_00) for title in ("ordinary", "associate_chief", "chief", "renowned")
)

QUIET_HOURS = (
    QuietHours(valid_from=date(2024, 1, 1), begins=time(22), ends=time(7), after_the_day=timedelta(hours=1)),
)
REMIND_BEFORE = timedelta(days=1)  # an order that is not paid is told of again so long before it ends (§23)

ENTRANCES = (
    Entrance("official_account", "微信公众号", "WeChat official account", "https://fuzhen.example/e/official-account"),
    Entrance("mini_program", "微信小程序", "WeChat mini-program", "https://fuzhen.example/e/mini-program"),
    Entrance("app", "手机应用(iOS、安卓)", "App (iOS, Android)", "https://fuzhen.example/e/app"),
)

RETENTION = (Retention(valid_from=date(2024, 1, 1), records_years=15),)

LOGIN = LoginLimits()


def policy_on(day: date, policies: Sequence[Policy] = POLICIES) -> Policy:
    """Raises LookupError before the first row."""
    return _last(day, policies)


def fee_on(day: date, channel: str, title: str, tariffs: Sequence[Tariff] = TARIFFS) -> int:
    """§12: fen. Raises LookupError for a title that has no tariff yet."""
    return _last(day, [tariff for tariff in tariffs if (tariff.channel, tariff.title) == (channel, title)]).fee_fen


def quiet_on(day: date, hours: Sequence[QuietHours] = QUIET_HOURS) -> QuietHours:
    """Raises LookupError before the first row."""
    return _last(day, hours)


def records_end(visited: date, retention: Sequence[Retention] = RETENTION) -> date:
    """§32: the first day on which the records of a visit of day `visited` need not be kept any more; of one on
    29 February it is 1 March."""
    year = visited.year + _last(visited, retention).records_years
    try:
        return visited.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def _last(day: date, rows: Sequence[Dated]) -> Dated:
    begun = [row for row in rows if row.valid_from <= day]
    if not begun:
        raise LookupError(f"nothing is laid down for {day}")
    return max(begun, key=lambda row: row.valid_from)
