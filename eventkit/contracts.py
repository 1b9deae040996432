"""The written contracts under `events/`: which topics exist, what may stand on them, and what their data looks like."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import yaml

from eventkit.envelope import Envelope, InvalidEvent


@dataclass(frozen=True, slots=True)
class Topic:
    """One file of `events/topics/`. `retention_days` None keeps for ever; `readers` are consumer groups; `processor`
    names the Faust processor that derives the topic, if one does."""

    name: str
    owner: str
    key: str
    partitions: int
    retention_days: int | None
    cleanup: str
    types: tuple[str, ...]
    readers: tuple[str, ...]
    description: str
    processor: str | None = None


class Contracts:
    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @cached_property
    def topics(self) -> dict[str, Topic]:
        found = {}
        for path in sorted((self.root / "topics").glob("*.yaml")):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            found[path.stem] = Topic(
                name=path.stem,
                owner=content["owner"],
                key=content["key"],
                partitions=content.get("partitions", 12),
                retention_days=content.get("retention_days"),
                cleanup=content.get("cleanup", "delete"),
                types=tuple(content.get("types", ())),
                readers=tuple(content.get("readers", ())),
                description=content["description"].strip(),
                processor=content.get("processor"),
            )
        return found

    def schema_path(self, wire_type: str) -> Path:
        _, _, context, name, version = wire_type.split(".")
        return self.root / "schemas" / context / f"{name}.{version}.json"

    def schema(self, wire_type: str) -> dict[str, Any]:
        """Raises InvalidEvent for a type nobody has written down."""
        try:
            loaded: dict[str, Any] = orjson.loads(self.schema_path(wire_type).read_bytes())
        except (FileNotFoundError, ValueError) as error:
            raise InvalidEvent(f"{wire_type} has no schema") from error
        return loaded

    @cached_property
    def _validators(self) -> dict[str, jsonschema_rs.Draft202012Validator]:
        return {}

    def validate(self, envelope: Envelope, topic: str | None = None) -> None:
        """Raises InvalidEvent when the data breaks its schema or the type has no business on `topic`. The reason names
        the place in the data, never the value (§31)."""
        if topic is not None and envelope.type not in self.topics[topic].types:
            raise InvalidEvent(f"{envelope.type} does not belong on {topic}")
        validator = self._validators.get(envelope.type)
        if validator is None:
            schema = self.schema(envelope.type)
            validator = self._validators[envelope.type] = jsonschema_rs.Draft202012Validator(schema)
        if not validator.is_valid(envelope.data):
            error = next(iter(validator.iter_errors(envelope.data)))
            place = "/".join(str(step) for step in error.instance_path) or "data"
            rule = "/".join(str(step) for step in error.schema_path)
            raise InvalidEvent(f"{envelope.type}: {place} breaks {rule}")


@cache
def contracts() -> Contracts:
    """The contracts of this checkout or, where FUZHEN_EVENTS names one, of another folder."""
    return Contracts(os.environ.get("FUZHEN_EVENTS") or Path(__file__).parent.parent / "events")
