"""Patients and their cards (§7, §8, §26)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from services.registration.events import CardBound, PatientAdded, PatientErased, PatientRestricted, Refusal

RELATIONS = ("self", "spouse", "parent", "child", "ward", "other")
GUARDED_RELATIONS = ("child", "ward")
ADULT_YEARS = 18
FIRST_BIRTH_DATE = date(1900, 1, 1)

RESIDENT_ID = "resident_id"
SEXES = ("female", "male")

# What the papers other than the resident ID look like. None of them says birth date or sex; these are given and matched
# with the HIS.
_NUMBERS = {
    "passport": re.compile(r"(?=.*[0-9])[A-Z0-9]{5,9}"),  # ICAO 9303: at most nine letters and digits
    "hk_macao_permit": re.compile(r"[HM][0-9]{8}([0-9]{2})?"),  # 港澳居民来往内地通行证, with or without its renewals
    "taiwan_permit": re.compile(r"[0-9]{8}"),  # 台湾居民来往大陆通行证
}
DOCUMENTS = (RESIDENT_ID, *_NUMBERS)

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a document says of its holder, or the holder says of themselves; `sex` is female or male."""

    birth_date: date
    sex: str


@dataclass(frozen=True, slots=True)
class HisPerson:
    """Who the HIS takes the patient for."""

    his_patient_id: str
    birth_date: date
    sex: str


@dataclass(frozen=True, slots=True)
class Guardian:
    name: str
    id_number: str
    phone: str
    relation: str
    consents: bool
    document: str = RESIDENT_ID
    birth_date: date | None = None
    sex: str | None = None


@dataclass(frozen=True, slots=True)
class AddPatient:
    """`document` is one of DOCUMENTS, `id_number` its number; birth date and sex are needed where it does not
    say them."""

    account_id: str
    name: str
    id_number: str
    phone: str
    relation: str
    guardian: Guardian | None = None
    document: str = RESIDENT_ID
    birth_date: date | None = None
    sex: str | None = None


@dataclass(frozen=True, slots=True)
class BindCard:
    card_no: str
    kind: str


@dataclass(frozen=True, slots=True)
class HisCard:
    """A card that the HIS knows as used at this hospital by this very person."""

    card_id: str
    card_kind: str


@dataclass(frozen=True, slots=True)
class Patient:
    added: PatientAdded
    cards: tuple[CardBound, ...] = ()
    restricted: PatientRestricted | None = None
    erased: bool = False

    def card(self, card_id: str) -> CardBound | None:
        return next((card for card in self.cards if card.card_id == card_id), None)


def evolve(state: Patient | None, event: Any) -> Patient | None:
    match event:
        case PatientAdded():
            return Patient(event)
        case CardBound() if state is not None:
            return replace(state, cards=(*state.cards, event))
        case PatientRestricted() if state is not None:
            return replace(state, restricted=event)
        case PatientErased() if state is not None:
            return replace(state, erased=True)
    return state


def read_document(person: AddPatient | Guardian, today: date) -> Identity:
    """§7: the number is one of its kind; a birth date or sex that is given beside a resident ID number agrees with it.
    Residents of Hong Kong, Macao and Taiwan who hold a residence permit (港澳台居民居住证) have a resident ID number.
    Raises Refusal: id_number_wrong, birth_date_needed."""
    if person.document == RESIDENT_ID:
        identity = read_id_number(person.id_number, today)
        if person.birth_date not in (None, identity.birth_date) or person.sex not in (None, identity.sex):
            raise Refusal("id_number_wrong")
        return identity
    if not _NUMBERS[person.document].fullmatch(person.id_number):
        raise Refusal("id_number_wrong")
    if person.birth_date is None or person.sex is None or not FIRST_BIRTH_DATE <= person.birth_date <= today:
        raise Refusal("birth_date_needed")
    return Identity(person.birth_date, person.sex)


