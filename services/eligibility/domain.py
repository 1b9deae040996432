"""May this patient book, pay, be seen online? (§1, §2, §3, §5). Pure: what the HIS knows comes in as an argument."""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from services.eligibility.events import EligibilityGranted, EligibilityRefused


@dataclass(frozen=True, slots=True)
class Criteria:
    """The hospital's policy: full years of age, and calendar months since the last outpatient visit."""

    min_age_years: int
    outpatient_months: int


@dataclass(frozen=True, slots=True)
class RedFlags:
    """§3: `terms` send a patient to a physical hospital; `symptoms` are common others that only help to read lists such
    as «无发热、咳嗽、胸痛»."""

    terms: tuple[str, ...]
    symptoms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutpatientVisit:
    """One record of the HIS."""

    record_id: str
    visited_on: date


@dataclass(frozen=True, slots=True)
class Assess:
    """`checkpoint`: booking, payment, acceptance (§5). `day` is the day of the visit."""

    assessment_id: str
    visit_id: str
    patient_id: str
    checkpoint: str
    day: date
    birth_date: date
    follow_up: bool
    stable: bool
    emergency: bool
    symptoms: str


def full_years(born: date, day: date) -> int:
    """§1: full years of age on `day`; who is born on 29 February completes a year on 1 March of other years."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def months_before(day: date, months: int) -> date:
    """§2: the same day of the month so many calendar months earlier, or that month's last day where it has no such day:
    six months before 31 August is 28 (29) February."""
    month = day.year * 12 + day.month - 1 - months
    year, month = divmod(month, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def evidence(visits: Iterable[OutpatientVisit], day: date, months: int) -> OutpatientVisit | None:
    """§2: the latest outpatient visit in the calendar months before `day`, the first day included, `day` itself not."""
    since = months_before(day, months)
    return max(
        (visit for visit in visits if since <= visit.visited_on < day),
        key=lambda visit: (visit.visited_on, visit.record_id),
        default=None,
    )


# What may stand between a negation and the symptom it denies: «无明显诱因出现胸痛» denies the cause, not the pain.
_NEGATION = r"(?:没有|没|否认|未见|未诉|未|不伴|无)(?:明显|任何|再|有|出现|发生|发作|过|伴)*"
_AND = r"(?:、|以及|及|或|和|与)"


def red_flags_in(text: str, flags: RedFlags) -> tuple[str, ...]:
    """§3: the terms that the text affirms. «无胸痛», «否认咳嗽、胸痛» deny; what is not clearly denied counts."""
    told = re.sub(r"\s+", "", re.sub(r"[\r\n]+", "。", unicodedata.normalize("NFKC", text)))
    known = "|".join(re.escape(word) for word in sorted((*flags.terms, *flags.symptoms), key=len, reverse=True))
    affirmed = re.sub(f"{_NEGATION}(?:{known})(?:{_AND}(?:{known}))*", "。", told)
    return tuple(term for term in flags.terms if term in affirmed)


def assess(
    command: Assess, visits: Sequence[OutpatientVisit], now: datetime, criteria: Criteria, flags: RedFlags
) -> EligibilityGranted | EligibilityRefused:
    """§5: a refusal names every failed rule: too_young (§1), no_recent_visit (§2), not_follow_up, not_stable,
    emergency, red_flag (§3)."""
    record = evidence(visits, command.day, criteria.outpatient_months)
    rules = {
        "too_young": full_years(command.birth_date, command.day) < criteria.min_age_years,
        "no_recent_visit": record is None,
        "not_follow_up": not command.follow_up,
        "not_stable": not command.stable,
        "emergency": command.emergency,
        "red_flag": bool(red_flags_in(command.symptoms, flags)),
    }
    failed = tuple(code for code, fails in rules.items() if fails)
    if failed or record is None:
        return EligibilityRefused(
            command.assessment_id, command.visit_id, command.patient_id, command.checkpoint, command.day, failed
        )
    return EligibilityGranted(
        command.assessment_id, command.visit_id, command.patient_id, command.checkpoint, command.day,
        record.record_id, now,
    )
