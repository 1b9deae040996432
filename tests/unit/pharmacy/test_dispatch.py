"""pharmacy.dispatch: due once, whatever order the facts come in, and never for what ended before (§21, §23)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from eventkit.contracts import contracts
from eventkit.envelope import Envelope, sequence
from eventkit.streams.guard import to_envelope
from services.pharmacy.streams.dispatch import Visit, derive, dispatch


def event(wire: str, rx: str | None = "rx1", **data: Any) -> Envelope:
    of_rx = {} if rx is None else {"prescription_id": rx}
    return Envelope(
        id=f"stream-{wire}-{rx}/1", source="/services/x", type=f"org.fuzhen.{wire}.v1", subject="x",
        time="2026-11-24T02:00:00Z", partitionkey="v1", sequence=sequence(1), data={"visit_id": "v1", **of_rx, **data},
    )  # fmt: skip


def captured(rx: str = "rx1", late: bool = False) -> Envelope:
    return event("payment.PaymentCaptured", rx, order_id=f"rx-{rx}", kind="prescription", late=late)


def chosen(address_id: str = "ad1", rx: str = "rx1") -> Envelope:
    return event("pharmacy.DeliveryChosen", rx, courier="anda", address_id=address_id)


ISSUED = event("pharmacy.PrescriptionIssued")
NEEDED = [ISSUED, chosen(), captured()]
ENDS = [
    event("pharmacy.PrescriptionVoided", reason="withdrawn"),
    event("pharmacy.PrescriptionExpired"),
    event("pharmacy.PrescriptionDispensed", way="desk"),
    event("payment.PaymentExpired", order_id="rx-rx1", kind="prescription"),
    event("payment.OrderSettledOffline", order_id="rx-rx1", settlement_id="s1"),
]


def run(*events: Envelope) -> list[dict[str, Any]]:
    state: Visit | None = None
    found = []
    for each in events:
        state, outputs = derive(state, each)
        state = msgspec.json.decode(msgspec.json.encode(state), type=Visit)
        found += [output.data for output in outputs]
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(NEEDED)))
def test_due_once_in_every_order_even_told_twice(order: tuple[Envelope, ...]) -> None:
    due = {"prescription_id": "rx1", "visit_id": "v1", "order_id": "rx-rx1", "courier": "anda", "address_id": "ad1"}
    assert run(*order) == [due]
    assert run(*order, *order) == [due]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_what_ended_before_it_was_due_is_never_due(end: Envelope) -> None:
    for order in itertools.permutations([*NEEDED, end]):
        expected = 1 if order[-1] is end else 0
        assert len(run(*order)) == expected, [each.name for each in order]


@pytest.mark.parametrize("left_out", range(3))
def test_two_of_three_are_not_enough(left_out: int) -> None:
    assert run(*NEEDED[:left_out], *NEEDED[left_out + 1 :]) == []


def test_a_late_capture_is_no_payment() -> None:  # §16
    assert run(ISSUED, chosen(), captured(late=True)) == []


def test_the_last_address_before_it_is_due_counts() -> None:
    (due,) = run(ISSUED, chosen("ad1"), chosen("ad2"), captured(), chosen("ad3"))
    assert due["address_id"] == "ad2"


def test_the_visits_fee_is_not_a_prescription() -> None:
    fee = event("payment.PaymentCaptured", None, order_id="fee-v1", kind="visit_fee", late=False)
    assert run(ISSUED, chosen(), fee) == []


def test_two_prescriptions_of_one_visit_do_not_mix() -> None:
    assert run(ISSUED, chosen(), captured("rx2"), chosen(rx="rx2")) == []
    both = run(*NEEDED, event("pharmacy.PrescriptionIssued", "rx2"), chosen(rx="rx2"), captured("rx2"))
    assert [due["prescription_id"] for due in both] == ["rx1", "rx2"]


def test_its_output_is_what_the_contract_says_and_has_one_id() -> None:
    ids = set()
    for order in itertools.permutations(NEEDED):
        state: Visit | None = None
        for each in order:
            state, outputs = derive(state, each)
            for output in outputs:
                envelope = to_envelope(output, each, dispatch.app_id)
                contracts().validate(envelope, dispatch.output_topic)
                ids.add(envelope.id)
    assert len(ids) == 1


def test_it_reads_what_its_topics_files_let_it_read() -> None:
    topics = contracts().topics
    assert [name for name, topic in topics.items() if dispatch.app_id in topic.readers] == sorted(dispatch.sources)
