"""The doctor's side of a visit: waiting, accepted, then finished, declined, missed, abandoned or cancelled.

Every command that changes the consult also posts a system message, so that both streams of a visit move together: a
message can never slip in behind the end of the visit, because the end has taken its place in the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from services.consult.events import (
    CallEnded,
    CallJoined,
    CallOpened,
    CallStarted,
    CallWord,
    CancelReason,
    ConsultAbandoned,
    ConsultAccepted,
    ConsultCancelled,
    ConsultDeclined,
    ConsultFinished,
    ConsultMissed,
    ConsultScheduled,
    DeclineReason,
    Event,
    MediaKept,
    MediaKind,
    Medium,
    MessagePosted,
    Notice,
    Refusal,
    Side,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
Status = Literal["absent", "waiting", "accepted", "declined", "missed", "abandoned", "finished", "cancelled"]
# K29.5, and as the national clinical edition has it: K29.500, I10.x00, I10.x00x002; dagger and asterisk as in G63.2*.
ICD10 = re.compile(r"[A-Z][0-9]{2}(?:\.(?:[0-9]{1,3}|x[0-9]{2})(?:x[0-9]{3})?)?[+*]?")
SYNDROME = re.compile(r"[\u4e00-\u9fff](?:[\u4e00-\u9fff、,()]{0,28}[\u4e00-\u9fff)])")
OPEN: tuple[Status, ...] = ("waiting", "accepted")


# --- policy


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers that a hospital sets, for visits from day `valid_from` on. `longest_text` counts characters;
    `most_media` the pictures and voice clips that one side may upload in a visit; a call of which nothing was heard
    for `longest_call` is taken as ended. A conversation is kept
    `conversation_years` from its day (§32)."""

    valid_from: date
    warn_after: timedelta
    abandon_after: timedelta
    longest_text: int
    most_messages: int
    longest_voice: timedelta
    most_media: int
    longest_call: timedelta
    conversation_years: int


POLICIES = (
    Policy(
        date(2026, 1, 1),
        warn_after=timedelta(minutes=30),
        abandon_after=timedelta(hours=2),
        longest_text=2000,
        most_messages=500,
        longest_voice=timedelta(seconds=60),
        most_media=60,
        longest_call=timedelta(hours=1),
        conversation_years=3,
    ),
)


def conversation_end(day: date) -> date:
    """§32: the first day on which the conversation of `day` is kept no more; of one on 29 February it is 1 March."""
    year = day.year + policy_on(day).conversation_years
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def policy_on(day: date) -> Policy:
    """The policy for visits of `day`; days before the first policy follow the first."""
    return next((policy for policy in reversed(POLICIES) if policy.valid_from <= day), POLICIES[0])


# --- commands


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConsult:
    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    day: date
    starts_at: datetime
    day_ends_at: datetime


@dataclass(frozen=True, slots=True)
class AcceptConsult:
    doctor_id: str


@dataclass(frozen=True, slots=True)
class DeclineConsult:
    doctor_id: str
    reason: DeclineReason
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishConsult:
    doctor_id: str
    complaint: str
    present_illness: str
    diagnosis: str
    icd10: str
    advice: str
    tcm_syndrome: str | None = None


@dataclass(frozen=True, slots=True)
class MissConsult:
    """The visit's day is over."""


@dataclass(frozen=True, slots=True)
class WarnOfSilence:
    """The doctor may have accepted and forgotten."""


@dataclass(frozen=True, slots=True)
class AbandonConsult:
    """The doctor was warned and may still be silent."""


@dataclass(frozen=True, slots=True)
class CancelConsult:
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class PostMessage:
    """`author_id` is an account for the patient's side, a doctor for the other. A picture or voice clip has been
    uploaded before, as `media_id`."""

    sender: Side
    author_id: str
    text: str = ""
    kind: Literal["text", "picture", "voice"] = "text"
    media_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepMedia:
    sender: Side
    author_id: str
    media_id: str
    kind: MediaKind
    milliseconds: int


