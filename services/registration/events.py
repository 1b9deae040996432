"""What registration writes down. Events with a topic travel; others, and all `personal()` values, stay (§31)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from eventkit.events import Refusal, Registry, personal

__all__ = [
    "AccountOpened", "CardBound", "ClaimReleased", "DiaryCleared", "DiaryEntered", "DraftSaved", "DraftSubmitted",
    "HoldUnpaid", "MessageDelayed", "MessageGivenUp", "MessagePlanned", "MessageSent", "OfferEnded", "OrderClosed",
    "PatientAdded", "PatientErased", "PatientLinked", "PatientRestricted", "PhoneTaken", "PhotoAdded",
    "PreferencesSet", "Refusal", "SessionCancelled", "SessionOpened", "Slot", "SlotClosed", "SlotHeld",
    "SlotOffered", "SlotReleased", "SlotSold", "VisitAccepted", "VisitBooked", "VisitClaimed", "VisitDescribed",
    "VisitFinished", "VisitLapsed", "VisitRequested", "VisitWithdrawn", "WaitingJoined", "WaitingLeft", "registry",
]

registry = Registry("registration")

PATIENTS = "registration.patient.v1"
SESSIONS = "registration.session.v1"
VISITS = "registration.visit.v1"


# --- accounts and patients: streams phone-<blind phone>, account-<id>, patient-<id>, photo-<id>


@registry.event("PhoneTaken")
@dataclass(frozen=True, slots=True)
class PhoneTaken:
    """One account a phone: whoever writes this first has it (§7)."""

    account_id: str


@registry.event("AccountOpened", person="account_id")
@dataclass(frozen=True, slots=True)
class AccountOpened:
    account_id: str
    phone: str | None = personal()


@registry.event("PreferencesSet", person="account_id")
@dataclass(frozen=True, slots=True)
class PreferencesSet:
    """In which language the account is told, and where: sms, wechat. `wechat_openid` is who they are to the hospital's
    own WeChat account."""

    account_id: str
    language: str
    channel: str
    wechat_openid: str | None = personal()


@registry.event("PatientLinked")
@dataclass(frozen=True, slots=True)
class PatientLinked:
    """The account's list of its patients."""

    account_id: str
    patient_id: str


@registry.event("PatientAdded")
@dataclass(frozen=True, slots=True)
class PatientAdded:
    """`his_patient_id` is the real person; the same person under two accounts is two patients. The guardian's fields
    stand where the patient was under age when added, `guardian_consented_at` with them (§26). `document` is what
    `id_number` is the number of."""

    patient_id: str
    account_id: str
    his_patient_id: str
    relation: str
    document: str = "resident_id"
    guardian_consented_at: datetime | None = None
    guardian_document: str | None = None
    name: str | None = personal()
    id_number: str | None = personal()
    phone: str | None = personal()
    birth_date: date | None = personal()
    sex: str | None = personal()
    guardian_name: str | None = personal()
    guardian_id_number: str | None = personal()
    guardian_phone: str | None = personal()
    guardian_relation: str | None = personal()


@registry.event("PatientRestricted", topic=PATIENTS, key="patient_id")
@dataclass(frozen=True, slots=True)
class PatientRestricted:
    """§32: the account asked for erasure; the records are kept until `until` and no longer used."""

    patient_id: str
    account_id: str
    until: date


@registry.event("PatientErased", topic=PATIENTS, key="patient_id")
@dataclass(frozen=True, slots=True)
class PatientErased:
    """§32: the patient's key is gone, and with it every personal value. What happened stays, without saying to whom."""

    patient_id: str
    account_id: str
    erased_at: datetime


@registry.event("CardBound")
@dataclass(frozen=True, slots=True)
class CardBound:
    """`kind` is visit_card or insurance_card; `card_kind` says who pays: beijing_insured, other_insured, uninsured."""

    patient_id: str
    card_id: str
    kind: str
    card_kind: str
    card_no: str | None = personal()


@registry.event("PhotoAdded")
@dataclass(frozen=True, slots=True)
class PhotoAdded:
    """The picture itself is sealed in the collection `photos`."""

    photo_id: str
    patient_id: str
    account_id: str


