"""The pharmacy on real parts: its API, worker and processor, Kafka, MongoDB, and the courier sandbox (§20 to §24)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import jwt
import orjson
import pytest
import requests
from aiokafka import TopicPartition
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm
from pymongo import MongoClient

from devstack import ports, secrets, table
from devstack.places import REPO
from devstack.process import Process, until_healthy
from eventkit.clock import SystemClock, rfc3339
from eventkit.contracts import contracts
from eventkit.envelope import Envelope, sequence
from eventkit.relay import make_producer
from eventkit.streams.topics import Reader
from eventkit.topics import apply, wanted

T = TypeVar("T")
SECONDS = 40.0
PROCESSES = ("courier", "pharmacy", "pharmacy.worker", "pharmacy.dispatch")
TOPICS = ("pharmacy.prescription.v1", "pharmacy.parcel.v1", "pharmacy.dispatch-due.v1")
DOCTOR, PHARMACIST = "doctor:d1", "pharmacist:ph1"
SHEET = {
    "kind": "western", "diagnosis": "咳嗽变异性哮喘",
    "lines": [{
        "drug_code": "W007", "quantity": 2, "dose": "3粒", "usage": "口服",
        "dosing": {"amount": "3", "unit": "粒", "times_per_day": 3, "days": 5},
    }],
}  # fmt: skip
ADDRESS = {"courier": "anda", "recipient": "张秀英", "phone": "19900000001", "address": "北京市海淀区某路1号"}


def until(ask: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """What `ask` returns once it is true. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


