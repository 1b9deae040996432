"""The processors: which orders must be refunded, and how far insurance is, in whatever order the topics are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest

from eventkit.contracts import contracts
from eventkit.envelope import Envelope, sequence
from eventkit.streams.guard import Processor, to_envelope
from services.payment.streams.insurance import insurance
from services.payment.streams.refunds import refunds

LEGS = [{"leg": "fund", "amount_fen": 4000}, {"leg": "cash", "amount_fen": 1000}]
CASH = [{"leg": "cash", "amount_fen": 1000}]
AT = "2026-11-24T01:00:00Z"
V = {"visit_id": "v1"}
RX = {"prescription_id": "p1"}


def event(context: str, name: str, stream: str, version: int = 1, **data: Any) -> Envelope:
    return Envelope(
        id=f"{stream}/{version}", source=f"/services/{context}", type=f"org.fuzhen.{context}.{name}.v1",
        subject=stream.partition("-")[2], time=AT, partitionkey="v1", sequence=sequence(version), data={**V, **data},
    )


def captured(order_id: str = "fee-v1", *, late: bool = False, kind: str = "visit_fee", legs: Any = LEGS) -> Envelope:
    more = RX if kind == "prescription" else {}
    return event(
        "payment", "PaymentCaptured", f"order-{order_id}", 9, order_id=order_id, kind=kind, legs=legs, captured_at=AT,
        amount_fen=sum(leg["amount_fen"] for leg in legs), late=late, **more,
    )


def ended(name: str, order_id: str = "fee-v1", kind: str = "visit_fee") -> Envelope:
    more = RX if kind == "prescription" else {}
    return event("payment", name, f"order-{order_id}", 5, order_id=order_id, kind=kind, **more)


WITHDRAWN = [
    event("registration", "VisitWithdrawn", "visit-v1", 3, slot_id="s1", reason=reason)
    for reason in ("missed", "declined", "silent", "patient", "session_cancelled", "ineligible")
]
MISSED = event("consult", "ConsultMissed", "consult-v1", 2, doctor_id="d1", day="2026-11-24")
DECLINED = event("consult", "ConsultDeclined", "consult-v1", 2, patient_id="p1", doctor_id="d1", reason="unsuitable")
ABANDONED = event("consult", "ConsultAbandoned", "consult-v1", 3, doctor_id="d1")
CANCELLED = event("consult", "ConsultCancelled", "consult-v1", 2, reason="session_cancelled")
LAPSED = event("registration", "VisitLapsed", "visit-v1", 2, slot_id="s1", reason="unpaid")
BOOKED = event("registration", "VisitBooked", "visit-v1", 2)
FINISHED = event("consult", "ConsultFinished", "consult-v1", 3, patient_id="p1", doctor_id="d1", finished_at=AT)
EXPIRED = ended("PaymentExpired")
RX_CAPTURED = captured("rx-p1", kind="prescription", legs=CASH)
RX_LATE = captured("rx-p1", kind="prescription", legs=CASH, late=True)
RX_EXPIRED = ended("PaymentExpired", "rx-p1", "prescription")
RX_VOIDED = event("pharmacy", "PrescriptionVoided", "prescription-p1", 5, **RX, reason="withdrawn")
OTHER_VOIDED = event("pharmacy", "PrescriptionVoided", "prescription-p2", 5, prescription_id="p2", reason="refused")
SETTLED = event(
    "payment", "OrderSettledOffline", "order-rx-p1", 4, order_id="rx-p1", **RX, settlement_id="h1", amount_fen=1000,
    legs=CASH, settled_at=AT,
)


def derived(processor: Processor[Any], events: Sequence[Envelope]) -> list[Envelope]:
    state, outputs = None, []
    for each in events:
        state, new = processor.derive(state, each)
        state = processor.decode(processor.encode(state))  # as the changelog keeps it
        outputs += [to_envelope(output, each, processor.app_id) for output in new]
    for output in outputs:
        contracts().validate(output, processor.output_topic)
    return outputs


def interleavings(events: Sequence[Envelope], key: Callable[[Envelope], str]) -> Iterator[list[Envelope]]:
    """Every order that keeps the order of each topic."""
    for order in permutations(range(len(events))):
        pairs = combinations(range(len(events)), 2)
        if all(order.index(a) < order.index(b) for a, b in pairs if key(events[a]) == key(events[b])):
            yield [events[index] for index in order]


def topic(envelope: Envelope) -> str:
    return envelope.stream.partition("-")[0]


def told(outputs: Sequence[Envelope]) -> list[tuple[str, ...]]:
    return sorted((o.data["order_id"], o.data["reason"], str(o.data["amount_fen"])) for o in outputs)


REFUNDS: list[tuple[str, list[Envelope], list[tuple[str, str, str]]]] = [
    ("§11 paid and booked", [captured(), BOOKED], []),
    ("§28 paid and treated", [captured(), BOOKED, FINISHED], []),
    ("§10 unpaid", [EXPIRED, LAPSED], []),
    *(
        (f"withdrawn: {w.data['reason']}", [captured(), BOOKED, w], [("fee-v1", w.data["reason"], "5000")])
        for w in WITHDRAWN
    ),
    ("§18 missed, and withdrawn for it", [captured(), MISSED, WITHDRAWN[0]], [("fee-v1", "missed", "5000")]),
    ("§19 declined, and withdrawn for it", [captured(), DECLINED, WITHDRAWN[1]], [("fee-v1", "declined", "5000")]),
    ("§27 silent, and withdrawn for it", [captured(), ABANDONED, WITHDRAWN[2]], [("fee-v1", "silent", "5000")]),
    ("§29 session cancelled", [captured(), WITHDRAWN[4], CANCELLED], [("fee-v1", "session_cancelled", "5000")]),
    ("§16 paid, but the visit had lapsed", [captured(), LAPSED], [("fee-v1", "lapsed", "5000")]),
    ("§16 late after the end of the hold", [EXPIRED, captured(late=True, legs=CASH), LAPSED],
     [("fee-v1", "expired", "1000")]),
    ("only the fee goes back by withdrawal", [captured(), RX_CAPTURED, WITHDRAWN[1]], [("fee-v1", "declined", "5000")]),
    ("§23 drugs paid after three days", [RX_EXPIRED, RX_LATE], [("rx-p1", "expired", "1000")]),
    ("§23 drugs paid after the desk", [SETTLED, RX_LATE], [("rx-p1", "settled_offline", "1000")]),
    ("§23 drugs paid in time", [RX_CAPTURED], []),
    ("§24 drugs paid, and their prescription voided", [RX_CAPTURED, RX_VOIDED], [("rx-p1", "voided", "1000")]),
    ("§24 voided once more", [RX_CAPTURED, RX_VOIDED, replace(RX_VOIDED, id="prescription-p1/6")],
     [("rx-p1", "voided", "1000")]),
    ("§24 another prescription of the visit is voided", [RX_CAPTURED, OTHER_VOIDED], []),
    ("§24 voided unpaid", [RX_VOIDED, RX_EXPIRED], []),
    ("§24 the fee stays when a prescription is voided", [captured(), RX_CAPTURED, RX_VOIDED],
     [("rx-p1", "voided", "1000")]),
    ("§16 voided, and then late money", [RX_EXPIRED, RX_LATE, RX_VOIDED], [("rx-p1", "expired", "1000")]),
    ("§19 declined, its drugs voided: both go back", [captured(), RX_CAPTURED, WITHDRAWN[1], RX_VOIDED],
     [("fee-v1", "declined", "5000"), ("rx-p1", "voided", "1000")]),
    ("§22 settled at the desk, then voided: the desk's money", [SETTLED, RX_VOIDED], []),
    ("both orders of a visit", [captured(), RX_EXPIRED, RX_LATE, MISSED],
     [("fee-v1", "missed", "5000"), ("rx-p1", "expired", "1000")]),
]


@pytest.mark.parametrize(("events", "then"), [row[1:] for row in REFUNDS], ids=[row[0] for row in REFUNDS])
def test_refunds(events: list[Envelope], then: list[tuple[str, str, str]]) -> None:
    ids = set()
    for order in interleavings(events, topic):
        outputs = derived(refunds, order)
        assert told(outputs) == then
        ids.add(tuple(sorted(output.id for output in outputs)))
    assert len(ids) == 1  # the business cause names the event, whichever event caused it


def test_a_refund_is_due_with_the_legs_that_were_captured() -> None:
    [due] = derived(refunds, [captured(), MISSED])
    assert due.data == {
        **V, "order_id": "fee-v1", "kind": "visit_fee", "reason": "missed", "amount_fen": 5000, "legs": LEGS
    }
    assert (due.source, due.subject, due.partitionkey) == ("/processors/payment.refunds", "fee-v1", "v1")


ISSUED = event(
    "pharmacy", "PrescriptionIssued", "prescription-p1", 3, **RX, patient_id="pt1", account_id="a1", doctor_id="d1",
    pharmacist_id="f1", kind="western", card_kind="beijing_insured", amount_fen=1000, signed_at=AT, valid_until=AT,
)
ISSUED_UNINSURED = event(
    "pharmacy", "PrescriptionIssued", "prescription-p1", 3, **{**ISSUED.data, "card_kind": "uninsured"}
)
RX_GONE = event("pharmacy", "PrescriptionExpired", "prescription-p1", 5, **RX)
REQUESTED = event(
    "payment", "PaymentRequested", "order-fee-v1", 2, order_id="fee-v1", kind="visit_fee", legs=LEGS, amount_fen=5000,
    decomposition_id="dc1",
)
BACK = event(
    "payment", "RefundSucceeded", "refund-rf-fee-v1", 6, refund_id="rf-fee-v1", order_id="fee-v1", kind="visit_fee",
    amount_fen=5000, legs=LEGS,
)

INSURANCE: list[tuple[str, list[Envelope], list[str]]] = [
    ("§13 decomposed", [REQUESTED], ["FeeDecomposed"]),
    ("§14 nothing to decompose",
     [event("payment", "PaymentRequested", "order-fee-v1", 2, order_id="fee-v1", legs=CASH)], []),
    ("§16 the insurer's part is back", [BACK], ["DecompositionReversed"]),
    ("a refund of cash alone", [event("payment", "RefundSucceeded", "refund-rf-rx-p1", 3, refund_id="rf-rx-p1",
                                      order_id="rx-p1", legs=CASH)], []),
    ("§15 the desk may settle", [ISSUED], ["OfflineSettlementOpened"]),
    ("§14 no insurance, no offer", [ISSUED_UNINSURED, RX_EXPIRED, SETTLED], []),
    ("§22 settled", [ISSUED, SETTLED], ["OfflineSettlementClosed", "OfflineSettlementOpened"]),
    ("§23 not settled", [ISSUED, RX_EXPIRED], ["OfflineSettlementLapsed", "OfflineSettlementOpened"]),
    ("§23 both say that it expired", [ISSUED, RX_EXPIRED, RX_GONE],
     ["OfflineSettlementLapsed", "OfflineSettlementOpened"]),
    ("§23 paid online instead", [ISSUED, RX_CAPTURED], ["OfflineSettlementLapsed", "OfflineSettlementOpened"]),
    ("late money changes nothing", [ISSUED, SETTLED, RX_LATE], ["OfflineSettlementClosed", "OfflineSettlementOpened"]),
]


@pytest.mark.parametrize(("events", "then"), [row[1:] for row in INSURANCE], ids=[row[0] for row in INSURANCE])
def test_insurance(events: list[Envelope], then: list[str]) -> None:
    for order in interleavings(events, topic):
        assert sorted(output.name for output in derived(insurance, order)) == then


def test_a_settlement_reported_after_the_end_still_closes_the_offer() -> None:
    """Whenever the prescription itself is seen: what is told depends on the order's own topic alone."""
    for order in interleavings([ISSUED, RX_EXPIRED, SETTLED, RX_GONE], topic):
        names = [output.name for output in derived(insurance, order)]
        assert names == ["OfflineSettlementOpened", "OfflineSettlementLapsed", "OfflineSettlementClosed"]


def test_what_was_split_and_what_came_back() -> None:
    [split] = derived(insurance, [REQUESTED])
    assert split.data == {
        **V, "order_id": "fee-v1", "decomposition_id": "dc1", "fund_fen": 4000, "account_fen": 0, "self_fen": 1000
    }
    [back] = derived(insurance, [BACK])
    assert back.data == {**V, "order_id": "fee-v1", "refund_id": "rf-fee-v1", "fund_fen": 4000, "account_fen": 0}
