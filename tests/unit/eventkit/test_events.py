"""Wire names, personal fields, upcasting, and the envelope."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import orjson
import pytest

from eventkit.envelope import Envelope, InvalidEvent
from eventkit.events import Registry, personal
from eventkit.relay import to_envelope
from eventkit.store import Answer, Commit, LoggedEvent, Request

registry = Registry("registration")


@registry.event("VisitBooked", version=2, topic="registration.visit.v1", key="visit_id")
@dataclass(frozen=True, slots=True)
class Booked:
    visit_id: str
    patient_id: str
    starts_at: datetime
    channel: str | None = None
    complaint: str | None = personal()


EVENT = Booked("v", "p", datetime(2026, 11, 24, 1, 30, tzinfo=UTC), complaint="cough")


def test_the_wire_name_is_not_the_class_name() -> None:
    assert registry.encode(EVENT).type == "org.fuzhen.registration.VisitBooked.v2"


def test_a_personal_field_is_kept_apart_from_what_travels() -> None:
    """§31."""
    encoded = registry.encode(EVENT)
    assert encoded.data == {"visit_id": "v", "patient_id": "p", "starts_at": "2026-11-24T01:30:00Z"}
    assert (encoded.private, encoded.person, encoded.partitionkey) == ({"complaint": "cough"}, "p", "v")


def test_encoding_and_decoding_agree() -> None:
    encoded = registry.encode(EVENT)
    assert registry.decode(encoded.type, encoded.data, encoded.private) == EVENT
    assert registry.decode(encoded.type, encoded.data).complaint is None


def test_an_older_version_is_read_through_its_upcaster() -> None:
    reader = Registry("registration")
    reader.event("VisitBooked", version=2, topic="t", key="visit_id")(Booked)
    reader.upcast(
        "org.fuzhen.registration.VisitBooked.v1",
        lambda data: ("org.fuzhen.registration.VisitBooked.v2", {**data, "starts_at": data["at"]}),
    )
    old = {"visit_id": "v", "patient_id": "p", "at": "2026-11-24T01:30:00Z"}
    assert reader.decode("org.fuzhen.registration.VisitBooked.v1", old).starts_at == EVENT.starts_at


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        registry.decode("org.fuzhen.registration.VisitBooked.v2", {"visit_id": 7})
    with pytest.raises(KeyError):
        registry.decode("org.fuzhen.registration.VisitForgotten.v1", {})


def test_a_published_event_needs_a_key_and_a_name_of_its_own() -> None:
    with pytest.raises(TypeError, match="needs a key"):
        Registry("x").event("A", topic="t")(Booked)
    with pytest.raises(TypeError, match="registered twice"):
        registry.event("VisitBooked", version=2, topic="t", key="visit_id")(Booked)


def logged(sealed: bytes | None = b"secret") -> LoggedEvent:
    return LoggedEvent("visit-v-1", 3, "org.fuzhen.registration.VisitBooked.v2", {"visit_id": "v-1"}, sealed, "p",
                       "registration.visit.v1", "v-1")


def test_the_envelope_of_a_logged_event() -> None:
    request = Request("c", "r", "k", "f", "cor", "cause")
    commit = Commit((logged(),), datetime(2026, 11, 24, tzinfo=UTC), request, Answer())
    message = orjson.loads(to_envelope(commit, logged(), "/services/registration").to_bytes())
    assert message == {
        "specversion": "1.0",
        "id": "visit-v-1/3",
        "source": "/services/registration",
        "type": "org.fuzhen.registration.VisitBooked.v2",
        "subject": "v-1",
        "time": "2026-11-24T00:00:00.000Z",
        "datacontenttype": "application/json",
        "dataschema": "/events/schemas/registration/VisitBooked.v2.json",
        "partitionkey": "v-1",
        "sequence": "0000000003",
        "correlationid": "cor",
        "causationid": "cause",
        "data": {"visit_id": "v-1"},
    }
    parsed = Envelope.parse(orjson.dumps(message))
    assert (parsed.stream, parsed.version, parsed.name) == ("visit-v-1", 3, "VisitBooked")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"data": []}, "data is not an object"),
        ({"id": 7}, "id is not a string"),
        ({"sequence": "one"}, "sequence"),
        ({"type": "Booked"}, "type"),
        ({"subject": None}, "subject is not a string"),
    ],
)
def test_what_is_no_event_of_ours_says_why(change: dict[str, object], reason: str) -> None:
    commit = Commit((logged(),), datetime(2026, 11, 24, tzinfo=UTC), Request("c", "r", "k"), Answer())
    message = orjson.loads(to_envelope(commit, logged(), "/s").to_bytes()) | change
    with pytest.raises(InvalidEvent, match=reason):
        Envelope.parse(orjson.dumps(message))


@pytest.mark.parametrize("raw", [None, b"", b"{", b"[]", b"{}"])
def test_bytes_that_are_no_object_are_invalid(raw: bytes | None) -> None:
    with pytest.raises(InvalidEvent):
        Envelope.parse(raw)
