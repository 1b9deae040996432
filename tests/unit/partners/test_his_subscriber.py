"""The HIS as a reader with asyncapi.yaml alone: a visit's history, told the same after any replay, and its records."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from eventkit.calls import PeerRefused, Unanswered
from eventkit.clock import FixedClock
from eventkit.contracts import contracts
from partners.his import catalogue, http, kafka
from partners.his.book import Book
from partners.his.pharmacy import Pharmacy
from partners.his.records import Records

VISIT = "v7c1d2e3f4a5"
NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
SCHEMA_OF_OLD = (
    "create table heard (position integer primary key autoincrement, source text not null, event_id text not null,"
    " visit_id text not null, type text not null, time text not null, unique (source, event_id))"
)


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """(topic, event) of every example that asyncapi.yaml shows; examples of one stream share an id, events never do."""
    document = yaml.load((catalogue.REPO / "events" / "asyncapi.yaml").read_bytes(), Loader=yaml.CSafeLoader)
    topics = {type_: topic for topic, types in catalogue.types_by_topic().items() for type_ in types}
    for message in document["components"]["messages"].values():
        for number, example in enumerate(message["examples"]):
            event = example["payload"]
            yield topics[message["name"]], {**event, "id": f"{event['type']}-{number}/{event['id']}"}


EXAMPLES = list(examples())
GRANTED = [(topic, event) for topic, event in EXAMPLES if topic in kafka.TOPICS]


def record(topic: str, value: bytes | dict[str, Any]) -> Any:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    return SimpleNamespace(topic=topic, partition=0, offset=7, headers=headers, key=b"k", value=body)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "his.sqlite", FixedClock(NOW))


def test_every_topic_and_type_stands_in_asyncapi_and_only_granted_topics_are_read() -> None:
    known = catalogue.types_by_topic()
    assert known == {topic.name: frozenset(topic.types) for topic in contracts().topics.values() if topic.name in known}
    assert set(kafka.TOPICS) == {
        topic.name for topic in contracts().topics.values() if kafka.GROUP in topic.readers and topic.name in known
    }


def test_a_history_has_times_and_ids_in_order(book: Book) -> None:
    for topic, event in GRANTED:
        kafka.hear(book, record(topic, event))
    visits = {event["data"].get("visit_id") for _, event in GRANTED} - {None}
    kept = {entry["id"]: entry for visit in visits for entry in book.heard_of(visit)}
    assert kept.keys() == {event["id"] for _, event in GRANTED if "visit_id" in event["data"]}
    history = book.heard_of(VISIT)
    assert [entry["time"] for entry in history] == sorted(entry["time"] for entry in history)
    assert len({entry["type"] for entry in history}) > 20
    captured = next(entry for entry in history if entry["type"] == "org.fuzhen.payment.PaymentCaptured.v1")
    assert captured["ids"]["order_id"]
    assert "visit_id" not in captured["ids"]
    assert book.totals()["counts"]["unreadable"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_in_any_order_tells_the_same_story(book: Book, tmp_path: Path, seed: int) -> None:
    for topic, event in GRANTED:
        kafka.hear(book, record(topic, event))
    replays = [*GRANTED, *GRANTED, *GRANTED]
    random.Random(seed).shuffle(replays)
    other = Book(tmp_path / "other.sqlite", FixedClock(NOW))
    for heard in (other, book):
        for topic, event in replays:
            kafka.hear(heard, record(topic, event))
    assert other.heard_of(VISIT) == book.heard_of(VISIT)
    assert other.totals()["counts"]["heard"] == book.totals()["counts"]["heard"]


def test_of_one_instant_a_stream_keeps_its_own_order(book: Book) -> None:
    topic, golden = next((t, e) for t, e in GRANTED if e["type"] == "org.fuzhen.consult.MessagePosted.v1")
    for version in (10, 2, 9):
        event = {**golden, "id": f"conversation-{VISIT}/{version}", "sequence": f"{version:010}"}
        kafka.hear(book, record(topic, event))
    visit = golden["data"]["visit_id"]
    assert [entry["id"].rpartition("/")[2] for entry in book.heard_of(visit)] == ["2", "9", "10"]


def test_rubbish_and_strange_types_are_put_aside(book: Book) -> None:
    topic, golden = GRANTED[0]
    for strange in (b"rubbish", b"", {**golden, "type": "org.fuzhen.consult.Invented.v9"}):
        kafka.hear(book, record(topic, strange))
    assert book.totals()["counts"]["heard"] == 0
    assert [row["topic"] for row in book.books.rows("select topic from unreadable")] == [topic]


def test_books_begun_earlier_go_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as db, db:
        db.execute(SCHEMA_OF_OLD)
        db.execute("insert into heard values (1, 's', 'visit-v1/1', 'v1', 't', '2026-11-24T01:00:00.000Z')")
    for _ in range(2):  # a second start finds the columns there
        assert Book(tmp_path / "old.sqlite", FixedClock(NOW)).heard_of("v1")[0]["ids"] == {}


class FakePeer:
    """The Internet hospital's FHIR API: `known` by path, 404 for the rest, or a failure for all."""

    def __init__(self, known: Mapping[str, Any], failure: Exception | None = None) -> None:
        self.known, self.failure = known, failure
        self.asked: list[tuple[str, dict[str, str]]] = []

    def get(self, path: str, **params: str) -> Any:
        self.asked.append((path, params))
        if self.failure:
            raise self.failure
        if path not in self.known:
            raise PeerRefused(404, {"code": "not_found"})
        return self.known[path]