class Hospital:
    """The pharmacy's own processes; the test speaks for all other services, and holds the key of the tokens."""

    def __init__(self, parts: Any, home: Path) -> None:
        secrets.make(home / "secrets")
        base = ports.free_base()
        self.database = f"t{uuid.uuid4().hex[:8]}"
        self.parts = parts
        self._rows = {row.name: row for row in table.processes(home, base)}
        self._settings = {
            "FUZHEN_MONGO_URL": parts.mongo_url,
            "FUZHEN_KAFKA": parts.kafka,
            "FUZHEN_DB_PREFIX": self.database,
            "FUZHEN_PUBLIC_URL": self._rows["pharmacy"].url,
        }
        self._logs = home / "log"
        self._logs.mkdir()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        key = load_pem_private_key((home / "secrets" / "jwt_key.pem").read_bytes(), None)
        self._key: Any = key
        self._issuer = issuer(self._key.public_key(), ports.port("registration", base))
        self.clock = SystemClock(home / "clock")

    # --- processes

    def start(self, *names: str) -> None:
        for name in names:
            row = self._rows[name]
            if row.prepare:
                row.prepare()
            with (self._logs / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    row.argv, cwd=REPO, env=self.env(row), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        for name in names:
            ready = self._rows[name].ready
            assert ready is not None
            asyncio.run(until_healthy(ready, 60))

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        for name in names:
            process = self._running.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            process.wait(20)

    def stop(self) -> None:
        self.kill(*reversed(list(self._running)), number=signal.SIGTERM)
        self._issuer.shutdown()
        self._issuer.server_close()

    def env(self, row: Process) -> dict[str, str]:
        return {**os.environ, **row.env, **self._settings}

    def run(self, *argv: str, without: str = "") -> subprocess.CompletedProcess[str]:
        command = [self._rows["pharmacy"].argv[0], "-m", "services.pharmacy", *argv]
        env = self.env(self._rows["pharmacy"])
        env.pop(without, None)
        return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=60, check=False)

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text()

    # --- people

    def call(self, who: str, method: str, path: str, body: Any = None) -> requests.Response:
        role, _, subject = who.partition(":")
        now = int(time.time())
        claims = {"iss": table.JWT_ISSUER, "aud": "fuzhen", "sub": subject, "roles": [role], "iat": now, "jti": "j"}
        token = jwt.encode({**claims, "exp": now + 60}, self._key, algorithm="ES256", headers={"kid": "test"})
        return requests.request(
            method, f"{self._rows['pharmacy'].url}/api/pharmacy{path}", json=body, timeout=10,
            headers={"Authorization": f"Bearer {token}", "Idempotency-Key": uuid.uuid4().hex},
        )  # fmt: skip

    def courier(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self._rows['courier'].url}/sandbox{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    # --- other services

    def tell(self, *told: tuple[str, str, dict[str, Any]]) -> None:
        """(topic, wire name, data): each event is produced twice, as a relay that was killed does."""
        asyncio.run(self._tell(told))

    async def _tell(self, told: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        producer = make_producer(self.parts.kafka)
        await producer.start()
        try:
            for topic, wire, data in told:
                event = Envelope(
                    id=f"{wire}-{uuid.uuid4().hex}/1", source="/services/test", type=f"org.fuzhen.{wire}.v1",
                    subject="x", time=rfc3339(datetime.now(UTC)), partitionkey=data["visit_id"], sequence=sequence(1),
                    data=data,
                )  # fmt: skip
                contracts().validate(event, topic)
                for _ in range(2):
                    await producer.send_and_wait(topic, event.to_bytes(), key=event.partitionkey.encode())
        finally:
            await producer.stop()

    def published(self, visit_id: str = "") -> list[Envelope]:
        """What stands on the pharmacy's topics, of one visit or of all."""
        events = [Envelope.parse(raw) for raw in asyncio.run(self._read())]
        return [event for event in events if visit_id in ("", event.partitionkey)]

    async def _read(self) -> list[bytes]:
        reader = Reader(self.parts.kafka)
        await reader.start()
        try:
            places = [TopicPartition(topic, number) for topic in TOPICS for number in range(12)]
            beginnings, ends = await reader.beginnings(places), await reader.ends(places)
            ranges = {place: (beginnings[place], ends[place]) for place in places}
            return [record.value or b"" async for _, records in reader.read(ranges) for record in records]
        finally:
            await reader.stop()

    def heard(self, visit_id: str, name: str, count: int = 1) -> list[Envelope]:
        """The events of that name, one per id, once there are `count`."""

        def found() -> list[Envelope]:
            events = {event.id: event for event in self.published(visit_id) if event.name == name}
            return list(events.values()) if len(events) >= count else []

        return until(found, f"{count} {name} of {visit_id}")

    # --- scenes

    def accepted(self) -> str:
        visit_id = f"v{uuid.uuid4().hex[:10]}"
        booked = {
            "visit_id": visit_id, "order_id": f"fee-{visit_id}", "patient_id": f"p-{visit_id}", "account_id": "a1",
            "doctor_id": "d1", "department_id": "dep", "session_id": "s1", "slot_id": "sl1", "day": "2026-11-24",
            "starts_at": "2026-11-24T01:30:00Z", "card_kind": "beijing_insured", "fee_fen": 5000,
        }  # fmt: skip
        accepted = {"visit_id": visit_id, "doctor_id": "d1", "accepted_at": "2026-11-24T01:31:00Z"}
        self.tell(
            ("consult.consult.v1", "consult.ConsultAccepted", accepted),
            ("registration.visit.v1", "registration.VisitBooked", booked),
        )
        return visit_id

    def signed(self, visit_id: str) -> str:
        def sign() -> requests.Response | None:
            answer = self.call(DOCTOR, "POST", f"/visits/{visit_id}/prescriptions", SHEET)
            return answer if answer.status_code == 201 else None

        prescription_id: str = until(sign, "the pharmacy to know the visit").json()["prescription_id"]
        return prescription_id

    def issued(self, visit_id: str) -> str:
        prescription_id = self.signed(visit_id)
        answer = self.call(PHARMACIST, "POST", f"/prescriptions/{prescription_id}/review", {"outcome": "pass"})
        assert answer.json()["state"] == "issued"
        return prescription_id

    def chosen(self, prescription_id: str) -> None:
        answer = self.call("patient:a1", "POST", f"/prescriptions/{prescription_id}/delivery", ADDRESS)
        assert answer.status_code == 200

    def captured(self, visit_id: str, prescription_id: str, *, late: bool = False) -> tuple[str, str, dict[str, Any]]:
        data = {
            "order_id": f"rx-{prescription_id}", "visit_id": visit_id, "kind": "prescription", "late": late,
            "prescription_id": prescription_id, "amount_fen": 10520, "captured_at": "2026-11-24T03:00:00Z",
            "legs": [{"leg": "cash", "amount_fen": 10520}],
        }  # fmt: skip
        return "payment.order.v1", "payment.PaymentCaptured", data


def issuer(key: Any, port: int) -> ThreadingHTTPServer:
    """Registration's part in this test: its public key."""
    jwk = {**ECAlgorithm.to_jwk(key, as_dict=True), "kid": "test", "use": "sig", "alg": "ES256"}
    body = orjson.dumps({"keys": [jwk]})

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def hospital(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    asyncio.run(apply(parts.kafka, wanted(contracts()), 1))
    found = Hospital(parts, tmp_path_factory.mktemp("pharmacy"))
    try:
        found.start(*PROCESSES)
        yield found
    finally:
        found.stop()


def test_from_the_signature_to_the_door(hospital: Hospital) -> None:  # §20, §21, §24
    visit_id = hospital.accepted()
    rx = hospital.signed(visit_id)
    until(
        lambda: rx in hospital.call(PHARMACIST, "GET", "/review-queue").text, "it in the queue"
    )
    assert hospital.call("patient:a2", "GET", f"/prescriptions/{rx}").status_code == 404
    assert hospital.call(PHARMACIST, "POST", f"/prescriptions/{rx}/review", {"outcome": "pass"}).status_code == 200
    until(
        lambda: rx not in hospital.call(PHARMACIST, "GET", "/review-queue").text, "the queue without it"
    )
    couriers = hospital.call("patient:a1", "GET", "/couriers?to=北京市").json()["couriers"]
    assert [(each["courier"], each["estimated_fee_fen"]) for each in couriers] == [("anda", 1200)]
    hospital.chosen(rx)
    hospital.tell(hospital.captured(visit_id, rx))

    (handed,) = hospital.heard(visit_id, "ParcelHandedOver")
    tracking_no = handed.data["tracking_no"]
    hospital.courier("POST", "/misbehave", {"kind": "double_notice", "target": "collected"})
    hospital.courier("POST", "/misbehave", {"kind": "reorder_notices", "target": "in_transit"})
    hospital.courier("POST", f"/orders/{tracking_no}/advance", {"to": "delivered"})
    (delivered,) = hospital.heard(visit_id, "ParcelDelivered")
    assert delivered.data["courier_fee_fen"] == 1200
    (dispensed,) = hospital.heard(visit_id, "PrescriptionDispensed")
    assert dispensed.data["way"] == "courier"

    parcel = hospital.call("patient:a1", "GET", f"/prescriptions/{rx}/parcel").json()
    assert (parcel["state"], parcel["courier_fee_fen"]) == ("delivered", 1200)
    sheet = hospital.call("patient:a1", "GET", f"/prescriptions/{rx}").json()
    assert (sheet["state"], sheet["amount_fen"]) == ("dispensed", 10520)  # the courier's fee is not in it
    assert hospital.call("his:service:his", "GET", f"/internal/prescriptions/{rx}").json()["may_settle"] is False

    assert len(hospital.heard(visit_id, "CourierDispatchDue")) == 1
    assert len(hospital.courier("GET", f"/orders?client_order_no={rx}")["orders"]) == 1


def test_nothing_personal_leaves_the_pharmacy(hospital: Hospital) -> None:  # §31
    visit_id = hospital.accepted()
    hospital.chosen(hospital.issued(visit_id))
    hospital.heard(visit_id, "DeliveryChosen")
    secrets_of_the_patient = [ADDRESS["recipient"], ADDRESS["phone"], "海淀", SHEET["diagnosis"], "苏黄", "3粒"]
    on_kafka = b"".join(event.to_bytes() for event in hospital.published()).decode()
    logged = "".join(hospital.log(name) for name in PROCESSES)
    with MongoClient(hospital.parts.mongo_url) as mongo:
        stored = "".join(
            str(document)
            for collection in ("commits", "prescriptions", "deadlines")
            for document in mongo[f"{hospital.database}_pharmacy"][collection].find()
        )
    for place in (on_kafka, logged, stored):
        assert [secret for secret in secrets_of_the_patient if secret in place] == []


def test_the_doctors_key_is_kept_sealed_and_signs_again_after_a_restart(hospital: Hospital) -> None:  # §24
    visit_id = hospital.accepted()
    first = hospital.issued(visit_id)
    hospital.kill("pharmacy")
    hospital.start("pharmacy")
    second = hospital.issued(visit_id)
    keys = {
        hospital.call(DOCTOR, "GET", f"/prescriptions/{rx}").json()["signature"]["key_id"] for rx in (first, second)
    }
    assert len(keys) == 1
    with MongoClient(hospital.parts.mongo_url) as mongo:
        (row,) = mongo[f"{hospital.database}_pharmacy"]["signing_keys"].find({"_id": "doctor:d1"})
    assert set(row) == {"_id", "certificate", "sealed"}


def test_an_order_whose_answer_was_lost_is_one_parcel(hospital: Hospital) -> None:  # design rule 8
    visit_id = hospital.accepted()
    rx = hospital.issued(visit_id)
    hospital.chosen(rx)
    hospital.courier("POST", "/misbehave", {"kind": "timeout_after_effect", "target": "/orders"})
    hospital.courier("POST", "/misbehave", {"kind": "error_500", "target": "/orders", "times": 3})
    hospital.tell(hospital.captured(visit_id, rx))
    (handed,) = hospital.heard(visit_id, "ParcelHandedOver")
    (order,) = hospital.courier("GET", f"/orders?client_order_no={rx}")["orders"]
    assert order["tracking_no"] == handed.data["tracking_no"]


def test_killed_at_work_it_hands_every_parcel_over_once(hospital: Hospital) -> None:  # design rules 4 and 11
    visits = {}
    for _ in range(8):
        visit_id = hospital.accepted()
        visits[visit_id] = hospital.issued(visit_id)
        hospital.chosen(visits[visit_id])
    hospital.tell(*(hospital.captured(visit_id, rx) for visit_id, rx in visits.items()))
    first = next(iter(visits))
    hospital.heard(first, "CourierDispatchDue")
    hospital.kill("pharmacy.worker", "pharmacy.dispatch")
    hospital.start("pharmacy.worker", "pharmacy.dispatch")
    for visit_id, rx in visits.items():
        assert len(hospital.heard(visit_id, "ParcelHandedOver")) == 1
        assert len(hospital.courier("GET", f"/orders?client_order_no={rx}")["orders"]) == 1
        assert len(hospital.heard(visit_id, "CourierDispatchDue")) == 1


def test_a_withdrawn_visit_voids_what_is_unpaid(hospital: Hospital) -> None:  # §19
    visit_id = hospital.accepted()
    rx = hospital.issued(visit_id)
    data = {"visit_id": visit_id, "slot_id": "sl1", "reason": "declined"}
    hospital.tell(("registration.visit.v1", "registration.VisitWithdrawn", data))
    (voided,) = hospital.heard(visit_id, "PrescriptionVoided")
    assert voided.data == {"prescription_id": rx, "visit_id": visit_id, "reason": "withdrawn"}
    assert hospital.call(DOCTOR, "POST", f"/visits/{visit_id}/prescriptions", SHEET).json()["code"] == "consult_over"


def test_settled_at_the_desk_it_never_goes_to_the_courier(hospital: Hospital) -> None:  # §22, §23
    visit_id = hospital.accepted()
    rx = hospital.issued(visit_id)
    assert hospital.call("his:service:his", "GET", f"/internal/prescriptions/{rx}").json()["may_settle"] is True
    hospital.chosen(rx)
    settled = {
        "order_id": f"rx-{rx}", "visit_id": visit_id, "prescription_id": rx, "settlement_id": "s1",
        "amount_fen": 10520, "legs": [{"leg": "fund", "amount_fen": 10520}], "settled_at": "2026-11-24T05:00:00Z",
    }  # fmt: skip
    hospital.tell(("payment.order.v1", "payment.OrderSettledOffline", settled), hospital.captured(visit_id, rx))
    (dispensed,) = hospital.heard(visit_id, "PrescriptionDispensed")
    assert dispensed.data["way"] == "desk"
    # Another one of the same visit has gone the whole way since, so this one had its turn too.
    other = hospital.issued(visit_id)
    hospital.chosen(other)
    hospital.tell(hospital.captured(visit_id, other))
    hospital.heard(visit_id, "ParcelHandedOver")
    assert [event.data["prescription_id"] for event in hospital.heard(visit_id, "CourierDispatchDue")] == [other]


def test_nothing_was_left_to_derive(hospital: Hospital) -> None:  # design rule 4
    found = hospital.run("reconcile", "dispatch")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 outputs missing" in found.stdout


def test_time_passes_a_silent_courier_is_asked_and_what_was_never_reviewed_expires(hospital: Hospital) -> None:  # §23
    visit_id = hospital.accepted()
    rx, forgotten = hospital.issued(visit_id), hospital.signed(visit_id)
    hospital.chosen(rx)
    hospital.tell(hospital.captured(visit_id, rx))
    (handed,) = hospital.heard(visit_id, "ParcelHandedOver")
    hospital.courier("POST", "/misbehave", {"kind": "drop_notice", "target": "delivered"})
    hospital.courier("POST", f"/orders/{handed.data['tracking_no']}/advance", {"to": "delivered"})
    hospital.heard(visit_id, "ParcelMoved", 3)
    hospital.clock.advance(timedelta(hours=6))
    hospital.heard(visit_id, "ParcelDelivered")

    hospital.clock.advance(timedelta(hours=65))
    review = hospital.call(PHARMACIST, "POST", f"/prescriptions/{forgotten}/review", {"outcome": "refuse"})
    assert review.json()["code"] == "reason_missing"  # still within its three days
    hospital.clock.advance(timedelta(hours=1))
    (expired,) = hospital.heard(visit_id, "PrescriptionExpired")
    assert expired.data["prescription_id"] == forgotten
    review = hospital.call(PHARMACIST, "POST", f"/prescriptions/{forgotten}/review", {"outcome": "pass"})
    assert review.json()["code"] == "prescription_expired"


def test_a_missing_setting_ends_the_start_with_its_name(hospital: Hospital) -> None:  # issue 3, 10
    found = hospital.run("worker", without="FUZHEN_COURIER_URL")
    assert found.returncode == 78
    assert "FUZHEN_COURIER_URL" in found.stderr
