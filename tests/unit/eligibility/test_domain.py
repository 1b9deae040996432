"""May this patient be seen online? The rules at their boundaries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.eligibility.domain import (
    Assess,
    Criteria,
    OutpatientVisit,
    assess,
    evidence,
    full_years,
    months_before,
    red_flags_in,
)
from services.eligibility.events import EligibilityGranted, EligibilityRefused
from services.eligibility.policy import criteria_on
from services.eligibility.red_flags import read_red_flags

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
DAY = date(2026, 11, 24)
CRITERIA = Criteria(min_age_years=6, outpatient_months=6)
FLAGS = read_red_flags()
CORPUS = yaml.safe_load((Path(__file__).parent / "red_flag_corpus.yaml").read_text(encoding="utf-8"))
RECENT = OutpatientVisit("R1", date(2026, 10, 1))
ASSESS = Assess(
    assessment_id="as1", visit_id="v1", patient_id="p1", checkpoint="booking", day=DAY, birth_date=date(1968, 3, 2),
    follow_up=True, stable=True, emergency=False, symptoms="胃脘隐痛复诊,服药后减轻,无发热。",
)


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        (date(2020, 11, 24), DAY, 6),
        (date(2020, 11, 25), DAY, 5),
        (date(2020, 2, 29), date(2026, 2, 28), 5),
        (date(2020, 2, 29), date(2026, 3, 1), 6),
        (date(2020, 2, 29), date(2028, 2, 29), 8),
    ],
)
def test_s1_full_years_on_the_day_of_the_visit(born: date, day: date, years: int) -> None:
    assert full_years(born, day) == years


@pytest.mark.parametrize(
    ("day", "since"),
    [
        (date(2026, 11, 24), date(2026, 5, 24)),
        (date(2026, 8, 31), date(2026, 2, 28)),
        (date(2024, 8, 31), date(2024, 2, 29)),
        (date(2026, 8, 30), date(2026, 2, 28)),
        (date(2026, 3, 31), date(2025, 9, 30)),
        (date(2026, 1, 15), date(2025, 7, 15)),
        (date(2026, 6, 30), date(2025, 12, 30)),
        (date(2026, 7, 1), date(2026, 1, 1)),
        (date(2026, 12, 31), date(2026, 6, 30)),
    ],
)
def test_s2_six_calendar_months_before(day: date, since: date) -> None:
    assert months_before(day, 6) == since


@pytest.mark.parametrize(
    ("visited_on", "record"),
    [
        ([date(2026, 5, 24)], "R0"),
        ([date(2026, 5, 23)], None),
        ([date(2026, 11, 23)], "R0"),
        ([date(2026, 11, 24)], None),
        ([date(2026, 12, 1)], None),
        ([], None),
        ([date(2026, 6, 1), date(2026, 9, 1), date(2026, 7, 1)], "R1"),
    ],
    ids=["first day", "a day too old", "yesterday", "the day itself", "later", "none", "the latest"],
)
def test_s2_the_evidence(visited_on: list[date], record: str | None) -> None:
    found = evidence([OutpatientVisit(f"R{n}", day) for n, day in enumerate(visited_on)], DAY, 6)
    assert (found.record_id if found else None) == record


@pytest.mark.parametrize(("terms", "sentence"), CORPUS["flagged"])
def test_s3_a_red_flag_is_seen(terms: str, sentence: str) -> None:
    assert set(red_flags_in(sentence, FLAGS)) == set(terms.split())


@pytest.mark.parametrize("sentence", CORPUS["clear"])
def test_s3_what_is_denied_or_no_red_flag_passes(sentence: str) -> None:
    assert red_flags_in(sentence, FLAGS) == ()


def test_s3_the_corpus_is_large_and_has_no_sentence_twice() -> None:
    sentences = [sentence for _, sentence in CORPUS["flagged"]] + CORPUS["clear"]
    assert len(set(sentences)) == len(sentences) >= 150


@pytest.mark.parametrize("term", FLAGS.terms)
def test_s3_every_term_is_seen_and_can_be_denied(term: str) -> None:
    assert term in red_flags_in(f"今天{term}", FLAGS)
    assert red_flags_in(f"没有{term},否认{term}、发热。{term}:无", FLAGS) == ()


def test_s3_a_description_of_the_longest_kind_is_read_at_once() -> None:
    assert red_flags_in("无发热、咳嗽、" * 1400 + "胸痛", FLAGS) == ()
    assert red_flags_in("没有一天不" * 2000, FLAGS) == ()


def test_s5_granted_with_the_record_that_proves_it() -> None:
    assert assess(ASSESS, [RECENT], NOW, CRITERIA, FLAGS) == EligibilityGranted(
        "as1", "v1", "p1", "booking", DAY, "R1", NOW
    )


@pytest.mark.parametrize(
    ("change", "visits", "failed"),
    [
        ({"birth_date": date(2020, 11, 25)}, [RECENT], ("too_young",)),  # §1
        ({"birth_date": date(2020, 11, 24)}, [RECENT], ()),  # §1
        ({}, [], ("no_recent_visit",)),  # §2
        ({"follow_up": False}, [RECENT], ("not_follow_up",)),  # §3
        ({"stable": False}, [RECENT], ("not_stable",)),  # §3
        ({"emergency": True}, [RECENT], ("emergency",)),  # §3
        ({"symptoms": "呕血一次"}, [RECENT], ("red_flag",)),  # §3
        (
            {"birth_date": DAY, "follow_up": False, "stable": False, "emergency": True, "symptoms": "抽搐"}, [],
            ("too_young", "no_recent_visit", "not_follow_up", "not_stable", "emergency", "red_flag"),
        ),  # §5
    ],
)
def test_s5_a_refusal_names_every_failed_rule(
    change: dict[str, Any], visits: list[OutpatientVisit], failed: tuple[str, ...]
) -> None:
    outcome = assess(replace(ASSESS, **change), visits, NOW, CRITERIA, FLAGS)
    assert (outcome.failed if isinstance(outcome, EligibilityRefused) else ()) == failed


def test_s1_s2_the_policy_of_today() -> None:
    assert criteria_on(DAY) == CRITERIA
    with pytest.raises(LookupError):
        criteria_on(date(2023, 12, 31))


def test_s3_the_list_has_no_word_twice() -> None:
    words = (*FLAGS.terms, *FLAGS.symptoms, *FLAGS.innocent)
    assert len(set(words)) == len(words)
