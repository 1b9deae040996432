"""A drug of the catalogue, how a dose of it is written, and who may prescribe which antibiotic (§25)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction

from services.pharmacy.events import Dosing, Refusal

WESTERN, HERBAL = "western", "herbal"
# Unit → dimension and size. A unit that is not here (片, 揿, MBq …) is a dimension of its own.
_UNITS = {
    "g": ("mass", Fraction(1000)), "mg": ("mass", Fraction(1)), "μg": ("mass", Fraction(1, 1000)),
    "IU": ("activity", Fraction(1)), "万IU": ("activity", Fraction(10_000)),
    "ml": ("volume", Fraction(1)), "l": ("volume", Fraction(1000)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drug:
    """One entry of the catalogue. `special` names the legal class of a drug that may not be prescribed online.

    A `piece` (片) holds `strength` `strength_unit`s (5 mg). `max_single` and `max_daily` count `limit_unit`s; None: no
    limit is known. A herbal piece has a usual range in grams a dose (剂), and how it is decocted (先煎, 后下 …).
    """

    code: str
    name: str
    kind: str
    form: str
    unit: str
    price_fen: int
    special: str | None = None
    generic: str = ""
    en: str = ""
    atc: str = ""
    strength: Fraction = Fraction(1)
    strength_unit: str = ""
    piece: str = ""
    limit_unit: str = ""
    max_single: Fraction | None = None
    max_daily: Fraction | None = None
    groups: tuple[str, ...] = ()
    antibiotic: str | None = None
    min_g: Fraction | None = None
    max_g: Fraction | None = None
    decoction: str = ""
    toxicity: str | None = None

    def amount_in_limit_units(self, dosing: Dosing) -> Fraction:
        """One dose in `limit_unit`s, exactly. Raises Refusal `dose_unit_unknown` for what cannot be converted."""
        amount = Fraction(dosing.amount)
        if dosing.unit == self.limit_unit:
            return amount
        if dosing.unit == self.piece:
            amount, unit = amount * self.strength, self.strength_unit
        else:
            unit = dosing.unit
        if self.limit_unit == self.piece:
            return _convert(amount, unit, self.strength_unit, self.name, dosing.unit) / self.strength
        return _convert(amount, unit, self.limit_unit, self.name, dosing.unit)


def _convert(amount: Fraction, unit: str, wanted: str, drug: str, written: str) -> Fraction:
    dimension, size = _UNITS.get(unit, (unit, Fraction(1)))
    wanted_dimension, wanted_size = _UNITS.get(wanted, (wanted, Fraction(1)))
    if dimension != wanted_dimension:
        raise Refusal("dose_unit_unknown", drug=drug, unit=written)
    return amount * size / wanted_size


@dataclass(frozen=True, slots=True)
class AntibioticRights:
    """Which titles may prescribe which class, valid from the first instant of `since` in UTC until the next row."""

    since: date
    titles: dict[str, frozenset[str]]


# 抗菌药物临床应用管理办法 (卫生部令第84号): restricted ones need at least a middle title, which the tariff's
# «ordinary» does not prove; those of special use may not be used in outpatient care at all.
_SENIOR = frozenset({"associate_chief", "chief", "renowned"})
ANTIBIOTIC_RIGHTS = (
    AntibioticRights(
        since=date(2012, 8, 1),
        titles={"non_restricted": _SENIOR | {"ordinary", ""}, "restricted": _SENIOR, "special": frozenset()},
    ),
)


def refuse_antibiotic(drug: Drug, title: str, now: datetime) -> None:
    """Raises Refusal when a doctor of this title ('' when unknown) may not prescribe this drug online (§25)."""
    if drug.antibiotic is None:
        return
    day = now.astimezone(UTC).date()
    rights = max((row for row in ANTIBIOTIC_RIGHTS if row.since <= day), key=lambda row: row.since)
    if title not in rights.titles[drug.antibiotic]:
        raise Refusal("antibiotic_special" if drug.antibiotic == "special" else "antibiotic_right", drug=drug.name)
