"""The payment service as it runs (API, worker, both processors) on real Kafka and MongoDB, with the WeChat Pay and
insurer sandboxes misbehaving: every fen is where all three books say it is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from aiokafka import AIOKafkaConsumer, TopicPartition
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from pymongo import MongoClient

from devstack.fixture import Parts
from devstack.secrets import make
from eventkit.clock import SystemClock, day_end, rfc3339, shanghai_day
from eventkit.contracts import contracts
from eventkit.envelope import Envelope, sequence
from eventkit.relay import make_producer
from eventkit.topics import apply, wanted
from services.payment.handlers import statements_from
from services.payment.wechatpay import trade_number
from tests.integration.partner_process import REPO, PartnerProcess, free_port, wait_for

ISSUER = "https://fuzhen.example"
OUTPUTS = ("payment.order.v1", "payment.refund.v1", "payment.refund-due.v1", "payment.insurance.v1")
SECONDS = 60.0
CARD = {"bank_type": "ICBC_DEBIT", "bank_account": "6222000011112222", "real_name": "张三"}


class Registration:
    """What payment asks of registration: keys, its own token, and the check of §5."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.refused: dict[str, list[dict[str, str]]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = json.loads(ECAlgorithm.to_jwk(outer._key.public_key()))
                self._answer(200, {"keys": [{**key, "kid": "1", "use": "sig", "alg": "ES256"}]})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/tokens"):
                    self._answer(200, {"access_token": outer.token("service:payment", "service"), "expires_in": 900})
                    return
                failed = outer.refused.get(self.path.split("/")[-2])
                if failed is None:
                    self._answer(200, {"assessment_id": "as1"})
                else:
                    self._answer(422, {"code": "not_eligible", "failed": failed})

            def _answer(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, subject: str, role: str) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": "fuzhen", "sub": subject, "roles": [role], "iat": now, "exp": now + 900, "jti": "j"
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "1"})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Process:
    def __init__(self, name: str, arguments: list[str], env: dict[str, str], port: int, folder: Path) -> None:
        self._arguments, self._port, self._log = arguments, port, folder / f"{name}.log"
        data = folder / "processes" / name
        data.mkdir(parents=True)
        self._env = {**env, "FUZHEN_PORT": str(port), "FUZHEN_DATA": str(data)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        command = [sys.executable, "-m", "services.payment", *self._arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=REPO, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._ready, SECONDS)
        return self

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(self._log.read_text()[-3000:])
        try:
            return requests.get(f"http://127.0.0.1:{self._port}/health/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Payment:
    def __init__(self, parts: Parts, folder: Path) -> None:
        make(folder / "secrets")
        self._kafka = parts.kafka
        self.registration = Registration()
        self.wechatpay = PartnerProcess("wechatpay", folder).start()
        self.insurer = PartnerProcess("insurer", folder).start()
        self.clock = SystemClock(folder / "clock")
        prefix = f"pay_{uuid.uuid4().hex[:8]}"
        self._mongo: MongoClient[dict[str, Any]] = MongoClient(parts.mongo_url, tz_aware=True)
        self._database = f"{prefix}_payment"
        ports = {name: free_port() for name in ("api", "worker", "refunds", "insurance")}
        self.url = f"http://127.0.0.1:{ports['api']}"
        self.env = {
            **os.environ,
            "FUZHEN_SERVICE": "payment",
            "FUZHEN_MONGO_URL": parts.mongo_url,
            "FUZHEN_DB_PREFIX": prefix,
            "FUZHEN_KAFKA": parts.kafka,
            "FUZHEN_CLOCK_FILE": str(folder / "clock"),
            "FUZHEN_SECRETS": str(folder / "secrets"),
            "FUZHEN_MASTER_KEY_FILE": str(folder / "secrets" / "master_key"),
            "FUZHEN_CLIENT_SECRET_FILE": str(folder / "secrets" / "clients" / "payment"),
            "FUZHEN_JWKS_URL": f"{self.registration.url}/jwks.json",
            "FUZHEN_TOKEN_URL": f"{self.registration.url}/tokens",
            "FUZHEN_REGISTRATION_URL": self.registration.url,
            "FUZHEN_WECHATPAY_URL": self.wechatpay.url,
            "FUZHEN_INSURER_URL": self.insurer.url,
            "FUZHEN_PUBLIC_URL": self.url,
        }
        asyncio.run(apply(parts.kafka, wanted(contracts()), 1))
        self.processes = {
            name: Process(name, arguments, self.env, ports[name], folder)
            for name, arguments in {
                "api": ["api"], "worker": ["worker"],
                "refunds": ["streams", "refunds"], "insurance": ["streams", "insurance"],
            }.items()
        }
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Process.start, self.processes.values()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
        self.wechatpay.stop()
        self.insurer.stop()
        self.registration.close()
        self._mongo.drop_database(self._database)
        self._mongo.close()

    def tell(self, context: str, name: str, topic: str, stream: str, visit_id: str, version: int, **data: Any) -> None:
        """What another service or the HIS tells over Kafka."""
        envelope = Envelope(
            id=f"{stream}/{version}", source=f"/services/{context}", type=f"org.fuzhen.{context}.{name}.v1",
            subject=stream.partition("-")[2], time=rfc3339(self.clock.now()), partitionkey=visit_id,
            sequence=sequence(version), data={"visit_id": visit_id, **data},
        )
        contracts().validate(envelope, topic)
        asyncio.run(self._produce(topic, envelope))

    async def _produce(self, topic: str, envelope: Envelope) -> None:
        producer = make_producer(self._kafka)
        await producer.start()
        try:
            await producer.send_and_wait(topic, envelope.to_bytes(), key=envelope.partitionkey.encode())
        finally:
            await producer.stop()

    def told(self, visit_id: str) -> list[Envelope]:
        """What stands on payment's topics about a visit, topic by topic."""
        return asyncio.run(self._read(visit_id))

    async def _read(self, visit_id: str) -> list[Envelope]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka, auto_offset_reset="earliest")
        await consumer.start()
        found = []
        try:
            for topic in OUTPUTS:
                places = [TopicPartition(topic, partition) for partition in range(12)]
                ends = await consumer.end_offsets(places)
                consumer.assign([place for place in places if ends[place]])
                await consumer.seek_to_beginning()
                while any([await consumer.position(place) < ends[place] for place in consumer.assignment()]):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        events = (Envelope.parse(record.value) for record in records)
                        found += [event for event in events if event.partitionkey == visit_id]
        finally:
            await consumer.stop()
        return found

    def get(self, path: str, subject: str, role: str = "patient") -> Any:
        headers = {"Authorization": f"Bearer {self.registration.token(subject, role)}"}
        return requests.get(f"{self.url}/api/payment{path}", headers=headers, timeout=10)

    def post(self, path: str, body: Any, subject: str, role: str = "patient", key: str = "") -> Any:
        headers = {
            "Authorization": f"Bearer {self.registration.token(subject, role)}",
            "Idempotency-Key": key or uuid.uuid4().hex,
        }
        return requests.post(f"{self.url}/api/payment{path}", json=body, headers=headers, timeout=10)

    def advance(self, **step: float) -> None:
        self.clock.advance(timedelta(**step))


class Visit:
    """One visit of 50.00 with one patient, told to payment as registration tells it."""

    def __init__(self, payment: Payment, card_kind: str = "beijing_insured") -> None:
        self._payment = payment
        self.id = uuid.uuid4().hex
        self.account = f"a-{self.id}"
        self.fee, self.rx = f"fee-{self.id}", f"rx-{self.id}"
        payment.tell(
            "registration", "VisitRequested", "registration.visit.v1", f"visit-{self.id}", self.id, 1,
            patient_id="pt1", account_id=self.account, doctor_id="d1", department_id="dp1", session_id="se1",
            slot_id="sl1", day="2026-11-24", starts_at=rfc3339(payment.clock.now()), entrance="app",
            card_id=f"card-{self.id}", card_kind=card_kind, title="ordinary", fee_fen=5000, assessment_id="as1",
            hold_until=rfc3339(payment.clock.now() + timedelta(minutes=15)),
        )
        self.until(self.fee, "awaiting_payment")

    def issue(self) -> None:
        now = self._payment.clock.now()
        self._payment.tell(
            "pharmacy", "PrescriptionIssued", "pharmacy.prescription.v1", f"prescription-{self.id}", self.id, 3,
            prescription_id=self.id, patient_id="pt1", account_id=self.account, doctor_id="d1", pharmacist_id="ph1",
            kind="western", card_kind="beijing_insured", amount_fen=8000, signed_at=rfc3339(now),
            valid_until=rfc3339(now + timedelta(days=3)),
        )
        self.until(self.rx, "awaiting_payment")

    def order(self, order_id: str) -> dict[str, Any]:
        answer = self._payment.get(f"/orders/{order_id}", self.account)
        found: dict[str, Any] = answer.json() if answer.ok else {}
        return found

    def until(self, order_id: str, state: str) -> None:
        wait_for(lambda: self.order(order_id).get("state") == state, SECONDS)

    def prepay(self, order_id: str, key: str = "") -> Any:
        return self._payment.post(f"/orders/{order_id}/prepay", {"channel": "jsapi"}, self.account, key=key)

    def confirm(self, prepaid: dict[str, Any]) -> Any:
        """The patient confirms on the phone, which checks the merchant's signature."""
        return self._payment.wechatpay.post("/sandbox/pay", prepaid["phone"])

    def pay(self, order_id: str) -> None:
        prepaid = self.prepay(order_id)
        assert prepaid.status_code == 200, prepaid.text
        assert self.confirm(prepaid.json()).status_code == 200
        self.until(order_id, "paid")

    def withdraw(self, reason: str = "missed") -> None:
        self._payment.tell(
            "registration", "VisitWithdrawn", "registration.visit.v1", f"visit-{self.id}", self.id, 2, slot_id="sl1",
            reason=reason,
        )

    def finish(self) -> None:
        self._payment.tell(
            "consult", "ConsultFinished", "consult.consult.v1", f"consult-{self.id}", self.id, 3, doctor_id="d1",
            patient_id="pt1", finished_at=rfc3339(self._payment.clock.now()),
        )

    def refund(self, order_id: str) -> dict[str, Any]:
        answer = self._payment.get(f"/visits/{self.id}/refunds", self.account).json()
        return next((refund for refund in answer["refunds"] if refund["order_id"] == order_id), {"state": "none"})

    def until_refund(self, order_id: str, state: str) -> dict[str, Any]:
        wait_for(lambda: self.refund(order_id)["state"] == state, SECONDS)
        return self.refund(order_id)

    def until_told(self, *names: str) -> list[Envelope]:
        """Waits for these events about the visit, each of which stands on its topic exactly once, and no other."""
        wait_for(lambda: {event.name for event in self._payment.told(self.id)} >= set(names), SECONDS)
        found = self._payment.told(self.id)
        assert sorted(event.name for event in found) == sorted(names)
        return found

    def sums(self) -> tuple[int, int, int, int]:
        """(paid, refunded, earned, held) in fen, of this visit."""
        ledger = self._payment.get(f"/ledger?visit_id={self.id}", "cashier1", "cashier").json()
        totals = ledger["totals"]
        return totals["paid_fen"], totals["refunded_fen"], totals["earned_fen"], totals["held_fen"]

    def until_sums(self, *sums: int) -> None:
        wait_for(lambda: self.sums() == sums, SECONDS)


@pytest.fixture(scope="module")
def payment(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payment]:
    payment = Payment(parts, tmp_path_factory.mktemp("payment"))
    yield payment
    payment.close()


@pytest.fixture(autouse=True)
def all_books_agree(payment: Payment) -> Iterator[None]:
    """After each test: ours, the provider's and the insurer's."""
    yield

    def gap() -> dict[str, tuple[int, int]]:
        ours = payment.get("/ledger", "cashier1", "cashier").json()["by_leg"]
        cash = payment.wechatpay.get("/sandbox/books")["totals"]
        insured = payment.insurer.get("/sandbox/books")["totals"]
        pairs = {
            "paid": (ours["cash"]["paid_fen"], cash["paid_fen"]),
            "refunded": (ours["cash"]["refunded_fen"], cash["refunded_fen"]),
            "claimed": (ours["fund"]["paid_fen"], insured["claimed_fund_fen"]),
            "reversed": (ours["fund"]["refunded_fen"], insured["reversed_fund_fen"]),
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    wait_for(lambda: not gap(), SECONDS)


def test_paid_told_twice_missed_and_refunded_through_errors(payment: Payment) -> None:
    """§12, §13, §16, §18: 50.00 = 40.00 + 10.00, and back, with 500s of the provider and a silent insurer."""
    visit = Visit(payment)
    payment.wechatpay.misbehave("double_notice", target=trade_number(visit.fee))
    visit.pay(visit.fee)
    visit.until_sums(5000, 0, 0, 5000)
    payment.wechatpay.misbehave("error_500", target=f"rf-{visit.fee}", times=3)
    payment.insurer.misbehave("timeout_after_effect", target="/reversals")
    visit.withdraw("missed")
    refund = visit.until_refund(visit.fee, "succeeded")
    assert [(leg["leg"], leg["amount_fen"], leg["state"]) for leg in refund["legs"]] == [
        ("fund", 4000, "succeeded"), ("cash", 1000, "succeeded")
    ]
    told = visit.until_told(
        "PaymentRequested", "FeeDecomposed", "PaymentCaptured", "RefundDue", "RefundRequested", "RefundSucceeded",
        "DecompositionReversed",
    )
    for event in told:
        contracts().validate(event)
    visit.until_sums(5000, 5000, 0, 0)


def test_finished_is_earned(payment: Payment) -> None:
    visit = Visit(payment, "uninsured")
    visit.pay(visit.fee)
    visit.finish()
    visit.until_sums(5000, 0, 5000, 0)


def test_charge_then_timeout(payment: Payment) -> None:
    """The prepay is never answered, but the money was taken: the same command again finds it."""
    visit = Visit(payment)
    payment.wechatpay.misbehave("drop_notice", target=trade_number(visit.fee))
    payment.wechatpay.misbehave("charge_then_timeout", target=trade_number(visit.fee), seconds=0)
    assert visit.prepay(visit.fee, "k").json()["code"] == "partner_unavailable"
    assert visit.prepay(visit.fee, "k").json()["state"] in ("confirming", "paid")
    visit.until(visit.fee, "paid")


def test_a_payment_that_nobody_tells_is_asked_for(payment: Payment) -> None:
    visit = Visit(payment)
    payment.wechatpay.misbehave("drop_notice", target=trade_number(visit.fee))
    prepaid = visit.prepay(visit.fee).json()
    assert visit.confirm(prepaid).status_code == 200
    payment.advance(seconds=20)
    visit.until(visit.fee, "paid")


def test_late_capture_after_close_goes_back(payment: Payment) -> None:
    """§10, §16: the cash alone; the fund was never asked."""
    visit = Visit(payment)
    prepaid = visit.prepay(visit.fee).json()
    payment.advance(minutes=15)
    visit.until(visit.fee, "expired")
    assert visit.prepay(visit.fee).json()["code"] == "payment_expired"
    assert visit.confirm(prepaid).status_code == 409
    payment.wechatpay.misbehave("capture_after_close", target=trade_number(visit.fee))
    assert visit.confirm(prepaid).status_code == 200
    refund = visit.until_refund(visit.fee, "succeeded")
    assert (refund["reason"], refund["amount_fen"], visit.order(visit.fee)["late"]) == ("expired", 1000, True)
    visit.until_told(
        "PaymentRequested", "FeeDecomposed", "PaymentExpired", "PaymentCaptured", "RefundDue", "RefundRequested",
        "RefundSucceeded",
    )


def test_the_notice_of_the_refund_comes_before_that_of_the_payment(payment: Payment) -> None:
    visit = Visit(payment)
    payment.wechatpay.misbehave("reorder_notices", target=trade_number(visit.fee))
    assert visit.confirm(visit.prepay(visit.fee).json()).status_code == 200
    payment.advance(seconds=20)  # asked for, since the notice is held back
    visit.until(visit.fee, "paid")
    visit.withdraw("declined")
    visit.until_refund(visit.fee, "succeeded")
    number = trade_number(visit.fee)

    def notices() -> list[str]:
        return [row["state"] for row in payment.wechatpay.get("/sandbox/notices") if row["subject"] == number]

    payment.advance(seconds=5)
    wait_for(lambda: notices() == ["accepted", "accepted"], SECONDS)
    assert visit.order(visit.fee)["state"] == "paid"


def test_a_forged_notice_is_refused_and_the_true_one_accepted(payment: Payment) -> None:
    visit = Visit(payment)
    payment.wechatpay.misbehave("signtest_notice", target=trade_number(visit.fee))
    visit.pay(visit.fee)
    [row] = [r for r in payment.wechatpay.get("/sandbox/notices") if r["subject"] == trade_number(visit.fee)]
    assert [answer["status"] for answer in row["answers"]][:1] == [401]
    answer = requests.post(f"{payment.url}/api/payment/notices/wechatpay", json={"resource": {}}, timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authentic")


def test_refunds_that_wait_for_a_person(payment: Payment) -> None:
    """§16: refused at first (the merchant's account is empty), then the patient's account takes nothing."""
    visit = Visit(payment)
    visit.pay(visit.fee)
    payment.wechatpay.misbehave("refund_fails", target=f"rf-{visit.fee}", reason="NOT_ENOUGH")
    payment.wechatpay.misbehave("refund_fails", target=f"rf-{visit.fee}")
    visit.withdraw("patient")
    visit.until_refund(visit.fee, "stuck")

    def stuck() -> list[str]:
        rows = payment.get("/stuck-refunds", "cashier1", "cashier").json()["refunds"]
        return [failed["code"] for row in rows if row["order_id"] == visit.fee for failed in row["failed"]]

    wait_for(lambda: stuck() == ["NOT_ENOUGH"], SECONDS)
    retry = f"/refunds/rf-{visit.fee}/retry"
    assert payment.post(retry, {}, "cashier1", "cashier").status_code == 200
    wait_for(lambda: (payment.advance(seconds=1), stuck())[1] == ["ABNORMAL"], SECONDS)
    assert payment.post(retry, {}, "cashier1", "cashier").json()["code"] == "bank_card_needed"
    assert payment.post(retry, {"bank_card": CARD}, "cashier1", "cashier").status_code == 200
    wait_for(lambda: (payment.advance(seconds=1), visit.refund(visit.fee)["state"])[1] == "succeeded", SECONDS)
    assert stuck() == []


def test_the_desk_settles_a_prescription(payment: Payment) -> None:
    """§22, §23: one way only; the trade is closed at the provider, and what still comes goes back."""
    visit = Visit(payment, "uninsured")
    visit.issue()
    prepaid = visit.prepay(visit.rx).json()
    payment.tell(
        "his", "PrescriptionSettled", "his.settlement.v1", f"his-settlement-{visit.id}", visit.id, 1,
        settlement_id=f"hs-{visit.id}", prescription_id=visit.id, amount_fen=8000,
        legs=[{"leg": "fund", "amount_fen": 6000}, {"leg": "cash", "amount_fen": 2000}],
        settled_at=rfc3339(payment.clock.now()),
    )
    visit.until(visit.rx, "settled_offline")
    number = trade_number(visit.rx)

    def trade() -> str:
        trades = payment.wechatpay.get("/sandbox/books")["trades"]
        return next(row["state"] for row in trades if row["out_trade_no"] == number)

    wait_for(lambda: trade() == "CLOSED", SECONDS)
    payment.wechatpay.misbehave("capture_after_close", target=number)
    assert visit.confirm(prepaid).status_code == 200
    assert visit.until_refund(visit.rx, "succeeded")["reason"] == "settled_offline"
    names = {event.name for event in payment.told(visit.id)}
    assert {"OfflineSettlementOpened", "OfflineSettlementClosed", "OrderSettledOffline"} <= names


def test_not_eligible_any_more(payment: Payment) -> None:
    """§5"""
    visit = Visit(payment)
    payment.registration.refused[visit.id] = [{"code": "no_recent_visit"}]
    answer = visit.prepay(visit.fee)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_eligible")
    assert answer.json()["failed"] == [{"code": "no_recent_visit"}]


def test_a_killed_worker_and_processor_lose_and_double_nothing(payment: Payment) -> None:
    visits = [Visit(payment) for _ in range(3)]
    for visit in visits:
        visit.pay(visit.fee)
    payment.insurer.misbehave("timeout_after_effect", target="/reversals", times=2)
    for visit in visits:
        visit.withdraw("session_cancelled")
    for name in ("worker", "refunds"):
        payment.processes[name].kill()
    for name in ("worker", "refunds"):
        payment.processes[name].start()
    for visit in visits:
        visit.until_refund(visit.fee, "succeeded")
    due = [event.data["order_id"] for visit in visits for event in payment.told(visit.id) if event.name == "RefundDue"]
    assert set(due) == {visit.fee for visit in visits}
    done = [event for visit in visits for event in payment.told(visit.id) if event.name == "RefundSucceeded"]
    assert len({event.id for event in done}) == len(visits)


def test_paid_drugs_whose_prescription_is_voided(payment: Payment) -> None:
    """§16, §24"""
    visit = Visit(payment, "uninsured")
    visit.issue()
    visit.pay(visit.rx)
    payment.tell(
        "pharmacy", "PrescriptionVoided", "pharmacy.prescription.v1", f"prescription-{visit.id}", visit.id, 4,
        prescription_id=visit.id, reason="withdrawn",
    )
    assert visit.until_refund(visit.rx, "succeeded")["reason"] == "voided"


def test_every_day_is_compared_with_both_statements(payment: Payment) -> None:
    """§16: all of the tests above, whatever misbehaved, and a payment that nobody ever tells of; in the evening,
    so that the last look at its trade, after 25 hours, comes after the statement."""
    before = shanghai_day(payment.clock.now())
    payment.clock.move_to(day_end(before) + timedelta(hours=20))
    visit = Visit(payment)
    visit.pay(visit.fee)
    lost = Visit(payment)
    prepaid = lost.prepay(lost.fee).json()
    payment.advance(minutes=15)
    lost.until(lost.fee, "expired")
    for kind in ("drop_notice", "capture_after_close"):
        payment.wechatpay.misbehave(kind, target=trade_number(lost.fee))
    assert lost.confirm(prepaid).status_code == 200
    day = shanghai_day(payment.clock.now())
    payment.clock.move_to(statements_from(day))

    def report() -> dict[str, Any]:
        answer = payment.get(f"/reconciliations/{day}", "cashier1", "cashier")
        return dict(answer.json()) if answer.ok else {}

    wait_for(report, SECONDS)
    wait_for(lambda: all(each["state"] == "cured" for each in report()["differences"]), SECONDS)
    found = report()
    assert ("only_theirs", lost.fee) in [(each["kind"], each["number"]) for each in found["differences"]]
    assert {(line["party"], line["what"]) for line in found["stated"]} >= {
        ("wechatpay", "payment"), ("insurer", "payment")
    }
    lost.until_refund(lost.fee, "succeeded")
    assert payment.get(f"/reconciliations/{before}", "cashier1", "cashier").json()["stated"]
    [summary] = payment.get(f"/reconciliations?day={day}", "cashier1", "cashier").json()["reconciliations"]
    assert (summary["open"], summary["agreed"] > 0) == (0, True)


@pytest.mark.parametrize("processor", ["refunds", "insurance"])
def test_the_reconciler_misses_nothing(payment: Payment, processor: str) -> None:
    command = [sys.executable, "-m", "services.payment", "reconcile", processor]
    ended = subprocess.run(command, check=False, cwd=REPO, env=payment.env, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, "0 outputs missing" in ended.stdout) == (0, True), ended.stdout + ended.stderr

