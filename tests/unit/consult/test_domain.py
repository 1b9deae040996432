"""The doctor's side of a visit, as a table: given what happened, when somebody asks at an instant, then events or a
refusal's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from services.consult import domain
from services.consult.domain import Consult
from services.consult.events import ConsultFinished, Event, Refusal
from tests.unit.consult.story import (
    ABANDONED,
    ACCEPTED,
    ACCOUNT,
    CANCELLED,
    DAY,
    DAY_ENDS,
    DAY_STARTS,
    DECLINED,
    DOCTOR,
    FINISHED,
    MILLISECOND,
    MISSED,
    PATIENT,
    SCHEDULED,
    SLOT,
    VISIT,
    noticed,
    prescribed,
    said,
)

Decide = Callable[[Any, Consult, datetime], list[Event]]
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

ACCEPT = domain.AcceptConsult(DOCTOR)
DECLINE = domain.DeclineConsult(DOCTOR, "unsuitable", "胸痛")
FINISH = domain.FinishConsult(
    doctor_id=DOCTOR, complaint="复诊", present_illness="平稳", diagnosis="高血压", icd10="I10", advice="继续服药"
)
RECORDED = replace(
    FINISHED, complaint="复诊", present_illness="平稳", diagnosis="高血压", icd10="I10", advice="继续服药"
)
MISS, WARN, ABANDON = domain.MissConsult(), domain.WarnOfSilence(), domain.AbandonConsult()
CANCEL = domain.CancelConsult("patient")
SHOW = domain.ShowPrescription("rx1")
TALKING: list[Event] = [SCHEDULED, ACCEPTED, noticed(1, "accepted")]


def patient_says(text: str) -> domain.PostMessage:
    return domain.PostMessage("patient", ACCOUNT, text)


def doctor_says(text: str) -> domain.PostMessage:
    return domain.PostMessage("doctor", DOCTOR, text)


def schedule(command: domain.ScheduleConsult, consult: Consult, now: datetime) -> list[Event]:
    return domain.schedule(command, consult)


Case = tuple[str, Sequence[Any], Decide, Any, datetime, list[Event] | str]

CASES: list[Case] = [
    # --- §11, §18: a paid visit waits for its doctor
    ("§11 a booked visit waits", [], schedule,
     domain.ScheduleConsult(visit_id=VISIT, patient_id=PATIENT, account_id=ACCOUNT, doctor_id=DOCTOR, day=DAY,
                            starts_at=SLOT, day_ends_at=DAY_ENDS), SLOT, [SCHEDULED]),
    ("§11 it is scheduled once", [SCHEDULED], schedule,
     domain.ScheduleConsult(visit_id=VISIT, patient_id=PATIENT, account_id=ACCOUNT, doctor_id=DOCTOR, day=DAY,
                            starts_at=SLOT, day_ends_at=DAY_ENDS), SLOT, []),
    # --- §18: accepted on its day, by its doctor
    ("§18 the doctor accepts on the day", [SCHEDULED], domain.accept, ACCEPT, SLOT,
     [ACCEPTED, noticed(1, "accepted")]),
    ("§18 the first instant of the day", [SCHEDULED], domain.accept, ACCEPT, DAY_STARTS,
     [replace(ACCEPTED, accepted_at=DAY_STARTS), noticed(1, "accepted", DAY_STARTS)]),
    ("§18 the last millisecond of the day, 23:59:59.999", [SCHEDULED], domain.accept, ACCEPT, DAY_ENDS - MILLISECOND,
     [replace(ACCEPTED, accepted_at=DAY_ENDS - MILLISECOND), noticed(1, "accepted", DAY_ENDS - MILLISECOND)]),
    ("§18 the day before is too soon", [SCHEDULED], domain.accept, ACCEPT, DAY_STARTS - MILLISECOND, "not_its_day"),
    ("§18 midnight is too late, even before the deadline was acted on", [SCHEDULED], domain.accept, ACCEPT, DAY_ENDS,
     "consult_over"),
    ("§18 not by another doctor, who learns nothing (§31)", [SCHEDULED], domain.accept, domain.AcceptConsult("d-wu"),
     SLOT, "not_found"),
    ("§18 nothing to accept", [], domain.accept, ACCEPT, SLOT, "not_found"),
    ("§18 once", TALKING, domain.accept, ACCEPT, SLOT, "already_accepted"),
    *[("§18 not after the end", [SCHEDULED, end], domain.accept, ACCEPT, SLOT, "consult_over")
      for end in (DECLINED, MISSED, ABANDONED, FINISHED, CANCELLED)],
    # --- §18: missed
    ("§18 nobody came: missed at the first instant after the day", [SCHEDULED], domain.miss, MISS, DAY_ENDS,
     [MISSED, noticed(1, "missed", DAY_ENDS)]),
    ("§18 missed late, after an outage of days", [SCHEDULED], domain.miss, MISS, DAY_ENDS + 72 * HOUR,
     [MISSED, noticed(1, "missed", DAY_ENDS + 72 * HOUR)]),
    ("§18 never early", [SCHEDULED], domain.miss, MISS, DAY_ENDS - MILLISECOND, "too_early"),
    ("§18 never when accepted", TALKING, domain.miss, MISS, DAY_ENDS, []),
    ("§18 never twice", [SCHEDULED, MISSED, noticed(1, "missed")], domain.miss, MISS, DAY_ENDS, []),
    ("§18 not what was never booked", [], domain.miss, MISS, DAY_ENDS, []),
    *[("§18 not what ended otherwise", [SCHEDULED, end], domain.miss, MISS, DAY_ENDS, [])
      for end in (DECLINED, CANCELLED)],
    # --- §19: declined
    ("§19 declined before accepting", [SCHEDULED], domain.decline, DECLINE, SLOT,
     [replace(DECLINED, note="胸痛"), noticed(1, "declined")]),
    ("§19 declined ahead of the day", [SCHEDULED], domain.decline, DECLINE, DAY_STARTS - 24 * HOUR,
     [replace(DECLINED, note="胸痛"), noticed(1, "declined", DAY_STARTS - 24 * HOUR)]),
    ("§19 declined after accepting", TALKING, domain.decline, DECLINE, SLOT,
     [replace(DECLINED, note="胸痛"), noticed(2, "declined")]),
    ("§19 declined after accepting, past midnight", TALKING, domain.decline, DECLINE, DAY_ENDS + HOUR,
     [replace(DECLINED, note="胸痛"), noticed(2, "declined", DAY_ENDS + HOUR)]),
    ("§19 not by another doctor", [SCHEDULED], domain.decline, domain.DeclineConsult("d-wu", "unsuitable"), SLOT,
     "not_found"),
    ("§19 not after the end", [*TALKING, FINISHED], domain.decline, DECLINE, SLOT, "consult_over"),
    ("§19 not after the day, unaccepted", [SCHEDULED], domain.decline, DECLINE, DAY_ENDS, "consult_over"),
    # --- §28: finished with a record
    ("§28 finished with a record", TALKING, domain.finish, FINISH, SLOT, [RECORDED, noticed(2, "finished")]),
    ("§28 finished past midnight", TALKING, domain.finish, FINISH, DAY_ENDS + HOUR,
     [replace(RECORDED, finished_at=DAY_ENDS + HOUR), noticed(2, "finished", DAY_ENDS + HOUR)]),
    ("§28 not before it was accepted", [SCHEDULED], domain.finish, FINISH, SLOT, "not_accepted"),
    ("§28 once", [*TALKING, FINISHED], domain.finish, FINISH, SLOT, "consult_over"),
    *[("§28 every part of the record", TALKING, domain.finish, replace(FINISH, **{part: "  "}), SLOT,
       "record_incomplete")
      for part in ("complaint", "present_illness", "diagnosis", "icd10", "advice")],
    *[("§28 the code of the diagnosis has the form of ICD-10", TALKING, domain.finish, replace(FINISH, icd10=code),
       SLOT, [replace(RECORDED, icd10=code), noticed(2, "finished")])
      for code in ("K29.5", "K29.500", "I10.x00", "I10.x00x002", "U07.1", "G63.2*", "E11.4+", "S72.00")],
    *[("§28 anything else is no code", TALKING, domain.finish, replace(FINISH, icd10=code), SLOT, "diagnosis_code")
      for code in ("高血压", "i10", "I1", "I10.", "I100", "10I", "K29.5000", "K29.5 ", "I10.x00x02", "K29.5;I10")],
    *[("§28 with a syndrome of Chinese medicine", TALKING, domain.finish, replace(FINISH, tcm_syndrome=name), SLOT,
       [replace(RECORDED, tcm_syndrome=name), noticed(2, "finished")])
      for name in ("肝胃不和证", "脾虚", "脾胃虚寒证、兼气滞", "证" * 30)],
    *[("§28 a syndrome has a Chinese name", TALKING, domain.finish, replace(FINISH, tcm_syndrome=name), SLOT,
       "syndrome_name") for name in ("", " ", "证", "liver", "证" * 31, "肝胃不和证1")],
    # --- §27: accepted but silent
    ("§27 warned after 30 minutes", TALKING, domain.warn_of_silence, WARN, SLOT + 30 * MINUTE,
     [noticed(2, "silence_warned", SLOT + 30 * MINUTE)]),
    ("§27 not a moment sooner", TALKING, domain.warn_of_silence, WARN, SLOT + 30 * MINUTE - MILLISECOND, "too_early"),
    ("§27 warned once", [*TALKING, noticed(2, "silence_warned")], domain.warn_of_silence, WARN, SLOT + HOUR, []),
    ("§27 no warning once the doctor wrote", [*TALKING, said(2, "doctor")], domain.warn_of_silence, WARN, SLOT + HOUR,
     []),
    ("§27 the patient's words do not count", [*TALKING, said(2, "patient")], domain.warn_of_silence, WARN, SLOT + HOUR,
     [noticed(3, "silence_warned", SLOT + HOUR)]),
    ("§27 given back after 2 hours", [*TALKING, said(2, "patient"), noticed(3, "silence_warned")], domain.abandon,
     ABANDON, SLOT + 2 * HOUR, [ABANDONED, noticed(4, "abandoned", SLOT + 2 * HOUR)]),
    ("§27 never sooner", TALKING, domain.abandon, ABANDON, SLOT + 2 * HOUR - MILLISECOND, "too_early"),
    ("§27 a word from the doctor is enough", [*TALKING, noticed(2, "silence_warned"), said(3, "doctor")],
     domain.abandon, ABANDON, SLOT + 2 * HOUR, []),
    ("§27 a prescription is an answer too", [*TALKING, prescribed(2)], domain.abandon, ABANDON, SLOT + 2 * HOUR, []),
    *[("§27 not what has ended", [*TALKING, end], domain.abandon, ABANDON, SLOT + 2 * HOUR, [])
      for end in (FINISHED, DECLINED, CANCELLED, ABANDONED)],
    ("§27 not what waits", [SCHEDULED], domain.abandon, ABANDON, SLOT + 2 * HOUR, []),
    # --- §29: withdrawn at registration
    ("§29 the patient withdrew", [SCHEDULED], domain.cancel, CANCEL, SLOT, [CANCELLED, noticed(1, "cancelled")]),
    ("§29 withdrawn while talking", TALKING, domain.cancel, CANCEL, SLOT, [CANCELLED, noticed(2, "cancelled")]),
    *[("§29 the echo of our own end changes nothing", [SCHEDULED, end], domain.cancel, CANCEL, SLOT, [])
      for end in (DECLINED, MISSED, ABANDONED, FINISHED, CANCELLED)],
    ("§29 never booked", [], domain.cancel, CANCEL, SLOT, []),
    # --- §17: messages
    ("§17 the patient writes before the doctor comes", [SCHEDULED], domain.post, patient_says("您好"), SLOT,
     [said(1, "patient", "您好")]),
    ("§17 and days before", [SCHEDULED], domain.post, patient_says("您好"), DAY_STARTS - 48 * HOUR,
     [said(1, "patient", "您好", DAY_STARTS - 48 * HOUR)]),
    ("§17 the doctor writes after accepting", TALKING, domain.post, doctor_says("您好"), SLOT,
     [said(2, "doctor", "您好")]),
    ("§17 and not before", [SCHEDULED], domain.post, doctor_says("您好"), SLOT, "not_accepted"),
    ("§17 the talk may pass midnight", TALKING, domain.post, patient_says("还在吗"), DAY_ENDS + HOUR,
     [said(2, "patient", "还在吗", DAY_ENDS + HOUR)]),
    ("§18 a day without the doctor ends the talk", [SCHEDULED], domain.post, patient_says("您好"), DAY_ENDS,
     "consult_over"),
    *[("§17 the patient not after the end", [*TALKING, end], domain.post, patient_says("您好"), SLOT, "consult_over")
      for end in (DECLINED, ABANDONED, FINISHED, CANCELLED, MISSED)],
    *[("§17 nor the doctor", [*TALKING, end], domain.post, doctor_says("您好"), SLOT, "consult_over")
      for end in (DECLINED, ABANDONED, FINISHED, CANCELLED, MISSED)],
    ("§31 not another account", [SCHEDULED], domain.post, domain.PostMessage("patient", "a2", "您好"), SLOT,
     "not_found"),
    ("§31 nor another doctor", TALKING, domain.post, domain.PostMessage("doctor", "d-wu", "您好"), SLOT, "not_found"),
    ("§31 a doctor is no patient by writing like one", TALKING, domain.post,
     domain.PostMessage("patient", DOCTOR, "您好"), SLOT, "not_found"),
    ("§17 a blank is no message", [SCHEDULED], domain.post, patient_says(" \n"), SLOT, "text_length"),
    ("§17 the longest message", [SCHEDULED], domain.post, patient_says("好" * 2000), SLOT,
     [said(1, "patient", "好" * 2000)]),
    ("§17 longer", [SCHEDULED], domain.post, patient_says("好" * 2001), SLOT, "text_length"),
    ("§17 a conversation has an end", [*TALKING, said(500, "patient")], domain.post, patient_says("您好"), SLOT,
     "conversation_full"),
    # --- §20: the prescription sheet in the conversation
    ("§20 shown", TALKING, domain.show_prescription, SHOW, SLOT, [prescribed(2)]),
    ("§20 shown although the doctor has finished", [*TALKING, FINISHED, noticed(2, "finished")],
     domain.show_prescription, SHOW, SLOT, [prescribed(3)]),
    ("§20 shown in a full conversation", [*TALKING, said(500, "patient")], domain.show_prescription, SHOW, SLOT,
     [prescribed(501)]),
    ("§20 of no visit of ours", [], domain.show_prescription, SHOW, SLOT, "not_found"),
]


@pytest.mark.parametrize(
    ("given", "decide", "command", "now", "then"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_given_when_then(
    given: Sequence[Event], decide: Decide, command: Any, now: datetime, then: list[Event] | str
) -> None:
    consult = reduce(domain.evolve, given, Consult())
    if isinstance(then, str):
        with pytest.raises(Refusal) as refused:
            decide(command, consult, now)
        assert refused.value.code == then
    else:
        assert decide(command, consult, now) == then


def test_the_streams_of_a_visit_may_be_read_one_after_the_other() -> None:
    consult = reduce(domain.evolve, [SCHEDULED, ACCEPTED, FINISHED], Consult())
    consult = reduce(domain.evolve, [said(1, "patient"), noticed(2, "accepted"), said(3, "doctor")], consult)
    assert (consult.status, consult.messages, consult.answered) == ("finished", 3, True)


def test_an_erased_record_reads_as_none() -> None:
    """§32: the key is gone, the fact that the visit was finished is not."""
    finished = ConsultFinished(visit_id=VISIT, patient_id=PATIENT, doctor_id=DOCTOR, finished_at=SLOT)
    consult = domain.evolve(reduce(domain.evolve, TALKING, Consult()), finished)
    assert consult.status == "finished"
    assert consult.finished is not None
    assert consult.finished.diagnosis is None


@pytest.mark.parametrize(
    ("role", "subject", "may"),
    [("patient", ACCOUNT, True), ("doctor", DOCTOR, True), ("patient", DOCTOR, False), ("doctor", ACCOUNT, False)],
)
def test_31_only_the_visits_own_people_read(role: Any, subject: str, may: bool) -> None:
    consult = reduce(domain.evolve, [SCHEDULED, MISSED], Consult())
    if may:
        assert domain.may_read(consult, role, subject) == SCHEDULED
        return
    with pytest.raises(Refusal, match="not_found"):
        domain.may_read(consult, role, subject)


@pytest.mark.parametrize("day", [date(2020, 1, 1), date(2026, 1, 1), date(2030, 1, 1)])
def test_every_day_has_a_policy(day: date) -> None:
    assert domain.policy_on(day).warn_after < domain.policy_on(day).abandon_after
