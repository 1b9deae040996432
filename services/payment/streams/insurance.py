"""`payment.insurance`: how far insurance is with a visit (§13, §15, §22, §23): what was decomposed online, until when
the desk may settle a prescription, and what went back to the insurer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from eventkit.envelope import Envelope
from eventkit.streams import Output, Processor

_TYPE = "org.fuzhen.payment.{}.v1"
LAPSED, CLOSED = "OfflineSettlementLapsed", "OfflineSettlementClosed"


@dataclass(frozen=True, slots=True)
class Offer:
    """The desk's offer for one prescription. `ends` is what became of it in the order of the order's own topic, each
    with its settlement if it has one. The prescription stands on another topic and may be seen first or last: what
    is told in the end is the same."""

    until: str = ""
    ends: tuple[tuple[str, str], ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Insurance:
    offers: dict[str, Offer] = field(default_factory=dict)


def derive(state: Insurance | None, event: Envelope) -> tuple[Insurance, list[Output]]:
    insurance = state or Insurance()
    data = event.data
    match event.name:
        case "PaymentRequested" if "decomposition_id" in data:
            return insurance, [_decomposed(data)]
        case "RefundSucceeded":
            return insurance, _reversed(data)
        case "PrescriptionIssued" if data["card_kind"] == "beijing_insured":
            return _offer(insurance, data, until=data["valid_until"])
        case "PaymentExpired" if data["kind"] == "prescription":
            return _offer(insurance, data, end=(LAPSED, ""))
        case "PaymentCaptured" if data["kind"] == "prescription" and not data["late"]:
            return _offer(insurance, data, end=(LAPSED, ""))
        case "OrderSettledOffline":
            return _offer(insurance, data, end=(CLOSED, data["settlement_id"]))
        case _:
            return insurance, []


def _decomposed(data: dict[str, Any]) -> Output:
    legs = _legs(data)
    return Output(
        type=_TYPE.format("FeeDecomposed"),
        subject=data["order_id"],
        cause=("fee-decomposed", data["order_id"]),
        data={
            "visit_id": data["visit_id"],
            "order_id": data["order_id"],
            "decomposition_id": data["decomposition_id"],
            "fund_fen": legs.get("fund", 0),
            "account_fen": legs.get("account", 0),
            "self_fen": legs.get("cash", 0),
        },
    )


def _reversed(data: dict[str, Any]) -> list[Output]:
    legs = _legs(data)
    if not (legs.get("fund") or legs.get("account")):
        return []
    return [Output(
        type=_TYPE.format("DecompositionReversed"),
        subject=data["order_id"],
        cause=("decomposition-reversed", data["refund_id"]),
        data={
            "visit_id": data["visit_id"],
            "order_id": data["order_id"],
            "refund_id": data["refund_id"],
            "fund_fen": legs.get("fund", 0),
            "account_fen": legs.get("account", 0),
        },
    )]


def _offer(
    insurance: Insurance, data: dict[str, Any], until: str = "", end: tuple[str, str] | None = None
) -> tuple[Insurance, list[Output]]:
    """Nothing is told of an offer that was never made: only the Beijing-insured have one. A desk's settlement ends it
    however late its report comes; an offer that was settled does not lapse."""
    prescription_id = data["prescription_id"]
    offer = insurance.offers.get(prescription_id, Offer())
    offer = replace(offer, until=offer.until or until)
    if end is not None and all(name not in (end[0], CLOSED) for name, _ in offer.ends):
        offer = replace(offer, ends=(*offer.ends, end))
    outputs = []
    if offer.until:
        wanted: list[tuple[str, dict[str, str]]] = [("OfflineSettlementOpened", {"until": offer.until})]
        wanted += [(name, {"settlement_id": settlement} if settlement else {}) for name, settlement in offer.ends]
        for name, more in wanted:
            if name not in offer.told:
                offer = replace(offer, told=(*offer.told, name))
                outputs.append(Output(
                    type=_TYPE.format(name),
                    subject=prescription_id,
                    cause=(name, prescription_id),
                    data={"visit_id": data["visit_id"], "prescription_id": prescription_id, **more},
                ))
    return replace(insurance, offers={**insurance.offers, prescription_id: offer}), outputs


def _legs(data: dict[str, Any]) -> dict[str, int]:
    return {leg["leg"]: leg["amount_fen"] for leg in data["legs"]}


insurance = Processor(
    app_id="payment.insurance",
    sources=("pharmacy.prescription.v1", "payment.order.v1", "payment.refund.v1"),
    output_topic="payment.insurance.v1",
    state=Insurance,
    derive=derive,
)
