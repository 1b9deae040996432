"""The CloudEvents 1.0 envelope, structured JSON, as it travels on every topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
_REQUIRED = ("specversion", "id", "source", "type", "subject", "time", "partitionkey", "sequence", "data")


class InvalidEvent(Exception):
    """Bytes that are no event of ours; the message says what is wrong with them and holds none of their values."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """`id` is `<stream>/<version>` for events of a log and a uuid5 for derived ones; `time` is RFC 3339 UTC;
    `sequence` is the version in its stream, ten digits."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    partitionkey: str
    sequence: str
    data: dict[str, Any]
    correlationid: str = ""
    causationid: str = ""
    traceparent: str = ""

    @property
    def stream(self) -> str:
        return self.id.rpartition("/")[0]

    @property
    def version(self) -> int:
        return int(self.sequence)

    @property
    def name(self) -> str:
        """The event's short name: `VisitBooked`."""
        return self.type.split(".")[-2]

    def to_bytes(self) -> bytes:
        message: dict[str, Any] = {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": "application/json",
            "dataschema": dataschema(self.type),
            "partitionkey": self.partitionkey,
            "sequence": self.sequence,
        }
        for name in ("correlationid", "causationid", "traceparent"):
            if value := getattr(self, name):
                message[name] = value
        message["data"] = self.data
        return orjson.dumps(message)

    @classmethod
    def parse(cls, raw: bytes | None) -> Envelope:
        """Raises InvalidEvent."""
        try:
            message = orjson.loads(raw or b"")
        except orjson.JSONDecodeError as error:
            raise InvalidEvent("not JSON") from error
        if not isinstance(message, dict):
            raise InvalidEvent("not a JSON object")
        if missing := [name for name in _REQUIRED if name not in message]:
            raise InvalidEvent(f"lacks {', '.join(missing)}")
        if message["specversion"] != SPEC_VERSION:
            raise InvalidEvent("specversion is not 1.0")
        if not isinstance(message["data"], dict):
            raise InvalidEvent("data is not an object")
        texts = {name: message.get(name, "") for name in cls.__slots__ if name != "data"}
        if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
            raise InvalidEvent(f"{', '.join(wrong)} is not a string")
        if not (texts["sequence"].isdigit() and texts["sequence"].isascii()):
            raise InvalidEvent("sequence is not a number")
        if texts["type"].count(".") < 3:
            raise InvalidEvent("type is not org.fuzhen.<context>.<Event>.v<n>")
        return cls(data=message["data"], **texts)


def sequence(version: int) -> str:
    return f"{version:010d}"


def dataschema(wire_type: str) -> str:
    """`org.fuzhen.registration.VisitBooked.v1` → `/events/schemas/registration/VisitBooked.v1.json`."""
    _, _, context, name, version = wire_type.split(".")
    return f"/events/schemas/{context}/{name}.{version}.json"


def dead_letter_headers(reason: str, topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """Of a record that goes to the dead letters, why and whence: what an operator needs to mend and redrive."""
    return [
        ("reason", reason.encode()),
        ("topic", topic.encode()),
        ("partition", str(partition).encode()),
        ("offset", str(offset).encode()),
    ]
