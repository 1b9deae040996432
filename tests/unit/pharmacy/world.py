"""The pharmacy without servers: the log in memory, a clock that stands still, a courier that does as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import orjson
from flask import Flask

from eventkit.audit import Audit, MemoryTrail
from eventkit.auth import Caller, InvalidToken
from eventkit.clock import FixedClock
from eventkit.contracts import contracts
from eventkit.deadlines import Again, Row
from eventkit.envelope import Envelope, sequence
from eventkit.memory_store import MemoryBackend
from eventkit.relay import to_envelope
from eventkit.store import Answer, Due, Request, Store
from eventkit.web import create_app
from services.pharmacy import catalogue, policies
from services.pharmacy.courier import CourierApi, Recipient
from services.pharmacy.domain.parcel import Report
from services.pharmacy.domain.prescription import ChooseDelivery, SignPrescription, WantedLine, canonical
from services.pharmacy.events import Dosing, PrescriptionSigned, Signature, registry
from services.pharmacy.handlers import Handlers, Review
from services.pharmacy.http import Counter, make_routes
from services.pharmacy.jobs import jobs
from services.pharmacy.paper import Person

SIGNED_AT = datetime(2026, 11, 24, 1, 50, tzinfo=UTC)
NOTICE_KEY = b"webhook"
SECRETS = ("张秀英", "19900000001", "北京市海淀区某路1号", "咳嗽变异性哮喘", "3粒", "小心胃")


class OpenSealer:
    """Seals nothing, but keeps sealed values apart from data, as the vault does."""

    def seal(self, person: str, values: dict[str, Any], context: str) -> bytes:
        return orjson.dumps(values)

    def open(self, person: str, sealed: bytes, context: str) -> dict[str, Any]:
        opened: dict[str, Any] = orjson.loads(sealed)
        return opened


class Pens:
    """Signs by copying: whoever changes the content breaks it."""

    def pen_of(self, role: str, subject: str) -> Callable[[bytes], Signature]:
        return lambda content: Signature(f"{role}:{subject}", content.hex())

    def holds(self, signed: PrescriptionSigned) -> bool:
        return signed.signature is not None and signed.signature.value == canonical(signed).hex()


class FakeCourier(CourierApi):
    """`answers` are taken one by one: a tracking number or an exception; then always the last."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1", b"api", NOTICE_KEY)
        self.answers: list[str | Exception] = ["FZ1"]
        self.orders: list[tuple[str, Recipient]] = []
        self.steps: list[Report] = []
        self.fee: int | None = 1200

    def price_fen(self, to: str, weight_g: int) -> int | None:
        return self.fee

    def order(self, parcel_id: str, recipient: Recipient) -> str:
        self.orders.append((parcel_id, recipient))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def history(self, tracking_no: str) -> list[Report]:
        return self.steps


