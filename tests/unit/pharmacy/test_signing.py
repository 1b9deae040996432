"""Who may sign what, and for how long it holds (§20, §24, §25)."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pytest

from services.pharmacy.domain.prescription import SignPrescription, canonical, sign
from services.pharmacy.events import Refusal
from tests.unit.pharmacy.given import (
    DRUGS,
    MOMENT,
    SIGNED_AT,
    SOON,
    VALID_UNTIL,
    accepted,
    booked,
    care,
    expired,
    finished,
    issued,
    outcome,
    prescription,
    returned,
    signed,
    signed_again,
    signing,
    voided,
    withdrawn,
)

FIVE = ("W1", "W2", "W3", "W4", "W5")
HERBS = tuple(f"H{n}" for n in range(1, 20))
FIRST = ["CarePrescribed", "PrescriptionSigned"]
AGAIN = ["PrescriptionSigned"]
NEW_YEAR = datetime.fromisoformat("2026-12-30T23:59:59.5+08:00")


def decide(command: SignPrescription, of_visit: list[object], own: list[object], now: datetime) -> list[object]:
    events, result = sign(command, care(*of_visit), prescription(*own), DRUGS, now)
    return [*events, result]


@pytest.mark.parametrize(
    ("rule", "of_visit", "own", "now", "then"),
    [
        ("§20 accepted", [booked, accepted], [], SIGNED_AT, FIRST),
        ("§20 facts in another order", [accepted, booked], [], SIGNED_AT, FIRST),
        ("§18 not accepted", [booked], [], SIGNED_AT, "consult_not_accepted"),
        ("§28 finished", [booked, accepted, finished], [], SIGNED_AT, "consult_over"),
        ("§19 withdrawn", [booked, accepted, withdrawn], [], SIGNED_AT, "consult_over"),
        ("§19 the end overtook the acceptance", [booked, withdrawn, accepted], [], SIGNED_AT, "consult_over"),
        ("§31 unknown visit", [], [], SIGNED_AT, "not_found"),
        ("§31 accepted, but whose?", [accepted], [], SIGNED_AT, "not_found"),
        ("§24 again after a return", [booked, accepted], [signed, returned], SOON, AGAIN),
        ("§24 again though finished", [booked, accepted, finished], [signed, returned], SOON, AGAIN),
        ("§19 again though withdrawn", [booked, accepted, withdrawn], [signed, returned], SOON, "consult_over"),
        ("§24 again, not returned", [booked, accepted], [signed], SOON, "not_returned"),
        ("§24 again, in effect", [booked, accepted], [signed, issued], SOON, "not_returned"),
        ("§24 again, signed meanwhile", [booked, accepted], [signed, returned, signed_again], SOON, "not_returned"),
        ("§24 again, refused", [booked, accepted], [signed, voided], SOON, "prescription_void"),
        ("§23 again, expired", [booked, accepted], [signed, expired], SOON, "prescription_expired"),
        ("§24 again in the last moment", [booked, accepted], [signed, returned], VALID_UNTIL - MOMENT, AGAIN),
        ("§24 again after three days", [booked, accepted], [signed, returned], VALID_UNTIL, "prescription_expired"),
    ],
)  # fmt: skip
def test_who_may_sign(
    rule: str, of_visit: list[object], own: list[object], now: datetime, then: list[str] | str
) -> None:
    assert outcome(lambda: decide(signing("W1"), of_visit, own, now)) == then, rule


def test_another_doctor_learns_nothing() -> None:
    command = signing("W1", doctor="d2")
    assert outcome(lambda: decide(command, [booked, accepted], [], SIGNED_AT)) == "not_found"


@pytest.mark.parametrize(
    ("rule", "kind", "codes", "then"),
    [
        ("§25 five drugs", "western", FIVE, FIRST),
        ("§25 six drugs", "western", (*FIVE, "W6"), "too_many_drugs"),
        ("§25 herbs are not counted", "herbal", HERBS, FIRST),
        ("§25 a herb among tablets", "western", ("W1", "H1"), "mixed_kinds"),
        ("§25 a tablet among herbs", "herbal", ("H1", "W1"), "mixed_kinds"),
        ("§25 narcotic", "western", ("W1", "morphine"), "special_drug"),
        ("§25 toxic", "herbal", ("aconite",), "special_drug"),
        ("unknown", "western", ("W99",), "unknown_drug"),
        ("twice", "western", ("W1", "W1"), "drug_twice"),
        ("nothing", "western", (), "no_drugs"),
    ],
)  # fmt: skip
def test_what_may_stand_on_one_sheet(rule: str, kind: str, codes: tuple[str, ...], then: list[str] | str) -> None:
    assert outcome(lambda: decide(signing(*codes, kind=kind), [booked, accepted], [], SIGNED_AT)) == then, rule


def test_a_refusal_names_the_drug() -> None:
    with pytest.raises(Refusal) as refused:
        decide(signing("W1", "morphine"), [booked, accepted], [], SIGNED_AT)
    assert refused.value.facts == {"drug": "吗啡"}


@pytest.mark.parametrize("quantity", [0, -1])
def test_no_quantity_is_no_line(quantity: int) -> None:
    command = signing("W1", quantity=quantity)
    assert outcome(lambda: decide(command, [booked, accepted], [], SIGNED_AT)) == "invalid_input"


def test_amounts_are_the_catalogues() -> None:
    _, made = sign(signing("W1", "W2", quantity=3), care(booked, accepted), prescription(), DRUGS, SIGNED_AT)
    assert made.sheet is not None
    assert [(line.price_fen, line.amount_fen) for line in made.sheet.lines] == [(1001, 3003), (1002, 3006)]
    assert made.amount_fen == 6009


@pytest.mark.parametrize("now", [SIGNED_AT, SIGNED_AT + timedelta(microseconds=999), NEW_YEAR])
def test_three_days_are_72_hours_from_signing_to_the_millisecond(now: datetime) -> None:  # §24
    _, made = sign(signing("W1"), care(booked, accepted), prescription(), DRUGS, now)
    assert timedelta(0) <= now - made.signed_at < MOMENT
    assert made.valid_until - made.signed_at == timedelta(days=3)


def test_signing_again_starts_the_three_days_again() -> None:  # §24
    _, made = sign(signing("W1"), care(booked, accepted), prescription(signed, returned), DRUGS, SOON)
    assert made.valid_until == SOON + timedelta(hours=72)


def test_the_canonical_content_is_written_down_here_for_ever() -> None:  # §24
    _, made = sign(signing("W1"), care(booked, accepted), prescription(), DRUGS, SIGNED_AT)
    assert canonical(made).decode() == (
        '{"amount_fen":2002,"diagnosis":"咳嗽","doctor_id":"d1","kind":"western","lines":[{"amount_fen":2002,"dose":"1片",'
        '"drug_code":"W1","form":"片剂","name":"片1","price_fen":1001,"quantity":2,"unit":"盒","usage":"口服,一日3次"}],'
        '"patient_id":"p1","prescription_id":"rx1","signed_at":"2026-11-24T01:50:00.000Z",'
        '"valid_until":"2026-11-27T01:50:00.000Z","visit_id":"v1"}'
    )
    assert made.content_sha256 == hashlib.sha256(canonical(made)).hexdigest()
