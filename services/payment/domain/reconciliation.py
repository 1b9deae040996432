"""One day's statements of the provider and the insurer against our log (§16): what differs, and what cures it.

Both sides call a movement by the same number. They need not agree on its day: a refund is stated on the day it was
asked for, and recorded here when it succeeded. So what is compared is chosen by day, and matched by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from services.payment.domain.order import Order, amount_of
from services.payment.domain.refund import Refund, refund_number
from services.payment.events import (
    DayReconciled,
    DifferenceCured,
    DifferenceFound,
    DifferenceKind,
    DifferenceResolved,
    LegName,
    Movement,
    MovementState,
    Refusal,
    StatedTotal,
)

Event = object
Key = tuple[str, str, str, str]
Cure = Literal["record_payment", "record_settlement", "record_refund", "ask_again", "person"]
INSURED: tuple[LegName, ...] = ("fund", "account")
_OF_LEG: dict[str, MovementState] = {
    "pending": "pending", "accepted": "pending", "succeeded": "done", "failed": "failed"
}


def key(movement: Movement) -> Key:
    return movement.party, movement.what, movement.leg, movement.number


def own_movements(order_id: str, order: Order, refund: Refund) -> list[Movement]:
    """What moved, or is on its way, of one order by our log. Nothing moves where a leg is empty."""
    found = []
    if order.collected is not None:
        found.append(Movement("wechatpay", "payment", "cash", order_id, order.collected.amount_fen, "done", order_id))
    if order.insurance_settlement_id is not None:
        for name in INSURED:
            fen = amount_of(order.legs, name)
            found.append(Movement("insurer", "payment", name, order_id, fen, "done", order_id))
    for leg in refund.legs:
        assert refund.requested is not None
        number = refund.requested.refund_id
        state: MovementState
        if leg.status == "resolved":
            state = "by_hand" if leg.code == "paid_by_hand" else "done"
        else:
            state = _OF_LEG[leg.status]
        if leg.leg == "cash":
            number = refund_number(number, leg.number)
            found.append(Movement("wechatpay", "refund", "cash", number, leg.amount_fen, state, order_id))
        else:
            found.append(Movement("insurer", "refund", leg.leg, number, leg.amount_fen, state, order_id))
    return [movement for movement in found if movement.amount_fen]


@dataclass(frozen=True, slots=True)
class Difference:
    kind: DifferenceKind
    ours: Movement | None
    theirs: Movement | None


def compare(ours: Iterable[Movement], theirs: Iterable[Movement]) -> list[Difference]:
    """Ours that moved must be stated, stated ones must be ours, with the same amount and the same end. What we still
    wait for may be absent there; what they ended without paying may be absent here."""
    mine, stated = {key(each): each for each in ours}, {key(each): each for each in theirs}
    differences = []
    for each in sorted(mine.keys() | stated.keys()):
        if kind := _kind(mine.get(each), stated.get(each)):
            differences.append(Difference(kind, mine.get(each), stated.get(each)))
    return differences


def _kind(ours: Movement | None, theirs: Movement | None) -> DifferenceKind | None:
    if theirs is None:
        return "only_ours" if ours is not None and ours.state == "done" else None
    if ours is None:
        return None if theirs.state == "failed" else "only_theirs"
    if ours.amount_fen != theirs.amount_fen:
        return "amount_differs"
    if ours.state != theirs.state and "done" in (ours.state, theirs.state):
        return "state_differs"
    return None


def cure_of(found: DifferenceFound) -> Cure:
    """What may be done without a person: writing down what they confirm when asked. Money is never moved by it; a late
    capture that is found this way goes back by itself (§16)."""
    if not found.order_id or found.kind == "amount_differs":
        return "person"
    match found.kind, found.what:
        case "only_theirs", "payment":
            return "record_payment" if found.leg == "cash" else "record_settlement"
        case "only_theirs", _:
            return "person"
        case "state_differs", "refund" if found.theirs_state == "done":
            return "person" if found.ours_state == "by_hand" else "record_refund"
        case _:
            return "ask_again"


# --- the report of a day


@dataclass(frozen=True, slots=True)
class Followed:
    """A difference and what became of it: `how` it was cured, or the `note` of the cashier who resolved it."""

    found: DifferenceFound
    state: Literal["open", "cured", "resolved"] = "open"
    how: str = ""
    cashier: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    reconciled: DayReconciled | None = None
    differences: dict[str, Followed] = field(default_factory=dict)

    def difference(self, difference_id: str) -> Followed:
        """Raises Refusal `not_found`."""
        if difference_id not in self.differences:
            raise Refusal("not_found")
        return self.differences[difference_id]


def evolve(report: Report, event: Event) -> Report:
    match event:
        case DayReconciled():
            return replace(report, reconciled=event)
        case DifferenceFound(difference_id=id_):
            return _with(report, id_, Followed(event))
        case DifferenceCured(difference_id=id_, how=how):
            return _with(report, id_, replace(report.differences[id_], state="cured", how=how))
        case DifferenceResolved(difference_id=id_, cashier=cashier, note=note):
            resolved = replace(report.differences[id_], state="resolved", cashier=cashier, note=note)
            return _with(report, id_, resolved)
        case _:
            return report


def _with(report: Report, id_: str, followed: Followed) -> Report:
    return replace(report, differences={**report.differences, id_: followed})


@dataclass(frozen=True, slots=True)
class RecordComparison:
    """`differences` with the id of each."""

    day: str
    stated: Sequence[Movement]
    agreed: int
    differences: Sequence[tuple[str, Difference]]


def record_comparison(command: RecordComparison, report: Report) -> list[Event]:
    """Once a day: what was found stands, whatever is cured later."""
    if report.reconciled is not None:
        return []
    reconciled = DayReconciled(day=command.day, stated=totals(command.stated), agreed=command.agreed)
    return [reconciled, *(_found(command.day, id_, difference) for id_, difference in command.differences)]


def totals(stated: Iterable[Movement]) -> tuple[StatedTotal, ...]:
    """By party and kind of movement, in fen; what ended without paying moved nothing."""
    sums: dict[tuple[str, str], list[int]] = {}
    for each in stated:
        if each.state != "failed":
            line = sums.setdefault((each.party, each.what), [0, 0])
            line[0] += 1
            line[1] += each.amount_fen
    return tuple(StatedTotal(party, what, count, fen) for (party, what), (count, fen) in sorted(sums.items()))


def _found(day: str, id_: str, difference: Difference) -> DifferenceFound:
    ours, theirs = difference.ours, difference.theirs
    either = ours or theirs
    assert either is not None
    return DifferenceFound(
        day=day,
        difference_id=id_,
        kind=difference.kind,
        party=either.party,
        what=either.what,
        leg=either.leg,
        number=either.number,
        order_id=either.order_id,
        ours_fen=ours.amount_fen if ours else None,
        theirs_fen=theirs.amount_fen if theirs else None,
        ours_state=ours.state if ours else None,
        theirs_state=theirs.state if theirs else None,
    )


def record_cure(difference_id: str, how: str, report: Report) -> list[Event]:
    followed = report.difference(difference_id)
    if followed.state != "open":
        return []
    return [DifferenceCured(day=followed.found.day, difference_id=difference_id, how=how)]


@dataclass(frozen=True, slots=True)
class ResolveDifference:
    difference_id: str
    cashier: str
    note: str


def resolve_difference(command: ResolveDifference, report: Report) -> list[Event]:
    """A person has seen to it, outside or with the other operations. Raises Refusal `not_found`, `already_resolved`."""
    followed = report.difference(command.difference_id)
    if followed.state != "open":
        raise Refusal("already_resolved")
    return [
        DifferenceResolved(
            day=followed.found.day, difference_id=command.difference_id, cashier=command.cashier, note=command.note
        )
    ]
