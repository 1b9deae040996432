"""Dated policies: what holds on a day is the last row that began by then."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from services.registration.directory import read_directory
from services.registration.policy import ENTRANCES, INTERNET, Tariff, fee_on, policy_on

OLD, NEW = date(2026, 1, 1), date(2026, 12, 1)
TARIFFS = (
    Tariff(NEW, INTERNET, "chief", 80_00), Tariff(OLD, INTERNET, "chief", 50_00), Tariff(OLD, "desk", "chief", 60_00),
)


@pytest.mark.parametrize(
    ("day", "channel", "fee_fen"),
    [
        (date(2026, 11, 30), INTERNET, 50_00),
        (NEW, INTERNET, 80_00),
        (date(2030, 1, 1), INTERNET, 80_00),
        (NEW, "desk", 60_00),
    ],
)
def test_s12_the_fee_follows_day_channel_and_title(day: date, channel: str, fee_fen: int) -> None:
    assert fee_on(day, channel, "chief", TARIFFS) == fee_fen


@pytest.mark.parametrize(("day", "title"), [(OLD - timedelta(days=1), "chief"), (NEW, "unheard")])
def test_s12_what_has_no_tariff_has_no_fee(day: date, title: str) -> None:
    with pytest.raises(LookupError):
        fee_on(day, INTERNET, title, TARIFFS)


def test_s12_every_doctor_of_the_sample_has_a_fee_of_50_yuan() -> None:
    directory = read_directory()
    assert {fee_on(date(2026, 11, 24), INTERNET, doctor.title) for doctor in directory.doctors} == {50_00}


def test_s10_s26_the_policy_of_today() -> None:
    policy = policy_on(date(2026, 11, 23))
    assert (policy.hold, policy.guardian_consents_under, policy.guardian_acts_under) == (timedelta(minutes=15), 14, 8)


def test_s6_three_entrances_each_with_a_qr_code() -> None:
    assert [entrance.entrance for entrance in ENTRANCES] == ["official_account", "mini_program", "app"]
    assert len({entrance.qr_content for entrance in ENTRANCES}) == 3


def test_the_sample_directory_is_whole() -> None:
    directory = read_directory()
    departments = {department.department_id for department in directory.departments}
    assert {found for doctor in directory.doctors for found in doctor.department_ids} == departments
    phones = [doctor.phone for doctor in directory.doctors] + [member.phone for member in directory.staff]
    assert len(set(phones)) == len(phones)