@dataclass(frozen=True, slots=True)
class ShowPrescription:
    prescription_id: str


@dataclass(frozen=True, slots=True)
class OpenCall:
    doctor_id: str
    medium: Medium


@dataclass(frozen=True, slots=True)
class NoteCall:
    """What the server of the calls tells: the room began, `side` joined, the room ended."""

    call_id: str
    what: Literal["started", "joined", "ended"]
    side: Side | None = None


# --- state


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str
    medium: Medium
    opened_at: datetime
    started: bool = False
    joined: frozenset[Side] = frozenset()
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Consult:
    """`messages` is the number of the last one. `answered`: the doctor has written, prescribed, or spoken with the
    patient (§27). `media` is what was uploaded, `shown` what messages refer to; `call` is the last of `calls`."""

    status: Status = "absent"
    visit: ConsultScheduled | None = None
    accepted_at: datetime | None = None
    declined: ConsultDeclined | None = None
    finished: ConsultFinished | None = None
    cancelled_for: CancelReason | None = None
    messages: int = 0
    answered: bool = False
    warned: bool = False
    media: Mapping[str, MediaKept] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()
    calls: int = 0
    call: Call | None = None


def evolve(consult: Consult, event: Event) -> Consult:
    """Events of one stream in order; the two streams of a visit may come one after the other."""
    match event:
        case ConsultScheduled():
            return replace(consult, status="waiting", visit=event)
        case ConsultAccepted():
            return replace(consult, status="accepted", accepted_at=event.accepted_at)
        case ConsultDeclined():
            return replace(consult, status="declined", declined=event)
        case ConsultMissed():
            return replace(consult, status="missed")
        case ConsultAbandoned():
            return replace(consult, status="abandoned")
        case ConsultFinished():
            return replace(consult, status="finished", finished=event)
        case ConsultCancelled():
            return replace(consult, status="cancelled", cancelled_for=event.reason)
        case MessagePosted():
            return replace(
                consult,
                messages=event.number,
                answered=consult.answered or event.sender == "doctor" or event.kind == "prescription",
                warned=consult.warned or event.notice == "silence_warned",
                shown=consult.shown | ({event.media_id} if event.media_id else set()),
            )
        case MediaKept():
            return replace(consult, media={**consult.media, event.media_id: event})
        case CallOpened():
            return replace(
                consult, calls=consult.calls + 1, call=Call(event.call_id, event.medium, event.opened_at)
            )
        case CallStarted() if consult.call is not None:
            return replace(consult, call=replace(consult.call, started=True))
        case CallJoined() if consult.call is not None:
            joined = consult.call.joined | {event.side}
            return replace(
                consult, call=replace(consult.call, joined=joined), answered=consult.answered or len(joined) == 2
            )
        case CallEnded() if consult.call is not None:
            return replace(consult, call=replace(consult.call, ended=True))
        case _:  # of a call that was never opened
            return consult


# --- decisions


def schedule(command: ScheduleConsult, consult: Consult) -> list[Event]:
    """The booking is complete (§11): the visit waits for its doctor. Nothing when it does already."""
    if consult.visit is not None:
        return []
    return [
        ConsultScheduled(
            visit_id=command.visit_id,
            patient_id=command.patient_id,
            account_id=command.account_id,
            doctor_id=command.doctor_id,
            day=command.day,
            starts_at=command.starts_at,
            day_ends_at=command.day_ends_at,
        )
    ]


def accept(command: AcceptConsult, consult: Consult, now: datetime) -> list[Event]:
    """§18: its doctor, on its day. Refuses: not_found, consult_over, already_accepted, not_its_day."""
    visit = _of_doctor(consult, command.doctor_id)
    _still_open(consult, visit, now)
    if consult.status == "accepted":
        raise Refusal("already_accepted")
    if now.astimezone(SHANGHAI).date() != visit.day:
        raise Refusal("not_its_day", day=visit.day.isoformat())
    return [
        ConsultAccepted(visit_id=visit.visit_id, doctor_id=visit.doctor_id, accepted_at=now),
        _notice(visit, consult, "accepted", now),
    ]


