"""What the consult service writes down: the doctor's side of a visit, and what was said on the message page.

`consult-<visit_id>` holds the consult, `conversation-<visit_id>` its messages. Words that a person wrote are sealed for
the patient and stay in this service's database (§31).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from eventkit.events import Refusal, Registry, personal

__all__ = ["Refusal"]

registry = Registry("consult")
TOPIC = "consult.consult.v1"

DeclineReason = Literal["unsuitable"]
CancelReason = Literal["missed", "declined", "silent", "patient", "session_cancelled", "ineligible"]
Sender = Literal["patient", "doctor", "system"]
Kind = Literal["text", "picture", "voice", "prescription"]
MediaKind = Literal["picture", "voice"]
Side = Literal["patient", "doctor"]
Medium = Literal["voice", "video"]
CallWord = Literal["voice", "video", "ended"]
Notice = Literal["accepted", "declined", "missed", "silence_warned", "abandoned", "finished", "cancelled"]


@registry.event("ConsultScheduled", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultScheduled:
    """A paid visit waits for its doctor until `day_ends_at`, the first instant after `day` in Asia/Shanghai (§18)."""

    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    day: date
    starts_at: datetime
    day_ends_at: datetime


@registry.event("ConsultAccepted", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultAccepted:
    visit_id: str
    doctor_id: str
    accepted_at: datetime


@registry.event("ConsultDeclined", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultDeclined:
    """`note` is for the doctor's own file; the patient is told `reason` (§19)."""

    visit_id: str
    patient_id: str
    doctor_id: str
    reason: DeclineReason
    note: str | None = personal()


@registry.event("ConsultMissed", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultMissed:
    visit_id: str
    doctor_id: str
    day: date


@registry.event("ConsultAbandoned", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultAbandoned:
    """Accepted, and then not a word from the doctor (§27)."""

    visit_id: str
    doctor_id: str


@registry.event("ConsultFinished", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultFinished:
    """The record of §28 is written with the end of the visit and sealed for the patient."""

    visit_id: str
    patient_id: str
    doctor_id: str
    finished_at: datetime
    complaint: str | None = personal()
    present_illness: str | None = personal()
    diagnosis: str | None = personal()
    icd10: str | None = personal()
    tcm_syndrome: str | None = personal()
    advice: str | None = personal()


@registry.event("ConsultCancelled", topic=TOPIC, key="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsultCancelled:
    """The visit ended at registration, before the doctor's side did (§29)."""

    visit_id: str
    reason: CancelReason


@registry.event("MessagePosted", topic=TOPIC, key="visit_id", person="visit_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePosted:
    """`number` counts the visit's messages from 1 and equals the version in the stream. A system message carries a
    `notice` code in place of words, or the prescription it shows (§20); a picture or voice clip is `media_id`. `call`
    says that a call of that medium can be joined, or has ended. Words are sealed under a key of the visit's own,
    because a conversation is erased years before the record (§32)."""

    visit_id: str
    patient_id: str
    message_id: str
    number: int
    sender: Sender
    kind: Kind
    posted_at: datetime
    notice: Notice | None = None
    prescription_id: str | None = None
    call_id: str | None = None
    call: CallWord | None = None
    media_id: str | None = None
    milliseconds: int | None = None
    text: str | None = personal()


@registry.event("MediaKept")
@dataclass(frozen=True, slots=True, kw_only=True)
class MediaKept:
    """A picture or voice clip is sealed in the collection `media`, for a message that may come (§17). It stays in the
    log: who sees the message asks for it by its id."""

    visit_id: str
    patient_id: str
    media_id: str
    kind: MediaKind
    sender: Side
    milliseconds: int
    kept_at: datetime


@registry.event("CallOpened")
@dataclass(frozen=True, slots=True, kw_only=True)
class CallOpened:
    """The doctor calls: both sides may join the room `call_id` (§17). Calls stay in the log, they are nobody else's
    business."""

    visit_id: str
    call_id: str
    medium: Medium
    opened_at: datetime


@registry.event("CallStarted")
@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """The first of the two is in the room."""

    visit_id: str
    call_id: str
    started_at: datetime


@registry.event("CallJoined")
@dataclass(frozen=True, slots=True, kw_only=True)
class CallJoined:
    visit_id: str
    call_id: str
    side: Side
    joined_at: datetime


@registry.event("CallEnded")
@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """Hanging up is not the end of a visit (§28)."""

    visit_id: str
    call_id: str
    ended_at: datetime


PRIVATE = (MediaKept, CallOpened, CallStarted, CallJoined, CallEnded)
Event = (
    ConsultScheduled
    | ConsultAccepted
    | ConsultDeclined
    | ConsultMissed
    | ConsultAbandoned
    | ConsultFinished
    | ConsultCancelled
    | MessagePosted
    | MediaKept
    | CallOpened
    | CallStarted
    | CallJoined
    | CallEnded
)