def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: FakePeer | None) -> FlaskClient:
    monkeypatch.setattr(kafka, "start", lambda book, bootstrap: None)
    pharmacy: Any = SimpleNamespace(spec=Pharmacy)
    anything: Any = peer
    records = Records(anything) if peer else None
    return http.create(tmp_path / "his.sqlite", b"key", "nowhere", pharmacy, records).test_client()


def test_s31_personal_data_is_asked_for_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = {"resourceType": "Invoice", "id": "fee-v1"}
    peer = FakePeer({
        "/api/registration/fhir/Appointment/v1": {"resourceType": "Appointment", "id": "v1"},
        "/api/payment/fhir/Invoice": {"resourceType": "Bundle", "entry": [{"resource": invoice}]},
        "/api/consult/fhir/Communication": {"resourceType": "Bundle", "total": 0},
    })
    client = desk(tmp_path, monkeypatch, peer)
    assert client.get("/sandbox/visits/v1").json == {"visit_id": "v1", "events": []}
    assert peer.asked == []
    answer: Any = client.get("/sandbox/visits/v1?with=fhir").json
    assert answer["fhir"] == {
        "Appointment": [{"resourceType": "Appointment", "id": "v1"}], "Encounter": [], "Communication": [],
        "MedicationRequest": [], "MedicationDispense": [], "Invoice": [invoice], "PaymentReconciliation": [],
    }
    assert ("/api/pharmacy/fhir/MedicationRequest", {"encounter": "v1"}) in peer.asked


@pytest.mark.parametrize(
    ("peer", "query", "status", "code"),
    [
        (FakePeer({}, Unanswered("down")), "fhir", 502, "internet_hospital_silent"),
        (FakePeer({}, PeerRefused(403, {"code": "forbidden"})), "fhir", 502, "internet_hospital_refused"),
        (None, "fhir", 503, "no_internet_hospital"),
        (None, "everything", 400, "bad_request"),
    ],
)
def test_what_cannot_be_asked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: FakePeer | None, query: str, status: int, code: str
) -> None:
    answer: Any = desk(tmp_path, monkeypatch, peer).get(f"/sandbox/visits/v1?with={query}")
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_every_record_that_is_asked_for_is_in_the_api() -> None:
    paths = json.loads((catalogue.REPO / "gateway" / "openapi.json").read_bytes())["paths"]
    peer: Any = FakePeer({})
    Records(peer).of_visit("{visit_id}")
    asked = {path.replace("%7Bvisit_id%7D", "{visit_id}") for path, _ in peer.asked}
    assert asked == {path for path in paths if "/fhir/" in path}