def read_id_number(number: str, today: date) -> Identity:
    """§7: checksum, birth date and sex of a resident ID number (GB 11643-1999): 17 digits and a check digit; the 17th
    is odd for men. Raises Refusal("id_number_wrong")."""
    digits = number[:17]
    if len(number) != 18 or not (digits.isascii() and digits.isdecimal()) or _check_digit(digits) != number[17]:
        raise Refusal("id_number_wrong")
    try:
        birth_date = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError as error:
        raise Refusal("id_number_wrong") from error
    if not FIRST_BIRTH_DATE <= birth_date <= today:
        raise Refusal("id_number_wrong")
    return Identity(birth_date, "male" if int(number[16]) % 2 else "female")


def _check_digit(digits: str) -> str:
    return _CHECK_DIGITS[sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True)) % 11]


def full_years(born: date, day: date) -> int:
    """Full years of age on `day`; who is born on 29 February completes a year on 1 March of other years."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def check_patient(command: AddPatient, today: date, *, consent_age: int, acting_age: int) -> Identity:
    """§7 the document is one; §26 under `consent_age` a guardian of age consents, under `acting_age` the account is
    the guardian's own, who acts.
    Raises Refusal: id_number_wrong, birth_date_needed, guardian_needed, guardian_wrong, guardian_must_act."""
    identity = read_document(command, today)
    age = full_years(identity.birth_date, today)
    if age >= consent_age:
        return identity
    guardian = command.guardian
    if guardian is None or not guardian.consents:
        raise Refusal("guardian_needed", age=consent_age)
    try:
        of_guardian = read_document(guardian, today)
    except Refusal as refusal:
        raise Refusal("guardian_wrong") from refusal
    if full_years(of_guardian.birth_date, today) < ADULT_YEARS:
        raise Refusal("guardian_wrong")
    if age < acting_age and command.relation not in GUARDED_RELATIONS:
        raise Refusal("guardian_must_act", age=acting_age)
    return identity


def add_patient(
    command: AddPatient,
    patient_id: str,
    patient: Patient | None,
    his: HisPerson,
    now: datetime,
    today: date,
    *,
    consent_age: int,
    acting_age: int,
) -> PatientAdded:
    """§7: once an account and person, and the HIS agrees on who it is. Raises Refusal: patient_known,
    real_name_unmatched, and those of check_patient."""
    if patient is not None:
        raise Refusal("patient_known")
    identity = check_patient(command, today, consent_age=consent_age, acting_age=acting_age)
    if (his.birth_date, his.sex) != (identity.birth_date, identity.sex):
        raise Refusal("real_name_unmatched")
    guardian = command.guardian if full_years(identity.birth_date, today) < consent_age else None
    return PatientAdded(
        patient_id=patient_id,
        account_id=command.account_id,
        his_patient_id=his.his_patient_id,
        relation=command.relation,
        document=command.document,
        guardian_consented_at=now if guardian else None,
        name=command.name,
        id_number=command.id_number,
        phone=command.phone,
        birth_date=identity.birth_date,
        sex=identity.sex,
        guardian_name=guardian.name if guardian else None,
        guardian_id_number=guardian.id_number if guardian else None,
        guardian_phone=guardian.phone if guardian else None,
        guardian_document=guardian.document if guardian else None,
        guardian_relation=guardian.relation if guardian else None,
    )


def bind_card(command: BindCard, patient: Patient, his: HisCard | None) -> list[CardBound]:
    """§8: only a card used at this hospital by this very person; a card bound already stays bound, once.
    Raises Refusal("card_unknown")."""
    if his is None:
        raise Refusal("card_unknown")
    if patient.card(his.card_id):
        return []
    return [CardBound(patient.added.patient_id, his.card_id, command.kind, his.card_kind, command.card_no)]


def restrict(patient: Patient, *, ongoing: bool, until: date) -> PatientRestricted:
    """§32: what was decided once stands. Raises Refusal("care_ongoing") while a visit is open."""
    if patient.restricted is not None:
        return patient.restricted
    if ongoing:
        raise Refusal("care_ongoing")
    return PatientRestricted(patient.added.patient_id, patient.added.account_id, until)


def erase(patient: Patient, now: datetime) -> list[PatientErased]:
    """§32."""
    return [] if patient.erased else [PatientErased(patient.added.patient_id, patient.added.account_id, now)]
