"""What needs a second signature, and who may prescribe which antibiotic (§25): every pair, every edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from services.pharmacy import catalogue
from services.pharmacy.domain.drugs import HERBAL, Drug
from services.pharmacy.domain.incompatible import FAMILIES, PAIRS, clash
from services.pharmacy.domain.interactions import INTERACTIONS
from services.pharmacy.domain.prescription import (
    Confirmation,
    SignPrescription,
    WantedLine,
    canonical,
    canonical_second,
    sign,
)
from services.pharmacy.domain.safety import findings
from services.pharmacy.events import CareTitled, Dosing, HerbalOrder, PrescriptionSigned, Refusal
from tests.unit.pharmacy.given import DOCTOR, RX, SIGNED_AT, VISIT, accepted, booked, care, prescription

DRUGS = catalogue.drugs()
BY_NAME = {drug.name: drug for drug in DRUGS.values()}
SEVEN = HerbalOrder(7, "self", "水煎服,一日1剂,早晚分服")


def write(
    *lines: WantedLine,
    kind: str = "western",
    title: str = "chief",
    second: Confirmation | None = None,
    allergies: Sequence[str] = (),
    stock: Mapping[str, int] | None = None,
    now: datetime = SIGNED_AT,
    herbal: HerbalOrder | None = None,
    **change: Any,
) -> PrescriptionSigned:
    command = SignPrescription(
        RX, VISIT, DOCTOR, kind, "咳嗽", lines, allergies=allergies, second=second,
        herbal=herbal or (SEVEN if kind == HERBAL else None),
    )  # fmt: skip
    history = care(booked, accepted, CareTitled(VISIT, title)) if title else care(booked, accepted)
    _, signed = sign(replace(command, **change), history, prescription(), DRUGS, now, stock)
    return signed


def refused(*lines: WantedLine, **how: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        write(*lines, **how)
    return raised.value


def keys(refusal: Refusal) -> set[str]:
    assert refusal.code == "second_signature_needed"
    return {found["key"] for found in refusal.facts["failed"]}


def tablet(code: str, amount: str = "1", unit: str = "", times: int = 1, quantity: int = 1) -> WantedLine:
    return WantedLine(code, quantity, "", "口服", Dosing(amount, unit or DRUGS[code].piece, times, 7))


def piece(name: str, grams: int = 3) -> WantedLine:
    return WantedLine(BY_NAME[name].code, grams)


@pytest.mark.parametrize(
    ("rule", "line", "over"),
    [
        ("§25 the largest single dose", tablet("W001", "10", "mg"), False),
        ("§25 one thousandth more", tablet("W001", "10.001", "mg"), True),
        ("§25 two tablets of five", tablet("W001", "2", "片"), False),
        ("§25 three tablets", tablet("W001", "3", "片"), True),
        ("§25 single is right, the day is too much", tablet("W001", "10", "mg", times=2), True),
        ("§25 the largest day", tablet("W002", "0.5", "g", times=4), False),
        ("§25 over the day by conversion", tablet("W002", "501", "mg", times=4), True),
        ("§25 patent medicine by pieces", tablet("W007", "3", "粒", times=3), False),
        ("§25 patent medicine, four times a day", tablet("W007", "3", "粒", times=4), True),
    ],
)
def test_overdoses_need_a_second_signature(rule: str, line: WantedLine, over: bool) -> None:
    if over:
        assert keys(refused(line)) == {f"overdose:{line.drug_code}"}, rule
    else:
        assert write(line).sheet is not None, rule


def test_free_text_hides_no_overdose() -> None:  # §25
    assert refused(WantedLine("W001", 1, "每次100片", "口服")).code == "dosing_missing"
    drops = next(drug for drug in DRUGS.values() if drug.form == "滴眼液" and drug.antibiotic is None)
    assert write(WantedLine(drops.code, 1, "1滴", "滴眼,一日3次")).amount_fen == drops.price_fen
    assert refused(WantedLine(drops.code, 1, "", "滴眼")).code == "dosing_missing"


@pytest.mark.parametrize(("grams", "over"), [(30, False), (31, True)])
def test_a_herbal_piece_over_its_range_needs_a_second_signature(grams: int, over: bool) -> None:  # §25
    if over:
        assert keys(refused(piece("黄芪", grams), kind=HERBAL)) == {"overdose:H001"}
    else:
        assert write(piece("黄芪", grams), kind=HERBAL).amount_fen == 30 * 18 * 7


ALL_PAIRS = [
    (verse, left, right) for verse, family, other in PAIRS for left in FAMILIES[family] for right in FAMILIES[other]
    if left != right
]  # fmt: skip


def test_eighteen_and_nineteen_are_complete() -> None:  # §25
    """The verses: three heads with 17 families (人参 and 党参 apart), and nine pairs (川乌 and 草乌 as one)."""
    by_verse = {verse: [(left, right) for v, left, right in PAIRS if v == verse] for verse in ("十八反", "十九畏")}
    assert {left for left, _ in by_verse["十八反"]} == {"甘草", "乌头", "藜芦"}
    assert len(by_verse["十八反"]) == 17
    assert len(by_verse["十九畏"]) == 9


def test_every_pair_under_every_name_clashes_in_both_directions() -> None:  # §25
    assert len(ALL_PAIRS) > 500
    silent = [(a, b) for _, a, b in ALL_PAIRS if clash(a, b) is None or clash(b, a) is None]
    assert silent == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("当归", "黄芪"), ("炙甘草", "白术"), ("甘草", "天花粉"), ("附子", "干姜"), ("党参", "白术"), ("丁香", "姜黄"),
        ("人参", "人参"), ("白附子", "半夏"), ("制白附子", "法半夏"), ("芒硝", "大黄"), ("土贝母", "川乌"),
    ],
)  # fmt: skip
def test_what_gets_along_is_left_alone(one: str, other: str) -> None:  # §25
    assert clash(one, other) is None
    assert clash(other, one) is None


def test_every_clash_of_the_catalogue_needs_a_second_signature_in_both_orders() -> None:  # §25
    herbs = [drug for drug in DRUGS.values() if drug.kind == HERBAL and drug.special is None]
    seen = set()
    for one in herbs:
        for other in herbs:
            verse = clash(one.name, other.name)
            if verse is None or one is other:
                continue
            found = findings([(one, 1, None), (other, 1, None)], ())
            assert [f.key for f in found] == [f"incompatible:{'+'.join(sorted((one.code, other.code)))}"]
            seen.add(verse)
    assert {(left, right) for _, left, right in seen} >= {
        ("甘草", "甘遂"), ("甘草", "大戟"), ("甘草", "芫花"), ("甘草", "海藻"), ("乌头", "贝母"), ("乌头", "瓜蒌"),
        ("乌头", "半夏"), ("乌头", "白蔹"), ("乌头", "白及"), ("藜芦", "人参"), ("藜芦", "沙参"), ("藜芦", "丹参"),
        ("藜芦", "玄参"), ("藜芦", "苦参"), ("藜芦", "细辛"), ("藜芦", "芍药"), ("丁香", "郁金"), ("人参", "五灵脂"),
        ("肉桂", "石脂"), ("硫黄", "朴硝"), ("巴豆", "牵牛"), ("牙硝", "三棱"), ("川乌草乌", "犀角"),
    }  # fmt: skip


@pytest.mark.parametrize("rule", INTERACTIONS, ids=lambda rule: f"{rule.one}-{rule.other}")
def test_every_interaction_is_found_in_both_orders(rule: Any) -> None:  # §25
    one = Drug("A", "甲", "western", "片剂", "盒", 1, groups=(rule.one,))
    other = Drug("B", "乙", "western", "片剂", "盒", 1, groups=(rule.other,))
    for pair in ((one, other), (other, one)):
        (found,) = findings([(drug, 1, None) for drug in pair], ())
        assert (found.key, rule.zh in found.detail) == ("interaction:A+B", True)


@pytest.mark.parametrize(
    ("allergies", "name", "found"),
    [
        (["青霉素"], "阿莫西林胶囊", True),
        (["青霉素过敏史"], "头孢克洛缓释片", True),
        (["磺胺类药物过敏"], "复方磺胺甲噁唑片", True),
        (["头孢"], "阿莫西林胶囊", False),
        (["阿司匹林"], "布洛芬缓释胶囊", True),
        (["氨溴索"], "盐酸氨溴索片", True),
        (["Ambroxol"], "盐酸氨溴索片", True),
        (["花粉"], "盐酸氨溴索片", False),
        (["无"], "盐酸氨溴索片", False),
        ([], "阿莫西林胶囊", False),
    ],
)
def test_allergies(allergies: list[str], name: str, found: bool) -> None:  # §25
    drug = next(drug for drug in DRUGS.values() if drug.generic == name)
    line = tablet(drug.code)
    if found:
        assert keys(refused(line, allergies=allergies)) == {f"allergy:{drug.code}"}
    else:
        assert write(line, allergies=allergies).sheet is not None


def code_of(generic: str) -> str:
    return next(drug.code for drug in DRUGS.values() if drug.generic == generic)


WARFARIN, ASPIRIN = code_of("华法林钠片"), code_of("阿司匹林肠溶片")
BOTH = frozenset({f"interaction:{'+'.join(sorted((WARFARIN, ASPIRIN)))}", f"overdose:{ASPIRIN}"})


@pytest.mark.parametrize(
    ("rule", "second", "then"),
    [
        ("§25 nothing confirmed", None, "second_signature_needed"),
        ("§25 one of two", Confirmation("需要", frozenset({f"overdose:{ASPIRIN}"})), "second_signature_needed"),
        ("§25 more than was shown", Confirmation("需要", BOTH | {"overdose:W001"}), "second_signature_needed"),
        ("§25 without a reason", Confirmation("  ", BOTH), "override_reason_missing"),
        ("§25 confirmed", Confirmation("机械瓣术后,已监测INR", BOTH), None),
    ],
)
def test_a_second_signature_confirms_exactly_what_was_shown(
    rule: str, second: Confirmation | None, then: str | None
) -> None:
    lines = (tablet(WARFARIN), tablet(ASPIRIN, "400", "mg"))
    if then:
        assert refused(*lines, second=second).code == then, rule
        return
    signed = write(*lines, second=second)
    assert signed.sheet is not None
    assert signed.sheet.second is not None
    assert {finding.key for finding in signed.sheet.second.findings} == BOTH
    assert all(key in canonical(signed).decode() for key in BOTH)
    assert "机械瓣术后" in (canonical_second(signed) or b"").decode()
    assert signed.content_sha256 in (canonical_second(signed) or b"").decode()


def test_nothing_to_confirm_leaves_no_second_signature() -> None:  # §25
    signed = write(tablet("W001"), second=Confirmation("习惯", frozenset()))
    assert signed.sheet is not None
    assert signed.sheet.second is None
    assert canonical_second(signed) is None


@pytest.mark.parametrize(
    ("generic", "title", "then"),
    [
        ("阿莫西林胶囊", "ordinary", None),
        ("阿莫西林胶囊", "", None),
        ("头孢克肟胶囊", "ordinary", "antibiotic_right"),
        ("头孢克肟胶囊", "", "antibiotic_right"),
        ("头孢克肟胶囊", "associate_chief", None),
        ("头孢克肟胶囊", "chief", None),
        ("头孢克肟胶囊", "renowned", None),
        ("利奈唑胺片", "chief", "antibiotic_special"),
        ("利奈唑胺片", "renowned", "antibiotic_special"),
    ],
)
def test_antibiotics_by_title(generic: str, title: str, then: str | None) -> None:  # §25
    line = tablet(code_of(generic))
    if then:
        assert refused(line, title=title).code == then
    else:
        assert write(line, title=title).sheet is not None


@pytest.mark.parametrize(
    ("herbal", "kind", "then"),
    [
        (None, HERBAL, "herbal_missing"),
        (HerbalOrder(0, "self", "水煎服"), HERBAL, "invalid_input"),
        (HerbalOrder(7, "neighbour", "水煎服"), HERBAL, "invalid_input"),
        (SEVEN, "western", "invalid_input"),
    ],
)
def test_a_herbal_prescription_says_how_it_is_made(herbal: HerbalOrder | None, kind: str, then: str) -> None:  # §25
    line = piece("黄芪", 15) if kind == HERBAL else tablet("W001")
    with pytest.raises(Refusal) as raised:
        sign(
            SignPrescription(RX, VISIT, DOCTOR, kind, "咳嗽", [line], herbal=herbal),
            care(booked, accepted), prescription(), DRUGS, SIGNED_AT,
        )  # fmt: skip
    assert raised.value.code == then


def test_a_herbal_line_counts_grams_a_dose_and_knows_how_it_is_decocted() -> None:  # §25
    signed = write(piece("黄芪", 15), piece("附子", 9), piece("薄荷", 6), kind=HERBAL)
    assert signed.sheet is not None
    assert [(line.dose, line.usage) for line in signed.sheet.lines] == [
        ("每剂15克", ""), ("每剂9克", "先煎"), ("每剂6克", "后下"),
    ]  # fmt: skip
    assert signed.amount_fen == (15 * 18 + 9 * 26 + 6 * 6) * 7
    assert '"herbal":{"decoction":"self","doses":7' in canonical(signed).decode()


@pytest.mark.parametrize(
    ("stock", "then"),
    [({"H001": 105}, None), ({"H001": 104}, "out_of_stock"), ({}, "out_of_stock"), (None, None)],
)
def test_what_the_hospital_does_not_have_is_not_signed(stock: dict[str, int] | None, then: str | None) -> None:
    if then:
        assert refused(piece("黄芪", 15), kind=HERBAL, stock=stock).code == then
        return
    signed = write(piece("黄芪", 15), kind=HERBAL, stock=stock)
    assert signed.sheet is not None
    assert signed.sheet.stock_checked == (stock is not None)
