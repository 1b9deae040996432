"""What a prescription must not hold unless the doctor signs a second time and says why (§25). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from services.pharmacy.domain.drugs import HERBAL, Drug
from services.pharmacy.domain.incompatible import clash
from services.pharmacy.domain.interactions import ALLERGENS, INTERACTIONS
from services.pharmacy.events import Dosing, Finding, Refusal

OVERDOSE, INCOMPATIBLE, INTERACTION, ALLERGY = "overdose", "incompatible", "interaction", "allergy"


def findings(lines: Sequence[tuple[Drug, int, Dosing | None]], allergies: Sequence[str]) -> tuple[Finding, ...]:
    """In the order of the sheet. A line is a drug, its quantity (herbal: grams a dose), and its dose.

    Raises Refusal `dosing_missing` when a drug with a limit has no structured dose, so that free text hides nothing.
    """
    found = [finding for drug, quantity, dosing in lines for finding in _overdose(drug, quantity, dosing)]
    drugs = [drug for drug, _, _ in lines]
    for one, other in combinations(drugs, 2):
        found += [*_incompatible(one, other), *_interacting(one, other)]
    return (*found, *(finding for drug in drugs for finding in _allergic(drug, allergies)))


def _overdose(drug: Drug, quantity: int, dosing: Dosing | None) -> list[Finding]:
    if drug.kind == HERBAL:
        if drug.max_g is None or quantity <= drug.max_g:
            return []
        limit = _shown(drug.max_g)
        return [_finding(
            OVERDOSE, [drug], f"{drug.name}每剂{quantity}克,超过常用上限{limit}克",
            f"{drug.name}: {quantity} g a dose, usual maximum {limit} g",
        )]  # fmt: skip
    if drug.max_single is None and drug.max_daily is None:
        return []
    if dosing is None:
        raise Refusal("dosing_missing", drug=drug.name)
    single = drug.amount_in_limit_units(dosing)
    checks = (
        (single, drug.max_single, "单次", "a single dose"),
        (single * dosing.times_per_day, drug.max_daily, "每日", "a day"),
    )
    for written, most_allowed, zh, en in checks:
        if most_allowed is not None and written > most_allowed:
            unit, much, most = drug.limit_unit, _shown(written), _shown(most_allowed)
            return [_finding(
                OVERDOSE, [drug], f"{drug.name}{zh}{much}{unit},超过上限{most}{unit}",
                f"{drug.name}: {much} {unit} {en}, maximum {most} {unit}",
            )]  # fmt: skip
    return []


def _incompatible(one: Drug, other: Drug) -> list[Finding]:
    found = clash(one.name, other.name) if one.kind == other.kind == HERBAL else None
    if found is None:
        return []
    verse, left, right = found
    return [_finding(
        INCOMPATIBLE, [one, other], f"{one.name}与{other.name}属{verse}({left}、{right})",
        f"{one.name} and {other.name} are incompatible ({verse}: {left}, {right})",
    )]  # fmt: skip


def _interacting(one: Drug, other: Drug) -> list[Finding]:
    found = [
        rule
        for rule in INTERACTIONS
        if (rule.one in one.groups and rule.other in other.groups)
        or (rule.other in one.groups and rule.one in other.groups)
    ]
    if not found:
        return []
    zh, en = ";".join(dict.fromkeys(r.zh for r in found)), "; ".join(dict.fromkeys(r.en for r in found))
    return [_finding(INTERACTION, [one, other], f"{one.name}与{other.name}:{zh}", f"{one.name}, {other.name}: {en}")]


def _allergic(drug: Drug, allergies: Sequence[str]) -> list[Finding]:
    for said in allergies:
        word = said.strip().lower().removesuffix("史").removesuffix("过敏").removesuffix("药物").removesuffix("类")
        groups = {group for name, members in ALLERGENS.items() if name in word for group in members}
        if groups & set(drug.groups) or (len(word) >= 2 and (word in drug.name.lower() or word in drug.en.lower())):
            return [_finding(ALLERGY, [drug], f"患者对{said}过敏:{drug.name}", f"allergic to {said}: {drug.name}")]
    return []


def _finding(code: str, drugs: Sequence[Drug], zh: str, en: str) -> Finding:
    return Finding(f"{code}:{'+'.join(sorted(drug.code for drug in drugs))}", code, zh, en)


def _shown(value: Fraction) -> str:
    return f"{float(value):g}"
