"""The refusal of §5, and each failed rule as a patient reads it."""

from __future__ import annotations

from typing import Any

from eventkit.problems import Problem

_HOSPITAL_ZH = "请到医院线下门诊就诊。"
_HOSPITAL_EN = "Please visit the hospital's outpatient department."

NOT_ELIGIBLE = Problem(
    "not_eligible", 422, "暂不符合互联网复诊条件。", "The conditions for an online follow-up visit are not met.",
    "请查看每一项原因。", "See each reason in `failed`.",
)
PROBLEMS = (NOT_ELIGIBLE,)

RULES = {
    rule.code: rule
    for rule in (
        Problem("too_young", 422, "就诊人就诊当日未满6周岁。",
                "The patient is under 6 years old on the day of the visit.",
                _HOSPITAL_ZH, _HOSPITAL_EN),
        Problem("no_recent_visit", 422, "就诊日前6个月内没有本院线下门诊记录。",
                "There is no outpatient visit at this hospital within the 6 months before the visit.",
                "请先到医院线下就诊一次,之后再在线复诊。",
                "See a doctor at the hospital first; follow-up visits can be online afterwards."),
        Problem("not_follow_up", 422, "互联网医院只接待复诊患者。", "Only follow-up visits can be online.",
                _HOSPITAL_ZH, _HOSPITAL_EN),
        Problem("not_stable", 422, "互联网医院只接待病情稳定的患者。", "Only stable conditions can be seen online.",
                _HOSPITAL_ZH, _HOSPITAL_EN),
        Problem("emergency", 422, "急症、重症不能在线就诊。", "Emergencies and severe illness cannot be seen online.",
                "请立即前往最近的医院急诊或拨打120。", "Go to the nearest emergency department at once or call 120."),
        Problem("red_flag", 422, "您描述的症状可能需要立即线下诊治。",
                "A symptom you describe may need immediate care in person.",
                "请立即前往最近的医院就诊;情况紧急请拨打120。",
                "Go to the nearest hospital now; call 120 in an emergency."),
    )
}


def failures(codes: list[str]) -> list[dict[str, Any]]:
    """The `failed` member: {code, detail, detail_en, next, next_en} of each."""
    members = ("code", "detail", "detail_en", "next", "next_en")
    rendered = [RULES[code].render({}) for code in codes]
    return [{member: rule[member] for member in members} for rule in rendered]
