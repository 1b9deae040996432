"""Events, refusals, and the registry that keeps wire names apart from class names.

A service declares its events in `services/<service>/events.py` as frozen dataclasses:

    registry = Registry("registration")

    @registry.event("VisitRequested", topic="registration.visit.v1", key="visit_id")
    @dataclass(frozen=True, slots=True)
    class VisitRequested:
        visit_id: str
        complaint: str | None = personal()

An event without a topic is private: it stays in the log. A `personal()` field is encrypted under the key of the
person named by `person` (default `patient_id`) and never leaves the service's database (§31); once that key is
erased it reads as None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec

ORGANISATION = "org.fuzhen"
T = TypeVar("T")


class Refusal(Exception):
    """A rule says no. `code` is stable and listed in the service's problems; `facts` fill its sentences."""

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


def personal() -> Any:
    """A dataclass field that holds a personal value."""
    return dataclasses.field(default=None, metadata={"personal": True})


@dataclass(frozen=True, slots=True)
class EventKind:
    """How one event class travels."""

    cls: type[Any]
    type: str
    topic: str | None
    key: str | None
    person: str | None
    personal_fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event ready for the log: `data` may travel, `private` may not."""

    type: str
    data: dict[str, Any]
    private: dict[str, Any]
    person: str | None
    topic: str | None
    partitionkey: str | None


class Registry:
    """Wire type ↔ class for one service, with the upcasters that read what older versions wrote."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.source = f"/services/{context}"
        self.kinds: dict[str, EventKind] = {}
        self._by_class: dict[type[Any], EventKind] = {}
        self._upcasters: dict[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]] = {}

    def event(
        self,
        name: str,
        *,
        version: int = 1,
        topic: str | None = None,
        key: str | None = None,
        person: str = "patient_id",
    ) -> Callable[[type[T]], type[T]]:
        """Register a frozen dataclass under `org.fuzhen.<context>.<name>.v<version>`.

        `key` names the field that becomes the Kafka key; a published event needs one.
        """

        def register(cls: type[T]) -> type[T]:
            private = frozenset(f.name for f in dataclasses.fields(cast(Any, cls)) if f.metadata.get("personal"))
            if topic and not key:
                raise TypeError(f"{name} is published on {topic} and needs a key")
            wire_type = f"{ORGANISATION}.{self.context}.{name}.v{version}"
            kind = EventKind(cls, wire_type, topic, key, person if private else None, private)
            if kind.type in self.kinds:
                raise TypeError(f"{kind.type} is registered twice")
            self.kinds[kind.type] = self._by_class[cls] = kind
            return cls

        return register

    def upcast(self, old_type: str, change: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]) -> None:
        """Read `old_type` as what `change` makes of its data: (newer type, data)."""
        self._upcasters[old_type] = change

    def encode(self, event: object) -> Encoded:
        kind = self._by_class[type(event)]
        values = {name: value for name, value in msgspec.to_builtins(event).items() if value is not None}
        private = {name: values.pop(name) for name in kind.personal_fields if name in values}
        return Encoded(
            type=kind.type,
            data=values,
            private=private,
            person=values[kind.person] if private and kind.person else None,
            topic=kind.topic,
            partitionkey=values[kind.key] if kind.key else None,
        )

    def decode(self, type_: str, data: dict[str, Any], private: dict[str, Any] | None = None) -> Any:
        """Raises KeyError for a type that was never registered, msgspec.ValidationError for data that does not fit."""
        while type_ in self._upcasters:
            type_, data = self._upcasters[type_](data)
        return msgspec.convert({**data, **(private or {})}, self.kinds[type_].cls)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it stands in the log: `id` is `<stream>/<version>`, versions of a stream run 1, 2, 3 …"""

    stream: str
    version: int
    event: Any
    time: datetime

    @property
    def id(self) -> str:
        return f"{self.stream}/{self.version}"
