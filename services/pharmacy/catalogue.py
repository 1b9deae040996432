"""The pharmacy's lists: drugs with their prices, and couriers. Sample data in `data/`, read once a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from services.pharmacy.domain.prescription import Drug

_DATA = Path(__file__).parent / "data"


class _Drugs(msgspec.Struct):
    drugs: list[Drug]


class Courier(msgspec.Struct, frozen=True):
    courier: str
    name: str


class _Couriers(msgspec.Struct):
    couriers: list[Courier]


@cache
def drugs() -> dict[str, Drug]:
    """By code. Raises msgspec.ValidationError for a file that is not as it should be."""
    found = msgspec.json.decode((_DATA / "drugs.json").read_bytes(), type=_Drugs)
    return {drug.code: drug for drug in found.drugs}


@cache
def couriers() -> dict[str, Courier]:
    """By code, in the order in which patients see them."""
    found = msgspec.json.decode((_DATA / "couriers.json").read_bytes(), type=_Couriers)
    return {courier.courier: courier for courier in found.couriers}