# --- sessions: streams session-<id>, diary-<doctor>.<day>, slot-<id>


@dataclass(frozen=True, slots=True)
class Slot:
    slot_id: str
    starts_at: datetime


@registry.event("SessionOpened", topic=SESSIONS, key="session_id")
@dataclass(frozen=True, slots=True)
class SessionOpened:
    session_id: str
    doctor_id: str
    department_id: str
    title: str
    day: date
    starts_at: datetime
    ends_at: datetime
    fee_fen: int
    slots: tuple[Slot, ...]


@registry.event("SessionCancelled", topic=SESSIONS, key="session_id")
@dataclass(frozen=True, slots=True)
class SessionCancelled:
    """§29 停诊. `reason` says who called it off, and no more (a doctor's illness travels nowhere): doctor, hospital."""

    session_id: str
    reason: str


@registry.event("DiaryEntered")
@dataclass(frozen=True, slots=True)
class DiaryEntered:
    """A doctor's day: nobody sits in two sessions at once."""

    session_id: str
    starts_at: datetime
    ends_at: datetime


@registry.event("DiaryCleared")
@dataclass(frozen=True, slots=True)
class DiaryCleared:
    """The session of that entry was cancelled; its time is free again."""

    session_id: str


@registry.event("SlotClosed")
@dataclass(frozen=True, slots=True)
class SlotClosed:
    """§29: written on every slot with SessionCancelled, so that a booking under way loses its place in the insert."""

    slot_id: str
    session_id: str


@registry.event("SlotHeld")
@dataclass(frozen=True, slots=True)
class SlotHeld:
    slot_id: str
    session_id: str
    visit_id: str


@registry.event("SlotSold")
@dataclass(frozen=True, slots=True)
class SlotSold:
    slot_id: str
    session_id: str
    visit_id: str


@registry.event("SlotReleased")
@dataclass(frozen=True, slots=True)
class SlotReleased:
    slot_id: str
    session_id: str
    visit_id: str


# --- visits: streams visit-<id>, live-<person>.<doctor>.<day>


@registry.event("VisitRequested", topic=VISITS, key="visit_id")
@dataclass(frozen=True, slots=True)
class VisitRequested:
    visit_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    department_id: str
    session_id: str
    slot_id: str
    day: date
    starts_at: datetime
    entrance: str
    card_id: str
    card_kind: str
    title: str
    fee_fen: int
    assessment_id: str
    hold_until: datetime


@registry.event("VisitDescribed")
@dataclass(frozen=True, slots=True)
class VisitDescribed:
    """What came with the request and does not travel: the confirmed notice (§4), the declaration (§3), the condition
    and its photos (§10). `claim` names the stream that keeps one live visit (§30)."""

    visit_id: str
    patient_id: str
    his_patient_id: str
    claim: str
    notice_version: str
    notice_confirmed_at: datetime
    notice_confirmed_by: str
    follow_up: bool
    stable: bool
    emergency: bool
    photo_ids: tuple[str, ...] = ()
    chief_complaint: str | None = personal()
    present_illness: str | None = personal()
    past_history: str | None = personal()
    allergies: str | None = personal()


@registry.event("DraftSaved")
@dataclass(frozen=True, slots=True)
class DraftSaved:
    """§10: the parts of a booking that were saved this time; what is None was not touched. Stream draft-<id>."""

    draft_id: str
    account_id: str
    patient_id: str
    card_id: str | None = None
    session_id: str | None = None
    slot_id: str | None = None
    entrance: str | None = None
    notice_version: str | None = None
    photo_ids: tuple[str, ...] | None = None
    follow_up: bool | None = None
    stable: bool | None = None
    emergency: bool | None = None
    chief_complaint: str | None = personal()
    present_illness: str | None = personal()
    past_history: str | None = personal()
    allergies: str | None = personal()


@registry.event("DraftSubmitted")
@dataclass(frozen=True, slots=True)
class DraftSubmitted:
    draft_id: str
    visit_id: str


