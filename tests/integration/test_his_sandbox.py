"""The hospital's own system as our services meet it: real-name matching, cards, visits, the desk, and its topics."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from eventkit.clock import shanghai_day
from eventkit.contracts import contracts
from eventkit.envelope import Envelope, sequence
from eventkit.ids import new_id
from eventkit.topics import apply, wanted
from partners.his.identity import check_digit, read_id_number
from partners.his.kafka import GROUP, TOPICS
from tests.integration.partner_process import wait_for
from tests.integration.signed_partner import Partner, running

NO_KAFKA = "127.0.0.1:9"
LEGS = [{"leg": "fund", "amount_fen": 7000}, {"leg": "cash", "amount_fen": 1560}]


class InternetHospital:
    """Our token and prescription operations, as far as the HIS uses them."""

    def __init__(self) -> None:
        self.prescriptions: dict[str, dict[str, Any]] = {}
        self.grants: list[dict[str, str]] = []
        hospital = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hospital.grants.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(200, {"access_token": "t", "expires_in": 900, "roles": ["his"], "subject": "service:his"})

            def do_GET(self) -> None:
                assert self.headers["Authorization"] == "Bearer t"
                found = hospital.prescriptions.get(self.path.removeprefix("/api/pharmacy/internal/prescriptions/"))
                self.answer(200 if found else 404, found or {"code": "not_found"})

            def answer(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hospital() -> Iterator[InternetHospital]:
    server = InternetHospital()
    yield server
    server.close()


def settings(folder: Path, hospital: InternetHospital, kafka: str) -> dict[str, str]:
    (folder / "his-client").write_text("the secret of the HIS")
    return {
        "FUZHEN_KAFKA": kafka,
        "FUZHEN_TOKEN_URL": f"{hospital.url}/api/registration/tokens",
        "FUZHEN_PHARMACY_URL": hospital.url,
        "FUZHEN_CLIENT_SECRET_FILE": str(folder / "his-client"),
    }


@pytest.fixture
def his(tmp_path: Path, hospital: InternetHospital) -> Iterator[Partner]:
    """Without Kafka: the desks must work all the same."""
    with running("his", tmp_path, **settings(tmp_path, hospital, NO_KAFKA)) as partner:
        yield partner


def sample(his: Partner, name: str) -> dict[str, Any]:
    return next(person for person in his.hand("GET", "/people")["people"] if person["name"] == name)


def test_the_sample_people_have_valid_numbers_and_the_ages_the_rules_need(his: Partner) -> None:
    people = {person["name"]: person for person in his.hand("GET", "/people")["people"]}
    today = shanghai_day(datetime.now(UTC))
    for person in people.values():
        born, sex = read_id_number(person["id_number"])
        assert (born.isoformat(), sex) == (person["birth_date"], person["sex"])

    def age(name: str) -> int:
        born = date.fromisoformat(people[name]["birth_date"])
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day))

    assert (age("童五岁"), age("童十二"), age("林复安")) == (5, 12, 58)
    assert (today - date.fromisoformat(people["久未来"]["visits"][0]["visited_on"])).days == 214
    kinds = {card["card_kind"] for person in people.values() for card in person["cards"]}
    assert kinds == {"beijing_insured", "other_insured", "uninsured"}


def test_real_name_matching(his: Partner) -> None:
    person = sample(his, "林复安")
    asked = {"name": "林复安", "id_number": person["id_number"], "phone": "19900000001"}
    assert his.signed("POST", "/patients/match", asked).json() == {
        "his_patient_id": person["his_patient_id"],
        "birth_date": person["birth_date"],
        "sex": "female",
    }
    for wrong in ({"name": "林复"}, {"id_number": sample(his, "石外宁")["id_number"]}):
        answer = his.signed("POST", "/patients/match", {**asked, **wrong})
        assert (answer.status_code, answer.json()["code"]) == (404, "no_match")
    assert requests.post(f"{his.url}/patients/match", json=asked, timeout=5).status_code == 401


def test_a_card_is_known_when_used_here_and_told_of_only_to_its_owner(his: Partner) -> None:
    person, other, new = (sample(his, name) for name in ("林复安", "石外宁", "新初来"))
    card = next(card for card in person["cards"] if card["card_kind"] == "beijing_insured")

    def check(number: str, owner: dict[str, Any], kind: str = "insurance_card") -> Any:
        asked = {"card_no": number, "kind": kind, "his_patient_id": owner["his_patient_id"]}
        return his.signed("POST", "/cards/check", asked).json()

    known = {"known": True, "belongs": True, "card_id": card["card_id"], "card_kind": "beijing_insured"}
    assert check(card["card_no"], person) == known
    assert check(card["card_no"], other) == {"known": True, "belongs": False}
    assert check(card["card_no"], person, "visit_card") == {"known": False, "belongs": False}
    assert check(new["cards"][0]["card_no"], new) == {"known": False, "belongs": False}  # never used here (§8)


def test_visits_since_a_day(his: Partner) -> None:
    person = his.hand("POST", "/people", {"visits": [{"visited_on": "2026-01-05"}, {"visited_on": "2026-06-01"}]})
    path = f"/patients/{person['his_patient_id']}/outpatient-visits"
    assert [v["visited_on"] for v in his.signed("GET", path).json()["records"]] == ["2026-06-01", "2026-01-05"]
    assert len(his.signed("GET", path, since="2026-06-01").json()["records"]) == 1
    assert his.signed("GET", path, since="2026-06-02").json()["records"] == []
    assert his.signed("GET", path, since="yesterday").status_code == 400
    assert his.signed("GET", "/patients/P0/outpatient-visits").status_code == 404


def test_fresh_people_for_the_demo(his: Partner) -> None:
    people = [his.hand("POST", "/people", {"age": 5}) for _ in range(30)]
    assert len({person["id_number"] for person in people}) == 30
    answer = requests.post(f"{his.url}/sandbox/people", json={"id_number": "110100199001010011"}, timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_id_number")
    taken = {"id_number": people[0]["id_number"]}
    assert requests.post(f"{his.url}/sandbox/people", json=taken, timeout=5).status_code == 409


def test_the_check_digit_of_the_standards_own_example() -> None:
    assert check_digit("11010519491231002") == "X"


def test_stock(his: Partner) -> None:
    his.hand("PUT", "/stock/W001", {"on_hand": 12})
    asked = his.signed("GET", "/stock", drug_code="W001").json()
    assert asked == {"stock": [{"drug_code": "W001", "on_hand": 12}]}
    assert his.signed("GET", "/stock", drug_code="no such drug").json() == {"stock": []}


def settle(his: Partner, **changes: Any) -> requests.Response:
    body = {"prescription_id": "p-1", "visit_id": "v-1", "amount_fen": 8560, "legs": LEGS, **changes}
    return requests.post(f"{his.url}/sandbox/desk/settlements", json=body, timeout=10)


def test_the_desk_settles_what_the_doctor_wrote_once(his: Partner, hospital: InternetHospital) -> None:
    assert settle(his).json()["code"] == "no_such_prescription"
    sheet = {"prescription_id": "p-1", "visit_id": "v-1", "amount_fen": 8560}
    hospital.prescriptions["p-1"] = {**sheet, "may_settle": False}
    assert settle(his).json()["code"] == "may_not_settle"
    hospital.prescriptions["p-1"] = {**sheet, "may_settle": True}

    assert settle(his, visit_id="v-2").json()["code"] == "other_prescription"
    assert settle(his, amount_fen=8561).json()["code"] == "legs_do_not_add_up"
    assert settle(his, legs=[{"leg": "cash", "amount_fen": True}]).status_code == 400
    first, again = settle(his), settle(his)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert settle(his, legs=[{"leg": "cash", "amount_fen": 8560}]).json()["code"] == "settled_already"
    assert his.hand("GET", "/books")["settled_fen"] == 8560
    assert hospital.grants == [{"grant": "client", "client_id": "his", "client_secret": "the secret of the HIS"}]


def test_the_desk_hears_when_the_internet_hospital_is_silent(his: Partner, hospital: InternetHospital) -> None:
    hospital.close()
    answer = settle(his)
    assert (answer.status_code, answer.json()["code"]) == (502, "internet_hospital_silent")


def test_what_was_answered_survives_kill_9_and_nothing_is_seeded_twice(his: Partner) -> None:
    person = his.hand("POST", "/people", {})
    his.kill()
    his.start()
    assert person in his.hand("GET", "/people")["people"]
    assert len([p for p in his.hand("GET", "/people")["people"] if p["name"] == "林复安"]) == 1


def test_a_missing_setting_ends_the_start_with_its_name(tmp_path: Path, hospital: InternetHospital) -> None:
    env = Partner("his", tmp_path, **settings(tmp_path, hospital, NO_KAFKA)).env
    del env["FUZHEN_PHARMACY_URL"]
    command = [sys.executable, "-m", "partners.his"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (78, "missing setting FUZHEN_PHARMACY_URL\n")


async def _read(kafka: str, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in range(contracts().topics[topic].partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def _produce(kafka: str, *messages: tuple[str, str, bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for topic, key, value in messages:
        await producer.send_and_wait(topic, value, key.encode())
    await producer.stop()


def told(kafka: str, topic: str) -> list[Envelope]:
    envelopes = [Envelope.parse(record.value) for record in asyncio.run(_read(kafka, topic))]
    for envelope in envelopes:
        contracts().validate(envelope, topic)
    return envelopes


@pytest.fixture
def kafka(parts: Any) -> str:
    asyncio.run(apply(parts.kafka, wanted(contracts()), 1))
    return str(parts.kafka)


def test_the_topic_files_name_the_subscriber() -> None:
    assert set(TOPICS) == {topic.name for topic in contracts().topics.values() if GROUP in topic.readers}


def test_what_happens_at_the_hospital_is_told_by_id_and_kill_9_loses_nothing(
    tmp_path: Path, hospital: InternetHospital, kafka: str
) -> None:
    prescription, visit = new_id(), new_id()
    hospital.prescriptions[prescription] = {"visit_id": visit, "amount_fen": 8560, "may_settle": True}
    with running("his", tmp_path, **settings(tmp_path, hospital, kafka)) as his:
        people = []
        for kill in range(3):
            people += [his.hand("POST", "/people", {"name": f"保密{kill}{n}"}) for n in range(40)]
            if kill == 1:
                settlement = settle(his, prescription_id=prescription, visit_id=visit).json()
            his.kill()
            his.start()
        wait_for(lambda: his.hand("GET", "/books")["outbox"]["waiting"] == 0)

    cards, visits = told(kafka, "his.card.v1"), told(kafka, "his.outpatient-visit.v1")
    assert {p["cards"][0]["card_id"] for p in people} <= {e.data["card_id"] for e in cards}
    assert {p["visits"][0]["record_id"] for p in people} <= {e.data["record_id"] for e in visits}
    assert all(e.partitionkey == e.data["his_patient_id"] for e in visits)
    assert not any("保密" in json.dumps(e.data, ensure_ascii=False) for e in cards + visits)
    reports = [e for e in told(kafka, "his.settlement.v1") if e.partitionkey == visit]
    assert {e.id for e in reports} == {f"his-settlement-{settlement['settlement_id']}/1"}
    assert reports[0].data == settlement


def test_what_we_tell_is_heard_once_and_rubbish_does_not_stop_it(
    tmp_path: Path, hospital: InternetHospital, kafka: str
) -> None:
    visit = new_id()

    def event(context: str, name: str, version: int) -> bytes:
        envelope = Envelope(
            id=f"visit-{visit}/{version}", source=f"/services/{context}", type=f"org.fuzhen.{context}.{name}.v1",
            subject=visit, time="2026-11-23T04:00:00.000Z", partitionkey=visit, sequence=sequence(version),
            data={"visit_id": visit},
        )  # fmt: skip
        return envelope.to_bytes()

    def heard() -> list[str]:
        return [event["type"].split(".")[3] for event in his.hand("GET", f"/visits/{visit}")["events"]]

    requested, booked = event("registration", "VisitRequested", 1), event("registration", "VisitBooked", 2)
    topic = "registration.visit.v1"
    with running("his", tmp_path, **settings(tmp_path, hospital, kafka)) as his:
        asyncio.run(_produce(kafka, (topic, visit, requested), (topic, visit, b"rubbish"), (topic, visit, requested)))
        wait_for(lambda: heard() == ["VisitRequested"], seconds=30)  # members killed before sit in the group for 6 s
        his.kill()
        asyncio.run(_produce(kafka, (topic, visit, booked)))
        his.start()
        wait_for(lambda: heard() == ["VisitRequested", "VisitBooked"], seconds=30)
        assert his.hand("GET", "/books")["counts"]["unreadable"] >= 1
