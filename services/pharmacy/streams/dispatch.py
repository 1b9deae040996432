"""pharmacy.dispatch: a prescription that is issued, paid in time and has a delivery is due for the courier, once (§21).

Prescriptions and orders come on two topics without an order between them, so each fact is kept and the question is
asked after every one. What ended (void, expired, at the desk) is never due; what ends after it became due is refused by
the pharmacy itself, which has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from eventkit.envelope import Envelope
from eventkit.streams import Output, Processor

DUE = "org.fuzhen.pharmacy.CourierDispatchDue.v1"


@dataclass(frozen=True, slots=True)
class Delivery:
    courier: str
    address_id: str


@dataclass(frozen=True, slots=True)
class Item:
    """What is known of one prescription. `order_id` is set by a capture in time."""

    issued: bool = False
    delivery: Delivery | None = None
    order_id: str | None = None
    ended: bool = False
    due: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """State of one key: the prescriptions of a visit."""

    items: dict[str, Item] = field(default_factory=dict)


def derive(state: Visit | None, event: Envelope) -> tuple[Visit, list[Output]]:
    state = state or Visit()
    prescription_id = event.data.get("prescription_id")
    if prescription_id is None:  # an order for the visit's fee
        return state, []
    item = learn(state.items.get(prescription_id, Item()), event)
    outputs: list[Output] = []
    if item.issued and item.delivery and item.order_id and not item.ended and not item.due:
        due = {
            "prescription_id": prescription_id,
            "visit_id": event.data["visit_id"],
            "order_id": item.order_id,
            "courier": item.delivery.courier,
            "address_id": item.delivery.address_id,
        }
        outputs.append(Output(DUE, prescription_id, due, ("dispatch-due", prescription_id)))
        item = replace(item, due=True)
    return Visit({**state.items, prescription_id: item}), outputs


def learn(item: Item, event: Envelope) -> Item:
    match event.name:
        case "PrescriptionIssued":
            return replace(item, issued=True)
        case "DeliveryChosen":
            return replace(item, delivery=Delivery(event.data["courier"], event.data["address_id"]))
        case "PaymentCaptured" if not event.data["late"]:
            return replace(item, order_id=event.data["order_id"])
        case "PrescriptionVoided" | "PrescriptionExpired" | "PrescriptionDispensed":
            return replace(item, ended=True)
        case "PaymentExpired" | "OrderSettledOffline":
            return replace(item, ended=True)
    return item


dispatch = Processor(
    app_id="pharmacy.dispatch",
    sources=("pharmacy.prescription.v1", "payment.order.v1"),
    output_topic="pharmacy.dispatch-due.v1",
    state=Visit,
    derive=derive,
)