def decline(command: DeclineConsult, consult: Consult, now: datetime) -> list[Event]:
    """§19: before or after accepting, also ahead of the day. Refuses: not_found, consult_over."""
    visit = _of_doctor(consult, command.doctor_id)
    _still_open(consult, visit, now)
    return [
        ConsultDeclined(
            visit_id=visit.visit_id,
            patient_id=visit.patient_id,
            doctor_id=visit.doctor_id,
            reason=command.reason,
            note=command.note,
        ),
        _notice(visit, consult, "declined", now),
    ]


def finish(command: FinishConsult, consult: Consult, now: datetime) -> list[Event]:
    """§28: with a record, every part of it: 主诉、现病史、诊断 with its ICD-10 code、建议; 中医证候 where the doctor
    treats by Chinese medicine. Refuses: not_found, consult_over, not_accepted, record_incomplete, diagnosis_code,
    syndrome_name."""
    visit = _of_doctor(consult, command.doctor_id)
    _still_open(consult, visit, now)
    if consult.status != "accepted":
        raise Refusal("not_accepted")
    record = (command.complaint, command.present_illness, command.diagnosis, command.icd10, command.advice)
    if not all(part.strip() for part in record):
        raise Refusal("record_incomplete")
    if not ICD10.fullmatch(command.icd10):
        raise Refusal("diagnosis_code")
    if command.tcm_syndrome is not None and not SYNDROME.fullmatch(command.tcm_syndrome):
        raise Refusal("syndrome_name")
    return [
        ConsultFinished(
            visit_id=visit.visit_id,
            patient_id=visit.patient_id,
            doctor_id=visit.doctor_id,
            finished_at=now,
            complaint=command.complaint,
            present_illness=command.present_illness,
            diagnosis=command.diagnosis,
            icd10=command.icd10,
            tcm_syndrome=command.tcm_syndrome,
            advice=command.advice,
        ),
        _notice(visit, consult, "finished", now),
    ]


def miss(command: MissConsult, consult: Consult, now: datetime) -> list[Event]:
    """§18: the day ended without acceptance. Nothing when it was accepted or ended otherwise. Refuses: too_early."""
    visit = consult.visit
    if visit is None or consult.status != "waiting":
        return []
    if now < visit.day_ends_at:
        raise Refusal("too_early")
    return [
        ConsultMissed(visit_id=visit.visit_id, doctor_id=visit.doctor_id, day=visit.day),
        _notice(visit, consult, "missed", now),
    ]


def warn_of_silence(command: WarnOfSilence, consult: Consult, now: datetime) -> list[Event]:
    """§27, the first step. Nothing when the doctor has answered or was warned. Refuses: too_early."""
    visit = _silent(consult)
    if visit is None or consult.warned:
        return []
    _not_before(consult, policy_on(visit.day).warn_after, now)
    return [_notice(visit, consult, "silence_warned", now)]


def abandon(command: AbandonConsult, consult: Consult, now: datetime) -> list[Event]:
    """§27, the last step: the visit is given back. Nothing when the doctor has answered. Refuses: too_early."""
    visit = _silent(consult)
    if visit is None:
        return []
    _not_before(consult, policy_on(visit.day).abandon_after, now)
    return [
        ConsultAbandoned(visit_id=visit.visit_id, doctor_id=visit.doctor_id),
        _notice(visit, consult, "abandoned", now),
    ]


def cancel(command: CancelConsult, consult: Consult, now: datetime) -> list[Event]:
    """The visit was withdrawn at registration (§29). Nothing when the consult has ended, perhaps as the cause of it."""
    visit = consult.visit
    if visit is None or consult.status not in OPEN:
        return []
    return [
        ConsultCancelled(visit_id=visit.visit_id, reason=command.reason),
        _notice(visit, consult, "cancelled", now),
    ]