class World:
    def __init__(self) -> None:
        self.log = MemoryBackend()
        self.clock = FixedClock(SIGNED_AT)
        self.courier = FakeCourier()
        store = Store(self.log, registry, OpenSealer(), self.clock)
        self.handlers = Handlers(store, self.clock, Pens(), catalogue.drugs(), tuple(catalogue.couriers()))
        self.jobs = jobs(self.handlers, self.courier)
        self.inbox = policies.inboxes(self.handlers)[policies.GROUP]
        queue: Any = SimpleNamespace(waiting=lambda now: [{"prescription_id": f"waiting at {now}"}])
        people: Any = SimpleNamespace(
            patient=lambda patient_id: Person("张秀英", "female", date(1968, 3, 2)), doctor=lambda doctor_id: "沈怀远"
        )
        self.shelf: dict[str, int] | None = dict.fromkeys(catalogue.drugs(), 10_000)
        self.trail = MemoryTrail()
        self.counter = Counter(
            self.handlers, queue, self.courier, self.clock, lambda codes: self.shelf, "PEM", people,
            "https://fuzhen.example", Audit(self.trail, self.clock),
        )  # fmt: skip
        self._numbers = iter(range(1_000_000))

    # --- what is done ---

    def hear(self, wire: str, **data: Any) -> Envelope:
        """An event of another service, as its contract says, comes in twice."""
        context, name = wire.split(".")
        owner = {"dispatch-due": "pharmacy"}.get(context, context)
        event = Envelope(
            id=f"{wire}-{next(self._numbers)}/1", source="/services/x", type=f"org.fuzhen.{owner}.{name}.v1",
            subject="x", time="2026-11-24T02:00:00Z", partitionkey="v1", sequence=sequence(1), data=data,
            correlationid="c1",
        )  # fmt: skip
        contracts().validate(event)
        for _ in range(2):
            self.inbox[name](event)
        return event

    def request(self, key: str | None = None) -> Request:
        return Request("test", "test", key or f"k{next(self._numbers)}")

    def book(self, visit_id: str = "v1") -> None:
        self.hear(
            "registration.VisitBooked", visit_id=visit_id, order_id=f"fee-{visit_id}", patient_id="p1", account_id="a1",
            doctor_id="d1", department_id="dep", session_id="s", slot_id="sl", day="2026-11-24",
            starts_at="2026-11-24T01:30:00Z", card_kind="beijing_insured", fee_fen=5000,
        )  # fmt: skip

    def accept(self, visit_id: str = "v1") -> None:
        self.hear(
            "consult.ConsultAccepted", visit_id=visit_id, doctor_id="d1", accepted_at="2026-11-24T01:31:00Z"
        )

    def sign(self, rx: str = "rx1", key: str | None = None) -> Answer:
        lines = [WantedLine("W007", 2, "3粒", "口服", Dosing("3", "粒", 3, 5))]
        command = SignPrescription(rx, "v1", "d1", "western", "咳嗽变异性哮喘", lines)
        return self.handlers.sign(self.request(key), command)

    def review(self, outcome: str = "pass", reason: str = "", rx: str = "rx1") -> Answer:
        return self.handlers.review(self.request(), rx, Review("ph1", outcome, reason))

    def issue(self, rx: str = "rx1") -> None:
        self.book()
        self.accept()
        self.sign(rx)
        self.review(rx=rx)

    def choose(self, rx: str = "rx1") -> Answer:
        command = ChooseDelivery("a1", "ad1", "anda", "张秀英", "19900000001", "北京市海淀区某路1号")
        return self.handlers.choose_delivery(self.request(), rx, command)

    def capture(self, rx: str = "rx1", late: bool = False) -> None:
        self.hear(
            "payment.PaymentCaptured", order_id=f"rx-{rx}", visit_id="v1", kind="prescription", prescription_id=rx,
            amount_fen=10520, legs=[{"leg": "cash", "amount_fen": 10520}], captured_at="2026-11-24T03:00:00Z",
            late=late,
        )  # fmt: skip

    def unpaid(self, rx: str = "rx1") -> None:
        self.hear(
            "payment.PaymentExpired", order_id=f"rx-{rx}", visit_id="v1", kind="prescription", prescription_id=rx
        )

    def due_for_courier(self, rx: str = "rx1") -> None:
        self.hear(
            "pharmacy.CourierDispatchDue", prescription_id=rx, visit_id="v1", order_id=f"rx-{rx}", courier="anda",
            address_id="ad1",
        )  # fmt: skip

    def hand_over(self) -> None:
        self.issue()
        self.choose()
        self.capture()
        self.due_for_courier()
        self.run_due("hand_over")

    def run_due(self, job: str) -> list[Again | None]:
        """Every row of that job which is due by now, each run twice."""
        rows = [row for row in self.dues() if row.job == job and row.at <= self.clock.now()]
        return [
            self.jobs[job](Row(row.id, row.job, json.loads(json.dumps(row.args)), row.at, attempt))
            for row in rows
            for attempt in (1, 2)
        ]

    # --- what came of it ---

    def dues(self) -> list[Due]:
        return [due for commit in self.log.commits for due in commit.due]

    def stream(self, name: str) -> list[str]:
        return [logged.type.split(".")[-2] for logged, _ in self.log.read([name])]

    def commits_of(self, *names: str) -> list[list[str]]:
        """The commits that hold one of these events, as lists of names."""
        found = [[event.type.split(".")[-2] for event in commit.events] for commit in self.log.commits]
        return [commit for commit in found if set(commit) & set(names)]

    def published(self) -> list[tuple[str, Envelope]]:
        return [
            (event.topic, to_envelope(replace(commit), event, registry.source))
            for commit in self.log.commits
            for event in commit.events
            if event.topic is not None
        ]



class Stage:
    """One application for many worlds, because building one takes longer than a test."""

    world: World

    def __init__(self) -> None:
        believer: Any = Believer()
        counter: Any = self
        self.app: Flask = create_app("pharmacy", [make_routes(counter)], believer, lambda: (True, {}), str)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.counter, name)


class Believer:
    """Takes `role:subject` for a token."""

    def verify(self, token: str) -> Caller:
        role, found, subject = token.partition(":")
        if not found:
            raise InvalidToken("shape")
        return Caller(subject, frozenset({role}))
