"""The pharmacy's lists: drugs with prices and limits, and couriers. Sample data in `data/`, read once."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import msgspec

from services.pharmacy.domain.drugs import HERBAL, WESTERN, Drug

_DATA = Path(__file__).parent / "data"
_PACK = re.compile(r"([\d.]+)([^\d×]+)×(\d+)(\S+)")
PATENT = "TCM"


class Courier(msgspec.Struct, frozen=True):
    courier: str
    name: str


class _Couriers(msgspec.Struct):
    couriers: list[Courier]


@cache
def drugs() -> dict[str, Drug]:
    """By code. Raises ValueError or KeyError for a file that is not as it should be."""
    found: dict[str, Drug] = {}
    for drug in (*map(_western, _rows("western.csv")), *map(_herbal, _rows("herbal.csv"))):
        if found.setdefault(drug.code, drug) is not drug:
            raise ValueError(f"{drug.code} stands twice in the catalogue")
    return found


@cache
def couriers() -> dict[str, Courier]:
    """By code, in the order in which patients see them."""
    found = msgspec.json.decode((_DATA / "couriers.json").read_bytes(), type=_Couriers)
    return {courier.courier: courier for courier in found.couriers}


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _western(row: dict[str, str]) -> Drug:
    pack = _PACK.fullmatch(row["pack"])
    if pack is None:
        raise ValueError(f"{row['code']}: what is a pack of {row['pack']}?")
    strength, strength_unit, _, piece = pack.groups()
    return Drug(
        code=row["code"],
        name=f"{row['generic']} {row['pack']}",
        kind=WESTERN,
        form=row["form"],
        unit=row["unit"],
        price_fen=int(row["price_fen"]),
        special=row["special"] or None,
        generic=row["generic"],
        en=row["en"],
        atc=row["atc"],
        strength=Fraction(strength),
        strength_unit=strength_unit,
        piece=piece,
        limit_unit=piece if row["atc"] == PATENT else strength_unit,
        max_single=_number(row["max_single"]),
        max_daily=_number(row["max_daily"]),
        groups=tuple(row["groups"].split()),
        antibiotic=row["antibiotic"] or None,
    )


def _herbal(row: dict[str, str]) -> Drug:
    return Drug(
        code=row["code"],
        name=row["generic"],
        kind=HERBAL,
        form="饮片",
        unit="克",
        price_fen=int(row["price_fen"]),
        special=row["special"] or None,
        generic=row["generic"],
        en=row["en"],
        min_g=_number(row["min_g"]),
        max_g=_number(row["max_g"]),
        decoction=row["decoction"],
        toxicity=row["toxicity"] or None,
    )


def _number(text: str) -> Fraction | None:
    return Fraction(text) if text else None