def post(command: PostMessage, consult: Consult, now: datetime) -> list[Event]:
    """§17: the patient may write before the doctor comes, the doctor after accepting, neither after the end.

    Refuses: not_found, consult_over, not_accepted, text_length, media_unknown, conversation_full.
    """
    visit = may_write(command.sender, command.author_id, consult, now)
    policy = policy_on(visit.day)
    kept = None if command.kind == "text" else consult.media.get(command.media_id or "")
    if command.kind == "text":
        if not command.text.strip() or len(command.text) > policy.longest_text:
            raise Refusal("text_length", most=policy.longest_text)
    elif kept is None or (kept.sender, kept.kind) != (command.sender, command.kind):
        raise Refusal("media_unknown")
    if consult.messages >= policy.most_messages:
        raise Refusal("conversation_full", most=policy.most_messages)
    number = consult.messages + 1
    return [
        MessagePosted(
            visit_id=visit.visit_id,
            patient_id=visit.patient_id,
            message_id=_message_id(visit, number),
            number=number,
            sender=command.sender,
            kind=command.kind,
            posted_at=now,
            text=command.text if command.kind == "text" else None,
            media_id=kept.media_id if kept else None,
            milliseconds=kept.milliseconds if kept and kept.kind == "voice" else None,
        )
    ]


def keep_media(command: KeepMedia, consult: Consult, now: datetime) -> list[Event]:
    """§17: an upload, by whoever may write now. Refuses: not_found, consult_over, not_accepted, voice_length,
    media_full."""
    visit = may_write(command.sender, command.author_id, consult, now)
    policy = policy_on(visit.day)
    if command.kind == "voice" and not 0 < command.milliseconds <= policy.longest_voice / timedelta(milliseconds=1):
        raise Refusal("voice_length", most=int(policy.longest_voice.total_seconds()))
    if sum(kept.sender == command.sender for kept in consult.media.values()) >= policy.most_media:
        raise Refusal("media_full", most=policy.most_media)
    return [
        MediaKept(
            visit_id=visit.visit_id,
            patient_id=visit.patient_id,
            media_id=command.media_id,
            kind=command.kind,
            sender=command.sender,
            milliseconds=command.milliseconds,
            kept_at=now,
        )
    ]


def open_call(command: OpenCall, consult: Consult, now: datetime) -> list[Event]:
    """§17: the doctor calls. Nothing when a call of that medium is open already; one of the other takes its place.
    Refuses: not_found, consult_over, not_accepted, conversation_full."""
    visit = may_write("doctor", command.doctor_id, consult, now)
    call = current_call(consult, now)
    if call is not None and call.medium == command.medium:
        return []
    if consult.messages >= policy_on(visit.day).most_messages:
        raise Refusal("conversation_full", most=policy_on(visit.day).most_messages)
    call_id = f"{visit.visit_id}.{consult.calls + 1}"
    return [
        CallOpened(visit_id=visit.visit_id, call_id=call_id, medium=command.medium, opened_at=now),
        _call_word(visit, consult, call_id, command.medium, now),
    ]


def join_call(side: Side, subject: str, call_id: str, consult: Consult, now: datetime) -> Call:
    """§17: the call that this person may join now. Refuses: not_found, consult_over, not_accepted, call_over."""
    may_write(side, subject, consult, now)
    call = current_call(consult, now)
    if call is None or call.call_id != call_id:
        raise Refusal("call_over")
    return call


def note_call(command: NoteCall, consult: Consult, now: datetime) -> list[Event]:
    """What became of the last call. Nothing for another call, for news told twice or out of order after its end.
    §28: hanging up ends the call and not the visit; the patient is told so while it goes on."""
    visit, call = consult.visit, consult.call
    if visit is None or call is None or call.call_id != command.call_id or call.ended:
        return []
    match command.what:
        case "started" if not call.started:
            return [CallStarted(visit_id=visit.visit_id, call_id=call.call_id, started_at=now)]
        case "joined" if command.side is not None and command.side not in call.joined:
            return [CallJoined(visit_id=visit.visit_id, call_id=call.call_id, side=command.side, joined_at=now)]
        case "ended":
            ended = CallEnded(visit_id=visit.visit_id, call_id=call.call_id, ended_at=now)
            told = [_call_word(visit, consult, call.call_id, "ended", now)] if consult.status in OPEN else []
            return [ended, *told]
        case _:
            return []


