"""Who a patient is, who acts for a child, whose card it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from services.registration.domain import people
from services.registration.domain.people import BindCard, HisCard, Patient
from services.registration.events import CardBound, PatientAdded, Refusal
from tests.unit.registration.story import (
    ACCOUNT,
    ADDED,
    BORN,
    BOUND,
    GUARDIAN,
    NOW,
    PATIENT,
    TODAY,
    add,
    his_person,
    id_number,
)

AGES = {"consent_age": 14, "acting_age": 8}
UNDER_8, UNDER_14, AT_14 = date(2019, 1, 1), date(2012, 11, 24), date(2012, 11, 23)


@pytest.mark.parametrize(
    ("number", "born", "sex"),
    [
        (id_number(date(1968, 3, 2), 2), date(1968, 3, 2), "female"),
        (id_number(date(1968, 3, 2), 1), date(1968, 3, 2), "male"),
        (id_number(date(2000, 2, 29), 4), date(2000, 2, 29), "female"),
        (id_number(TODAY), TODAY, "female"),
    ],
)
def test_s7_an_id_number_says_birth_date_and_sex(number: str, born: date, sex: str) -> None:
    assert people.read_id_number(number, TODAY) == people.Identity(born, sex)


@pytest.mark.parametrize(
    "number",
    [
        id_number(BORN)[:-1] + ("0" if id_number(BORN)[-1] != "0" else "1"),
        id_number(BORN)[:17],
        "",
        "x" * 18,
        "１" * 18,
        id_number(date(2026, 11, 24)),
        id_number(date(1899, 12, 31)),
        "110100196802300026",
        "110100199913010021",
    ],
    ids=["digit", "short", "empty", "letters", "wide digits", "tomorrow", "before 1900", "30 February", "month 13"],
)
def test_s7_what_is_no_id_number(number: str) -> None:
    with pytest.raises(Refusal, match="id_number_wrong"):
        people.read_id_number(number, TODAY)


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        (date(2012, 11, 24), date(2026, 11, 23), 13),
        (date(2012, 11, 23), date(2026, 11, 23), 14),
        (date(2012, 2, 29), date(2026, 2, 28), 13),
        (date(2012, 2, 29), date(2026, 3, 1), 14),
    ],
)
def test_s26_full_years_turn_on_the_birthday(born: date, day: date, years: int) -> None:
    assert people.full_years(born, day) == years


@pytest.mark.parametrize(
    ("born", "change", "refusal"),
    [
        (BORN, {}, None),
        (AT_14, {}, None),
        (UNDER_14, {}, "guardian_needed"),
        (UNDER_14, {"guardian": GUARDIAN}, None),
        (UNDER_14, {"guardian": replace(GUARDIAN, consents=False)}, "guardian_needed"),
        (UNDER_14, {"guardian": replace(GUARDIAN, id_number="1" * 18)}, "guardian_wrong"),
        (UNDER_14, {"guardian": replace(GUARDIAN, id_number=id_number(date(2009, 1, 1)))},
         "guardian_wrong"),
        (UNDER_8, {"guardian": GUARDIAN}, "guardian_must_act"),
        (UNDER_8, {"guardian": GUARDIAN, "relation": "other"}, "guardian_must_act"),
        (UNDER_8, {"guardian": GUARDIAN, "relation": "child"}, None),
        (UNDER_8, {"guardian": GUARDIAN, "relation": "ward"}, None),
    ],
)
def test_s26_minors(born: date, change: dict[str, Any], refusal: str | None) -> None:
    command = add(born, **change)
    if refusal:
        with pytest.raises(Refusal, match=refusal):
            people.check_patient(command, TODAY, **AGES)
    else:
        assert people.check_patient(command, TODAY, **AGES).birth_date == born


def test_s7_a_patient_is_added_as_the_his_knows_them() -> None:
    added = people.add_patient(add(), PATIENT, None, his_person(), NOW, TODAY, **AGES)
    assert added == ADDED


def test_s26_the_guardians_consent_is_on_record() -> None:
    command = add(UNDER_14, guardian=GUARDIAN)
    added = people.add_patient(command, PATIENT, None, his_person(UNDER_14), NOW, TODAY, **AGES)
    assert (added.guardian_name, added.guardian_consented_at) == (GUARDIAN.name, NOW)


def test_s26_of_an_adult_no_guardian_is_kept() -> None:
    added = people.add_patient(add(guardian=GUARDIAN), PATIENT, None, his_person(), NOW, TODAY, **AGES)
    assert (added.guardian_name, added.guardian_consented_at) == (None, None)


@pytest.mark.parametrize(
    ("born", "day", "age", "needs"),
    [
        (date(2012, 11, 23), date(2026, 11, 22), 14, "guardian_needed"),
        (date(2012, 11, 23), date(2026, 11, 23), 14, None),  # the birthday itself
        (date(2012, 2, 29), date(2026, 2, 28), 14, "guardian_needed"),
        (date(2012, 2, 29), date(2026, 3, 1), 14, None),
        (date(2018, 11, 23), date(2026, 11, 22), 8, "guardian_must_act"),
        (date(2018, 11, 23), date(2026, 11, 23), 8, None),
        (date(2020, 2, 29), date(2028, 2, 28), 8, "guardian_must_act"),
        (date(2020, 2, 29), date(2028, 2, 29), 8, None),  # a leap year has the birthday
        (date(2016, 2, 29), date(2024, 2, 29), 8, None),
    ],
)
def test_s26_the_ages_turn_on_the_birthday_also_of_29_february(
    born: date, day: date, age: int, needs: str | None
) -> None:
    command = add(born, relation="other", guardian=GUARDIAN if age == 8 else None)
    if needs:
        with pytest.raises(Refusal, match=needs):
            people.check_patient(command, day, **AGES)
    else:
        people.check_patient(command, day, **AGES)


PAPERS = [
    ("passport", "E12345678"), ("passport", "X1234567"), ("passport", "123456789"), ("passport", "AB123"),
    ("hk_macao_permit", "H12345678"), ("hk_macao_permit", "M1234567801"), ("taiwan_permit", "01234567"),
]


@pytest.mark.parametrize(("document", "number"), PAPERS)
def test_s7_other_documents_with_birth_date_and_sex_as_given(document: str, number: str) -> None:
    command = add(document=document, id_number=number, birth_date=BORN, sex="female")
    added = people.add_patient(command, PATIENT, None, his_person(), NOW, TODAY, **AGES)
    assert (added.document, added.id_number, added.birth_date, added.sex) == (document, number, BORN, "female")
    with pytest.raises(Refusal, match="real_name_unmatched"):
        people.add_patient(command, PATIENT, None, his_person(sex="male"), NOW, TODAY, **AGES)


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ("passport", "PASSPORT"), ("passport", "E123"), ("passport", "E1234567890"), ("passport", "e12345678"),
        ("passport", "E1234 5678"), ("passport", "E１２３４５６７８"), ("hk_macao_permit", "A12345678"),
        ("hk_macao_permit", "H1234567"), ("hk_macao_permit", "H123456789"), ("taiwan_permit", "1234567"),
        ("taiwan_permit", "T1234567"), ("taiwan_permit", id_number(BORN)),
    ],
)
def test_s7_what_is_no_such_document(document: str, number: str) -> None:
    with pytest.raises(Refusal, match="id_number_wrong"):
        people.read_document(add(document=document, id_number=number, birth_date=BORN, sex="female"), TODAY)


@pytest.mark.parametrize(
    "change",
    [
        {"sex": "female"}, {"birth_date": BORN}, {"birth_date": date(2026, 11, 24), "sex": "male"},
        {"birth_date": date(1899, 12, 31), "sex": "male"},
    ],
    ids=["no birth date", "no sex", "born tomorrow", "born before 1900"],
)
def test_s7_a_document_that_does_not_say_it_needs_birth_date_and_sex(change: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="birth_date_needed"):
        people.read_document(add(document="passport", id_number="E12345678", **change), TODAY)


@pytest.mark.parametrize("change", [{"sex": "male"}, {"birth_date": date(1968, 3, 3)}])
def test_s7_what_is_given_beside_a_resident_id_agrees_with_it(change: dict[str, Any]) -> None:
    assert people.read_document(add(birth_date=BORN, sex="female"), TODAY) == people.Identity(BORN, "female")
    with pytest.raises(Refusal, match="id_number_wrong"):
        people.read_document(add(**change), TODAY)


def test_s7_a_residence_permit_of_hong_kong_macao_or_taiwan_reads_as_a_resident_id() -> None:
    digits = "810000" + f"{BORN:%Y%m%d}" + "002"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    check = "10X98765432"[sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11]
    assert people.read_id_number(digits + check, TODAY) == people.Identity(BORN, "female")


@pytest.mark.parametrize(
    ("born", "refusal"), [(date(2008, 11, 23), None), (date(2008, 11, 24), "guardian_wrong"), (None, "guardian_wrong")]
)
def test_s26_a_guardian_with_a_passport_is_of_age_too(born: date | None, refusal: str | None) -> None:
    guardian = replace(GUARDIAN, document="passport", id_number="E12345678", birth_date=born, sex="male")
    command = add(UNDER_14, guardian=guardian)
    if refusal:
        with pytest.raises(Refusal, match=refusal):
            people.check_patient(command, TODAY, **AGES)
    else:
        added = people.add_patient(command, PATIENT, None, his_person(UNDER_14), NOW, TODAY, **AGES)
        assert (added.guardian_document, added.guardian_id_number) == ("passport", "E12345678")


@pytest.mark.parametrize(
    ("patient", "his", "refusal"),
    [
        (Patient(ADDED), his_person(), "patient_known"),
        (None, his_person(born=date(1968, 3, 3)), "real_name_unmatched"),
        (None, his_person(sex="male"), "real_name_unmatched"),
    ],
)
def test_s7_who_is_not_added(patient: Patient | None, his: people.HisPerson, refusal: str) -> None:
    with pytest.raises(Refusal, match=refusal):
        people.add_patient(add(), PATIENT, patient, his, NOW, TODAY, **AGES)


@pytest.mark.parametrize(
    ("given", "his", "then"),
    [
        ((ADDED,), HisCard("C1", "beijing_insured"), [BOUND]),
        ((ADDED, BOUND), HisCard("C1", "beijing_insured"), []),
        ((ADDED, BOUND), HisCard("C2", "uninsured"),
         [CardBound(PATIENT, "C2", "insurance_card", "uninsured", "1000000001")]),
        ((ADDED,), None, "card_unknown"),
    ],
)
def test_s8_cards(given: tuple[Any, ...], his: HisCard | None, then: Any) -> None:
    patient: Patient | None = None
    for event in given:
        patient = people.evolve(patient, event)
    assert patient is not None
    command = BindCard("1000000001", "insurance_card")
    if isinstance(then, str):
        with pytest.raises(Refusal, match=then):
            people.bind_card(command, patient, his)
    else:
        assert people.bind_card(command, patient, his) == then


def test_s31_an_erased_person_leaves_no_name() -> None:
    left = PatientAdded(patient_id=PATIENT, account_id=ACCOUNT, his_patient_id="P00000001", relation="self")
    assert people.evolve(None, left) == Patient(left)