@registry.event("VisitBooked", topic=VISITS, key="visit_id")
@dataclass(frozen=True, slots=True)
class VisitBooked:
    visit_id: str
    order_id: str
    patient_id: str
    account_id: str
    doctor_id: str
    department_id: str
    session_id: str
    slot_id: str
    day: date
    starts_at: datetime
    card_kind: str
    fee_fen: int


@registry.event("VisitLapsed", topic=VISITS, key="visit_id")
@dataclass(frozen=True, slots=True)
class VisitLapsed:
    """`reason`: unpaid, ineligible."""

    visit_id: str
    slot_id: str
    reason: str


@registry.event("VisitWithdrawn", topic=VISITS, key="visit_id")
@dataclass(frozen=True, slots=True)
class VisitWithdrawn:
    """`reason`: missed, declined, silent, patient, session_cancelled, ineligible."""

    visit_id: str
    slot_id: str
    reason: str


@registry.event("VisitAccepted")
@dataclass(frozen=True, slots=True)
class VisitAccepted:
    """Consult said so; from here the patient can no longer withdraw (§29)."""

    visit_id: str


@registry.event("VisitFinished")
@dataclass(frozen=True, slots=True)
class VisitFinished:
    visit_id: str


@registry.event("HoldUnpaid")
@dataclass(frozen=True, slots=True)
class HoldUnpaid:
    """An account let a hold run out. Stream holds-<account>."""

    account_id: str
    visit_id: str
    at: datetime


# --- waiting lists: stream waiting-<session>


@registry.event("WaitingJoined")
@dataclass(frozen=True, slots=True)
class WaitingJoined:
    session_id: str
    entry_id: str
    account_id: str
    patient_id: str


@registry.event("WaitingLeft")
@dataclass(frozen=True, slots=True)
class WaitingLeft:
    """`reason`: left (by the patient), passed (the offer ran out), booked."""

    entry_id: str
    reason: str


@registry.event("SlotOffered")
@dataclass(frozen=True, slots=True)
class SlotOffered:
    """Stands in the slot's stream and in the waiting list's: until then only this patient may book the slot."""

    session_id: str
    slot_id: str
    entry_id: str
    account_id: str
    patient_id: str
    until: datetime
    starts_at: datetime


@registry.event("OfferEnded")
@dataclass(frozen=True, slots=True)
class OfferEnded:
    slot_id: str
    session_id: str
    entry_id: str


@registry.event("VisitClaimed")
@dataclass(frozen=True, slots=True)
class VisitClaimed:
    visit_id: str


@registry.event("ClaimReleased")
@dataclass(frozen=True, slots=True)
class ClaimReleased:
    visit_id: str


# --- messages to patients: streams message-<id>, order-<prescription id>


@registry.event("MessagePlanned")
@dataclass(frozen=True, slots=True)
class MessagePlanned:
    """`cause` is the event that is told and what of it is told, the number under which the provider takes it once.
    Language and channel are what the account wished when this was planned. `at_once`: also in quiet hours.
    `prescription_id` stands where it asks for a payment, and is not sent once that has no more use."""

    message_id: str
    cause: str
    account_id: str
    visit_id: str
    template: str
    params: dict[str, str]
    language: str = "zh"
    channel: str = "sms"
    at_once: bool = False
    prescription_id: str = ""


@registry.event("MessageDelayed")
@dataclass(frozen=True, slots=True)
class MessageDelayed:
    """It could not go out before quiet hours began."""

    message_id: str
    until: datetime


@registry.event("MessageSent")
@dataclass(frozen=True, slots=True)
class MessageSent:
    """`channel` is the one it really went by."""

    message_id: str
    channel: str = "sms"


@registry.event("MessageGivenUp")
@dataclass(frozen=True, slots=True)
class MessageGivenUp:
    """`reason` is the partner's code, no_phone when the account's key is erased, or order_closed."""

    message_id: str
    reason: str


@registry.event("OrderClosed")
@dataclass(frozen=True, slots=True)
class OrderClosed:
    """A prescription needs no payment any more: paid, settled at the desk, or void. Nobody is reminded of it."""

    prescription_id: str
