"""A parcel from the pharmacy's door to the patient's (§21). The courier tells late, twice and in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.pharmacy.events import (
    DeliveryChosen,
    ParcelDelivered,
    ParcelHandedOver,
    ParcelMoved,
    ParcelOpened,
    ParcelReturned,
    RedeliveryBegun,
    Refusal,
)

MOVES = ("collected", "in_transit", "out_for_delivery", "refused")
UNDELIVERABLE, REFUSED = "undeliverable", "refused"


@dataclass(frozen=True, slots=True)
class Report:
    """What the courier says of a parcel. `fee_fen` is what it collected at the door, with status delivered."""

    tracking_no: str
    status: str
    at: datetime
    fee_fen: int = 0


@dataclass(frozen=True, slots=True)
class Parcel:
    opened: ParcelOpened | None = None
    handed_over: ParcelHandedOver | None = None
    moves: tuple[ParcelMoved, ...] = ()
    delivered: ParcelDelivered | None = None
    returned: ParcelReturned | None = None

    @property
    def ended(self) -> bool:
        return self.delivered is not None or self.returned is not None

    @property
    def state(self) -> str:
        """Where it is: the latest by the courier's own clock, whatever came last."""
        if self.delivered:
            return "delivered"
        if self.returned:
            return "returned"
        if self.moves:
            return max(self.moves, key=lambda move: move.moved_at).status
        return "handed_over" if self.handed_over else "preparing"


def evolve(state: Parcel, event: object) -> Parcel:
    match event:
        case ParcelOpened():
            return replace(state, opened=event)
        case ParcelHandedOver():
            return replace(state, handed_over=event)
        case ParcelMoved():
            return replace(state, moves=(*state.moves, event))
        case ParcelDelivered():
            return replace(state, delivered=event)
        case ParcelReturned():
            return replace(state, returned=event)
    return state


def open_for(delivery: DeliveryChosen) -> ParcelOpened:
    id_ = delivery.prescription_id
    return ParcelOpened(id_, id_, delivery.visit_id, delivery.courier, delivery.address_id)


def open_again(begun: RedeliveryBegun, visit_id: str) -> ParcelOpened:
    return ParcelOpened(begun.parcel_id, begun.prescription_id, visit_id, begun.courier, begun.address_id)


def hand_over(state: Parcel, tracking_no: str) -> list[object]:
    if state.opened is None:
        raise Refusal("not_found")
    if state.handed_over or state.ended:
        return []
    opened = state.opened
    return [
        ParcelHandedOver(opened.parcel_id, opened.prescription_id, opened.visit_id, opened.courier, tracking_no)
    ]


def give_up(state: Parcel) -> list[object]:
    """The courier clearly does not take it."""
    if state.opened is None:
        raise Refusal("not_found")
    if state.handed_over or state.ended:
        return []
    opened = state.opened
    return [ParcelReturned(opened.parcel_id, opened.prescription_id, opened.visit_id, UNDELIVERABLE)]


def note(state: Parcel, report: Report) -> list[object]:
    """What is known already, or comes after the end, changes nothing. A report that overtakes our own record of the
    hand-over is refused for the moment: the courier tells it again."""
    if state.opened is None:
        raise Refusal("not_found")
    if state.handed_over is None:
        raise Refusal("not_handed_over")
    if state.handed_over.tracking_no != report.tracking_no:
        raise Refusal("not_found")
    if state.ended:
        return []
    ids = (state.opened.parcel_id, state.opened.prescription_id, state.opened.visit_id)
    match report.status:
        case "delivered":
            return [ParcelDelivered(*ids, report.at, report.fee_fen)]
        case "returned":
            refused = any(move.status == REFUSED for move in state.moves)
            return [ParcelReturned(*ids, REFUSED if refused else UNDELIVERABLE)]
        case status if status in MOVES:
            known = any((move.status, move.moved_at) == (status, report.at) for move in state.moves)
            return [] if known else [ParcelMoved(*ids, status, report.at)]
    return []
