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
    as «无发热、咳嗽、胸痛»; `innocent` are words that hold a term by accident («症状减轻生活正常»)."""

    terms: tuple[str, ...]
    symptoms: tuple[str, ...]
    innocent: tuple[str, ...] = ()


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


# What denies a symptom that follows, and what may stand between: «无明显诱因出现胸痛» denies the cause, not the pain.
# Behind 不 less may stand: «不过胸痛» affirms. A question («有没有胸痛») and «时有时无» deny nothing.
_DENIED = (
    r"(?:(?<!有)(?<!时)(?:没有|没|沒有|沒|否认|否認|未见|未诉|未|无|無)(?:明显|任何|既往|近期|目前|再次|再|曾|有|出现|发生|发作|发现|感觉到|感到|感觉"
    r"|觉得|过|伴| )*|不(?:再有|再|会|出现|感到|觉得|伴有|伴| )*)"
)
# A negation of the negation: «不是没有胸痛», «不能否认胸痛», «没有一天不胸痛» affirm.
_DOUBLED = (
    r"(?:不是|并非|不能|无法|不可能|不代表|不等于|不保证|(?:不能|不敢|不好|谁|没有?)说|否认|(?:没有?|无)(?:一天|一日|一刻|一晚|一次|哪天|哪次)?"
    r"|未|不) *"
)
# A symptom that goes on like this is there: «没有胸痛加重», «无发热、胸痛两天», «没有胸痛的时候».
_GOES_ON = (
    r"(?! *(?:加重|加剧|恶化|缓解|减轻|减少|好转|改善|消失|消退|反复|频繁|持续|不止|不断|不停|厉害"
    r"|严重|剧烈|又|仍|还在|还有|时|以外|之外|除外"
    r"|的(?!感觉|症状|情况|现象|表现|不适)"
    r"|(?:已|有|约|近)?(?:[0-9半几多数]|[一二两三四五六七八九十])+ *个?(?:多|余)?"
    r"(?:秒|分|时|小时|天|日|周|星期|月|年|次|回|口)))"
)
_AND = r" *(?:、|/|以及|及|或者|或|和|与|跟) *"
# «胸痛:无», «胸痛、黑便均无», «有无胸痛?没有。»: a denial that follows, and ends its clause («胸痛无缓解» is none).
_ANSWER = r" *[:?]? *(?:无|無|没有|沒有|否认|否|未见|阴性|\(-\))(?= *(?:[,。;.!?]|$))"
_ALL = r" *[:?]? *(?:均|都|皆)"


def red_flags_in(text: str, flags: RedFlags) -> tuple[str, ...]:
    """§3: the terms that the text affirms, in the order of the list. «无胸痛», «否认咳嗽、胸痛», «胸痛:无» deny;
    what is not clearly denied counts, and so does what once was («曾胸痛») or is feared."""
    told = re.sub(r"\s+", " ", re.sub(r"[\r\n]+", "。", unicodedata.normalize("NFKC", text)))
    words = sorted((*flags.terms, *flags.symptoms), key=len, reverse=True)
    word = "(?>" + "|".join(" *".join(map(re.escape, word)) for word in words) + ")"
    before = f"{_DENIED}{word}{_GOES_ON}(?:{_AND}{word}{_GOES_ON})*"
    after = f"{word}(?:(?:{_AND}{word})+{_ALL}|{_ALL})?{_ANSWER}"
    affirmed = re.sub(
        f"(?P<doubled>{_DOUBLED}{before})|{before}|{after}", lambda found: found["doubled"] or "。", told
    ).replace(" ", "")
    for innocent in flags.innocent:
        affirmed = affirmed.replace(innocent, "。")
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