def current_call(consult: Consult, now: datetime) -> Call | None:
    """The call that can be joined."""
    call, visit = consult.call, consult.visit
    if call is None or visit is None or call.ended:
        return None
    return call if now < call.opened_at + policy_on(visit.day).longest_call else None


def may_see(consult: Consult, media_id: str, role: Side) -> None:
    """§31: what a message shows is for both sides, what was only uploaded for whoever did. Refuses: not_found."""
    kept = consult.media.get(media_id)
    if kept is None or (media_id not in consult.shown and kept.sender != role):
        raise Refusal("not_found")


def may_write(
    sender: Side, author_id: str, consult: Consult, now: datetime
) -> ConsultScheduled:
    """§17: the visit in which this author may write now. Refuses: not_found, consult_over, not_accepted."""
    visit = may_read(consult, sender, author_id)
    _still_open(consult, visit, now)
    if sender == "doctor" and consult.status != "accepted":
        raise Refusal("not_accepted")
    return visit


def show_prescription(command: ShowPrescription, consult: Consult, now: datetime) -> list[Event]:
    """§20: the patient finds the sheet in the conversation, also when the pharmacist passed it after the doctor had
    finished. Refuses: not_found."""
    visit = consult.visit
    if visit is None:
        raise Refusal("not_found")
    number = consult.messages + 1
    return [
        MessagePosted(
            visit_id=visit.visit_id,
            patient_id=visit.patient_id,
            message_id=_message_id(visit, number),
            number=number,
            sender="system",
            kind="prescription",
            posted_at=now,
            prescription_id=command.prescription_id,
        )
    ]


def may_read(consult: Consult, role: Side, subject: str) -> ConsultScheduled:
    """The visit, for its patient's account or its doctor, also after its end (§31). Refuses: not_found."""
    return _of_doctor(consult, subject) if role == "doctor" else _of_account(consult, subject)


def _of_doctor(consult: Consult, doctor_id: str) -> ConsultScheduled:
    if consult.visit is None or consult.visit.doctor_id != doctor_id:
        raise Refusal("not_found")
    return consult.visit


def _of_account(consult: Consult, account_id: str) -> ConsultScheduled:
    if consult.visit is None or consult.visit.account_id != account_id:
        raise Refusal("not_found")
    return consult.visit


def _still_open(consult: Consult, visit: ConsultScheduled, now: datetime) -> None:
    """A visit that nobody accepted ends with its day, even before the deadline has been acted on."""
    if consult.status not in OPEN or (consult.status == "waiting" and now >= visit.day_ends_at):
        raise Refusal("consult_over")


def _silent(consult: Consult) -> ConsultScheduled | None:
    return consult.visit if consult.status == "accepted" and not consult.answered else None


def _not_before(consult: Consult, wait: timedelta, now: datetime) -> None:
    if consult.accepted_at is None or now < consult.accepted_at + wait:
        raise Refusal("too_early")


def _notice(visit: ConsultScheduled, consult: Consult, notice: Notice, now: datetime) -> MessagePosted:
    number = consult.messages + 1
    return MessagePosted(
        visit_id=visit.visit_id,
        patient_id=visit.patient_id,
        message_id=_message_id(visit, number),
        number=number,
        sender="system",
        kind="text",
        posted_at=now,
        notice=notice,
    )


def _call_word(visit: ConsultScheduled, consult: Consult, call_id: str, word: CallWord, now: datetime) -> MessagePosted:
    number = consult.messages + 1
    return MessagePosted(
        visit_id=visit.visit_id,
        patient_id=visit.patient_id,
        message_id=_message_id(visit, number),
        number=number,
        sender="system",
        kind="text",
        posted_at=now,
        call_id=call_id,
        call=word,
    )


def _message_id(visit: ConsultScheduled, number: int) -> str:
    return f"{visit.visit_id}-{number}"
