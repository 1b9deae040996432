"""Both sides of every contract: what a producer can emit its schema allows, every reader reads every golden event."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest

from eventkit.contracts import Topic, contracts
from eventkit.core import Core
from eventkit.envelope import Envelope
from eventkit.events import EventKind, Refusal
from eventkit.inbox import Passing
from eventkit.streams import Processor
from tests.contract.conftest import SERVICES, declared

CONTRACTS = contracts()
KINDS = [(name, kind) for name in SERVICES for kind in declared(name).registry.kinds.values() if kind.topic]
PROCESSORS = [processor for name in SERVICES for processor in declared(name).processors]
READERS = sorted({reader for topic in CONTRACTS.topics.values() for reader in topic.readers})


def goldens(wire_type: str) -> list[Envelope]:
    path = CONTRACTS.schema_path(wire_type)
    folder = CONTRACTS.root / "examples" / path.parent.name / path.stem
    return [Envelope.parse(example.read_bytes()) for example in sorted(folder.glob("*.json"))]


def goldens_for(reader: str) -> list[tuple[Topic, Envelope]]:
    return [
        (topic, golden)
        for topic in CONTRACTS.topics.values()
        if reader in topic.readers
        for wire_type in topic.types
        for golden in goldens(wire_type)
    ]


# --- producers


@pytest.mark.parametrize(("service", "kind"), KINDS, ids=[kind.type for _, kind in KINDS])
def test_what_a_producer_can_emit_is_what_its_schema_allows(service: str, kind: EventKind) -> None:
    """The golden events go through the producer's own class and come out the same, valid, and on the owner's topic."""
    topic = CONTRACTS.topics[str(kind.topic)]
    assert (topic.owner, topic.key) == (service, kind.key)
    assert kind.type in topic.types
    properties = CONTRACTS.schema(kind.type)["properties"]
    fields = {f.name for f in dataclasses.fields(kind.cls)}
    assert fields - kind.personal_fields <= properties.keys()
    assert not kind.personal_fields & properties.keys(), "§31 personal values have no place in data"
    for golden in goldens(kind.type):
        event = declared(service).registry.decode(golden.type, golden.data)
        encoded = declared(service).registry.encode(event)
        assert normal(encoded.data) == normal(golden.data)
        CONTRACTS.validate(golden, topic.name)


def normal(data: dict[str, Any]) -> Any:
    """Equal up to how an instant's fraction is written."""
    return orjson.loads(orjson.dumps(data).replace(b".000Z", b"Z"))


def test_every_type_on_a_topic_has_exactly_one_producer() -> None:
    produced = [kind.type for _, kind in KINDS]
    derived = [t for processor in PROCESSORS for t in CONTRACTS.topics[processor.output_topic].types]
    told = [t for topic in CONTRACTS.topics.values() if topic.owner == "his" for t in topic.types]
    written = [t for topic in CONTRACTS.topics.values() for t in topic.types]
    assert sorted([*produced, *derived, *told]) == sorted(written)


# --- consumers


@pytest.mark.parametrize("service", SERVICES)
def test_every_policy_reads_every_golden_event_of_its_topics(service: str, core_of: Callable[[str], Core]) -> None:
    """A refusal or a «later» is an answer; anything else is an event the reader cannot read."""
    work = declared(service).work(core_of(service))
    for group, handlers in work.inboxes.items():
        seen = set()
        for topic, golden in goldens_for(group):
            CONTRACTS.validate(golden, topic.name)
            if handler := handlers.get(golden.name):
                seen.add(golden.name)
                with contextlib.suppress(Refusal, Passing):
                    handler(golden)
        assert seen == set(handlers), f"{group} waits for events that none of its topics carries"


@pytest.mark.parametrize("processor", PROCESSORS, ids=[p.app_id for p in PROCESSORS])
def test_every_processor_reads_every_golden_event_and_emits_what_the_schema_allows(processor: Processor[Any]) -> None:
    assert {topic.name for topic, _ in goldens_for(processor.app_id)} == set(processor.sources)
    state = None
    outputs = []
    for _, golden in goldens_for(processor.app_id):
        fresh, derived = processor.derive(None, golden)
        state, more = processor.derive(state, golden)
        outputs += [*derived, *more]
        assert processor.decode(processor.encode(state)) == state
        assert msgspec.json.encode(fresh)
    allowed = CONTRACTS.topics[processor.output_topic].types
    for output in outputs:
        assert output.type in allowed
        schema = CONTRACTS.schema(output.type)
        assert output.data.keys() <= schema["properties"].keys()
        CONTRACTS.validate(
            Envelope("i", "/processors/x", output.type, output.subject, "t", "k", "0000000001", output.data),
            processor.output_topic,
        )


def test_every_reader_that_a_topic_names_exists_and_reads_only_where_it_is_named(
    core_of: Callable[[str], Core],
) -> None:
    groups = {group for name in SERVICES for group in declared(name).work(core_of(name)).inboxes}
    assert groups | {processor.app_id for processor in PROCESSORS} | {"his.subscriber"} == set(READERS)
