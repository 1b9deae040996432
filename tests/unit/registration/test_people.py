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
