"""Commands, policies and jobs on the log: one commit where a rule spans streams, and nothing done twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest

from eventkit.calls import PeerRefused, Unanswered
from eventkit.contracts import contracts
from eventkit.deadlines import Again
from eventkit.envelope import Envelope
from eventkit.events import Refusal
from services.pharmacy.courier import NotTaken
from services.pharmacy.domain.care import Care
from services.pharmacy.domain.parcel import Report
from services.pharmacy.domain.prescription import SignPrescription, WantedLine
from services.pharmacy.events import Dosing
from services.pharmacy.policies import GROUP
from tests.unit.pharmacy.world import SECRETS, SIGNED_AT, World

THREE_DAYS = timedelta(hours=72)
OMEPRAZOLE = WantedLine("W004", 1, "", "口服", Dosing("20", "mg", 1, 14))


@pytest.fixture
def world() -> World:
    return World()


def code(action: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refusal) as refused:
        action(*args, **kwargs)
    return refused.value.code


def test_from_the_signature_to_the_door(world: World) -> None:  # §20, §21
    world.hand_over()
    at = SIGNED_AT + timedelta(hours=9)
    world.handlers.note_report(world.request(), "rx1", Report("FZ1", "collected", SIGNED_AT + timedelta(hours=3)))
    world.handlers.note_report(world.request(), "rx1", Report("FZ1", "delivered", at, 1200))

    assert world.stream("prescription-rx1") == [
        "PrescriptionSigned", "PrescriptionReviewed", "PrescriptionIssued", "AddressGiven", "DeliveryChosen",
        "PrescriptionPaid", "DispatchBegun", "PrescriptionDispensed",
    ]  # fmt: skip
    assert world.stream("parcel-rx1") == ["ParcelOpened", "ParcelHandedOver", "ParcelMoved", "ParcelDelivered"]
    assert world.commits_of("ParcelOpened") == [["DispatchBegun", "ParcelOpened"]]
    assert world.commits_of("ParcelHandedOver") == [["ParcelHandedOver", "PrescriptionDispensed"]]
    assert world.handlers.parcel("rx1").state == "delivered"


def test_what_is_published_is_what_the_contract_says_and_nothing_personal(world: World) -> None:  # §31
    world.issue()
    world.choose()
    world.sign("rx2")
    world.review("return", "小心胃", "rx2")
    world.capture()
    world.due_for_courier()
    world.run_due("hand_over")
    world.sign("rx3")
    world.review("refuse", "小心胃", "rx3")
    world.clock.advance(THREE_DAYS)
    world.run_due("expire_prescription")
    for topic, envelope in world.published():
        contracts().validate(envelope, topic)
    open_parts = orjson.dumps([
        [[event.data for event in commit.events], commit.answer.body, [due.args for due in commit.due]]
        for commit in world.log.commits
    ]).decode()
    assert [secret for secret in SECRETS if secret in open_parts] == []
    assert {envelope.name for _, envelope in world.published()} >= {"PrescriptionExpired", "PrescriptionVoided"}


def test_the_answer_of_a_signature_is_the_same_for_the_same_key(world: World) -> None:
    world.book()
    world.accept()
    first = world.sign("rx1", key="same")
    assert world.sign("rx2", key="same").body == first.body
    assert first.body["amount_fen"] == 10520
    assert world.stream("prescription-rx2") == []


def test_a_pharmacist_returns_and_the_doctor_signs_again(world: World) -> None:  # §24
    world.book()
    world.accept()
    world.sign()
    world.review("return", "小心胃")
    finished = {"patient_id": "p1", "doctor_id": "d1", "finished_at": "2026-11-24T02:30:00Z"}
    world.hear("consult.ConsultFinished", visit_id="v1", **finished)
    world.clock.advance(timedelta(hours=10))
    world.handlers.sign_again(
        world.request(), "d1", "rx1",
        lambda visit, kind: SignPrescription("rx1", visit, "d1", kind, "咳嗽", [OMEPRAZOLE]),
    )  # fmt: skip
    assert world.stream("care-v1").count("CarePrescribed") == 1
    world.clock.instant = SIGNED_AT + THREE_DAYS
    world.run_due("expire_prescription")  # the first signature's deadline
    assert world.review().body["state"] == "issued"
    assert world.handlers.prescription("rx1").facts.amount_fen == 1990


def test_a_prescription_cannot_be_signed_again_by_another_doctor_or_into_another_visit(world: World) -> None:  # §31
    world.issue()
    assert code(world.review) == "not_in_review"
    foreign = SignPrescription("rx1", "v1", "d2", "western", "x", [OMEPRAZOLE])
    assert code(world.handlers.sign_again, world.request(), "d2", "rx1", lambda *_: foreign) == "not_found"
    world.book("v2")
    world.accept("v2")
    elsewhere = SignPrescription("rx1", "v2", "d1", "western", "x", [OMEPRAZOLE])
    assert code(world.handlers.sign, world.request(), elsewhere) == "not_found"


def test_a_changed_content_does_not_pass(world: World) -> None:  # §24
    world.book()
    world.accept()
    world.sign()
    ((entry, _),) = world.log.read(["prescription-rx1"])
    entry.data["amount_fen"] = 1
    assert code(world.review) == "signature_broken"
    assert world.review("refuse", "签名").body["state"] == "voided"


@pytest.mark.parametrize("state", ["in_review", "returned"])
def test_three_days_without_a_review_are_the_end(world: World, state: str) -> None:  # §23, §24
    world.book()
    world.accept()
    world.sign()
    if state == "returned":
        world.review("return", "小心胃")
    world.clock.advance(THREE_DAYS - timedelta(milliseconds=1))
    assert world.run_due("expire_prescription") == []
    world.clock.advance(timedelta(milliseconds=1))
    world.run_due("expire_prescription")
    assert world.stream("prescription-rx1").count("PrescriptionExpired") == 1


def test_in_effect_only_payment_ends_it_unpaid(world: World) -> None:  # §23
    world.issue()
    world.clock.advance(THREE_DAYS)
    world.run_due("expire_prescription")
    assert world.handlers.prescription("rx1").state == "issued"
    world.unpaid()
    assert world.handlers.prescription("rx1").state == "expired"


@pytest.mark.parametrize("first", ["capture", "unpaid"])
def test_expiry_and_payment_have_one_winner_for_ever(world: World, first: str) -> None:  # §23
    world.issue()
    world.choose()
    (world.capture if first == "capture" else world.unpaid)()
    (world.unpaid if first == "capture" else world.capture)()
    found = world.handlers.prescription("rx1")
    assert (found.paid, found.state) == ((True, "issued") if first == "capture" else (False, "expired"))


def test_a_late_capture_changes_nothing(world: World) -> None:  # §16
    world.issue()
    world.capture(late=True)
    assert not world.handlers.prescription("rx1").paid


def test_the_desk_and_the_courier_have_one_winner(world: World) -> None:  # §22, §23
    settled = {
        "order_id": "rx-rx1", "visit_id": "v1", "prescription_id": "rx1", "settlement_id": "s1", "amount_fen": 10520,
        "legs": [{"leg": "fund", "amount_fen": 10520}], "settled_at": "2026-11-24T05:00:00Z",
    }  # fmt: skip
    world.issue()
    world.hear("payment.OrderSettledOffline", **settled)
    assert world.handlers.prescription("rx1").way == "desk"
    assert code(world.due_for_courier) == "already_dispensed"
    assert world.stream("parcel-rx1") == []

    other = World()
    other.hand_over()
    assert code(other.hear, "payment.OrderSettledOffline", **settled) == "already_dispensed"
    assert other.handlers.prescription("rx1").way == "courier"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("consult.ConsultDeclined", {"patient_id": "p1", "doctor_id": "d1", "reason": "unsuitable"}),
        ("consult.ConsultAbandoned", {"doctor_id": "d1"}),
        ("consult.ConsultCancelled", {"reason": "patient"}),
        ("registration.VisitWithdrawn", {"slot_id": "sl", "reason": "declined"}),
    ],
)
def test_a_withdrawn_visit_takes_its_unpaid_prescriptions_with_it(
    world: World, name: str, data: dict[str, str]
) -> None:  # §19
    world.issue()
    world.sign("rx2")
    world.sign("rx3")
    world.review(rx="rx3")
    world.capture("rx3")
    world.hear(name, visit_id="v1", **data)
    assert world.commits_of("CareWithdrawn") == [["CareWithdrawn", "PrescriptionVoided", "PrescriptionVoided"]]
    assert [world.handlers.prescription(rx).state for rx in ("rx1", "rx2", "rx3")] == ["voided", "voided", "issued"]
    assert code(world.sign, "rx4") == "consult_over"


def test_a_prescription_signed_while_its_visit_is_withdrawn_is_void_too(world: World) -> None:  # §19
    world.book()
    world.accept()
    seen = world.handlers.care

    def signed_just_after_the_look(visit_id: str) -> Care:
        found = seen(visit_id)
        if not found.prescriptions:
            world.sign("rx1")
        return found

    world.handlers.care = signed_just_after_the_look  # type: ignore[method-assign]
    world.hear("registration.VisitWithdrawn", visit_id="v1", slot_id="sl", reason="declined")
    assert world.handlers.prescription("rx1").state == "voided"


def test_the_courier_is_asked_until_it_answers(world: World) -> None:  # §21, design rule 8
    world.courier.answers = [Unanswered("silence"), Unanswered("silence"), "FZ1"]
    world.issue()
    world.choose()
    world.capture()
    world.due_for_courier()
    assert world.run_due("hand_over") == [Again(), Again()]
    assert world.stream("parcel-rx1") == ["ParcelOpened"]
    assert world.run_due("hand_over") == [None, None]
    assert len({order for order, _ in world.courier.orders}) == 1
    assert world.courier.orders[0][1].address == "北京市海淀区某路1号"
    assert world.stream("parcel-rx1") == ["ParcelOpened", "ParcelHandedOver"]


def test_a_parcel_the_courier_does_not_take_is_said_to_be_undeliverable(world: World) -> None:
    world.courier.answers = [NotTaken("client_order_no_reused")]
    world.hand_over()
    assert world.stream("parcel-rx1") == ["ParcelOpened", "ParcelReturned"]
    assert world.handlers.prescription("rx1").state == "issued"


def test_a_wrong_key_is_our_fault_and_the_parcel_waits(world: World) -> None:
    world.courier.answers = [PeerRefused(401, {"code": "bad_signature"})]
    with pytest.raises(PeerRefused):
        world.hand_over()
    assert world.stream("parcel-rx1") == ["ParcelOpened"]


def test_a_silent_courier_is_asked_where_the_parcel_is(world: World) -> None:
    world.hand_over()
    world.clock.advance(timedelta(hours=5, minutes=59))
    assert world.run_due("poll_parcel") == []
    world.clock.advance(timedelta(minutes=1))
    world.courier.steps = [Report("FZ1", "accepted", SIGNED_AT), Report("FZ1", "collected", SIGNED_AT)]
    assert world.run_due("poll_parcel") == [Again(1800), Again(1800)]
    world.courier.steps += [Report("FZ1", "delivered", SIGNED_AT + timedelta(hours=5), 1200)]
    assert world.run_due("poll_parcel") == [None, None]
    assert world.stream("parcel-rx1") == ["ParcelOpened", "ParcelHandedOver", "ParcelMoved", "ParcelDelivered"]


def test_every_golden_of_what_it_reads_is_understood(world: World) -> None:
    topics = [topic for topic in contracts().topics.values() if GROUP in topic.readers]
    assert {topic.name for topic in topics} == {
        "registration.visit.v1", "registration.patient.v1", "consult.consult.v1", "payment.order.v1",
        "pharmacy.dispatch-due.v1",
    }  # fmt: skip
    read, refused = 0, set()
    for wire_type in [type_ for topic in topics for type_ in topic.types]:
        _, _, context, name, version = wire_type.split(".")
        for golden in (contracts().root / "examples" / context / f"{name}.{version}").glob("*.json"):
            handler = world.inbox.get(name)
            if handler is None:
                continue
            try:
                handler(Envelope.parse(golden.read_bytes()))
            except Refusal as refusal:
                refused.add(refusal.code)
            read += 1
    assert refused <= {"not_found"}
    assert read >= len(world.inbox)
