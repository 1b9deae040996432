"""The sample catalogue holds together: a wrong row would be a wrong prescription (§25)."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.pharmacy import catalogue
from services.pharmacy.domain.drugs import ANTIBIOTIC_RIGHTS, HERBAL, WESTERN, Drug
from services.pharmacy.domain.incompatible import FAMILIES, PAIRS
from services.pharmacy.domain.interactions import ALLERGENS, INTERACTIONS, NOTES
from services.pharmacy.events import Dosing, Refusal

DRUGS = catalogue.drugs()
WESTERNS = [drug for drug in DRUGS.values() if drug.kind == WESTERN]
HERBS = [drug for drug in DRUGS.values() if drug.kind == HERBAL]
DECOCTIONS = {"", "先煎", "后下", "包煎", "另煎", "烊化", "冲服"}


def test_it_is_as_large_as_promised() -> None:
    assert len([drug for drug in WESTERNS if drug.special is None]) >= 300
    assert len([drug for drug in HERBS if drug.special is None]) >= 200
    assert {drug.special for drug in DRUGS.values()} == {None, "narcotic", "psychotropic", "toxic", "radioactive"}


def test_every_row_is_sane() -> None:
    names = [drug.name for drug in DRUGS.values()]
    assert len(set(names)) == len(names)
    for drug in DRUGS.values():
        assert drug.price_fen > 0, drug
        assert drug.generic, drug
        assert drug.en, drug
        assert drug.form, drug
        assert drug.unit, drug


def test_western_limits_are_sane() -> None:
    titles = ANTIBIOTIC_RIGHTS[-1].titles
    for drug in WESTERNS:
        assert drug.atc, drug
        assert drug.strength > 0, drug
        assert (drug.max_single is None) == (drug.max_daily is None), drug
        if drug.max_single is not None and drug.max_daily is not None:
            assert drug.max_single > 0, drug
            assert drug.max_single <= drug.max_daily, drug
            one_piece = drug.amount_in_limit_units(Dosing("1", drug.piece, 1, 1))
            assert one_piece <= drug.max_daily * 2, f"a piece of {drug.name} is more than a day"
        assert drug.antibiotic is None or drug.antibiotic in titles, drug
        if drug.atc.startswith("J01"):
            assert drug.antibiotic, drug


def test_herbal_ranges_are_sane() -> None:
    for drug in HERBS:
        assert drug.decoction in DECOCTIONS, drug
        assert drug.toxicity in (None, "slight", "toxic"), drug
        if drug.special is None:
            assert drug.min_g is not None, drug
            assert drug.max_g is not None, drug
            assert 0 < drug.min_g <= drug.max_g <= 60, drug


def test_the_rules_speak_of_the_catalogues_groups() -> None:
    groups = {group for drug in DRUGS.values() for group in drug.groups}
    spoken = {group for rule in INTERACTIONS for group in (rule.one, rule.other)}
    assert spoken <= groups
    assert {group for members in ALLERGENS.values() for group in members} <= groups
    assert set(NOTES) <= groups


@pytest.mark.parametrize("family", sorted({name for _, left, right in PAIRS for name in (left, right)}))
def test_a_family_holds_its_own_name_or_its_two(family: str) -> None:
    assert FAMILIES[family] & {family, "川乌", "赤石脂"}


@pytest.mark.parametrize(
    ("code", "amount", "unit", "then"),
    [
        ("W001", "1", "片", Fraction(5)),
        ("W001", "0.005", "g", Fraction(5)),
        ("W001", "5000", "μg", Fraction(5)),
        ("W002", "500", "mg", Fraction(1, 2)),
        ("W007", "1.35", "g", Fraction(3)),
        ("W007", "3", "粒", Fraction(3)),
        ("W001", "5", "ml", "dose_unit_unknown"),
        ("W001", "1", "粒", "dose_unit_unknown"),
    ],
)
def test_doses_are_converted_exactly(code: str, amount: str, unit: str, then: Fraction | str) -> None:
    def convert(drug: Drug) -> Fraction | str:
        try:
            return drug.amount_in_limit_units(Dosing(amount, unit, 1, 1))
        except Refusal as refusal:
            return refusal.code

    assert convert(DRUGS[code]) == then
