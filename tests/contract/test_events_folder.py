"""`events/` agrees with itself, and the comparison with what was promised before catches each kind of break."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import yaml

from eventkit.contracts import contracts
from events.check import faults
from events.compat import compare

SCHEMA: dict[str, Any] = {
    "title": "org.fuzhen.payment.Paid.v1",
    "type": "object",
    "required": ["order_id", "legs"],
    "properties": {
        "order_id": {"type": "string"},
        "note": {"type": "string", "description": "why"},
        "legs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["leg"],
                "properties": {"leg": {"enum": ["fund", "cash"]}, "amount_fen": {"type": "integer"}},
            },
        },
    },
}
TOPIC: dict[str, Any] = {
    "owner": "payment", "key": "visit_id", "partitions": 12, "retention_days": 30,
    "types": ["org.fuzhen.payment.Paid.v1"], "readers": ["his.subscriber"],
}


def tree(schema: dict[str, Any] | None, topic: dict[str, Any] | None, golden: bytes | None = b"{}") -> dict[str, bytes]:
    files = {
        "schemas/payment/Paid.v1.json": orjson.dumps(schema) if schema else None,
        "topics/payment.order.v1.yaml": yaml.safe_dump(topic).encode() if topic else None,
        "examples/payment/Paid.v1/typical.json": golden,
    }
    return {path: content for path, content in files.items() if content is not None}


def changed(original: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    fresh = copy.deepcopy(original)
    change(fresh)
    return fresh


def test_schemas_goldens_topics_and_asyncapi_agree() -> None:
    assert faults(contracts()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["properties"].update(channel={"type": "string"}),
        lambda s: s["properties"]["note"].update(description="because"),
        lambda s: s["properties"]["legs"]["items"]["properties"].update(ref={"type": "string"}),
    ],
    ids=["an optional property", "another description", "an optional property inside a list"],
)
def test_what_an_older_reader_can_ignore_is_allowed(change: Callable[[dict[str, Any]], Any]) -> None:
    assert compare(tree(SCHEMA, TOPIC), tree(changed(SCHEMA, change), TOPIC)) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s["properties"].pop("note"), "is gone"),
        (lambda s: s["properties"]["order_id"].update(type="integer"), "type changed"),
        (lambda s: (s["properties"].update(x={}), s["required"].append("x")), "new and required"),
        (lambda s: s["required"].append("note"), "has become required"),
        (lambda s: s["required"].remove("legs"), "no longer required"),
        (lambda s: s["properties"]["legs"]["items"]["properties"]["leg"].update(enum=["cash"]), "enum changed"),
        (lambda s: s["properties"]["order_id"].update(maxLength=5), "maxLength changed"),
        (lambda s: s.update(oneOf=[{}]), "oneOf changed"),
    ],
)
def test_every_other_change_of_a_schema_fails(change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    [fault] = compare(tree(SCHEMA, TOPIC), tree(changed(SCHEMA, change), TOPIC))
    assert reason in fault


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.update(partitions=24), "partitions changed"),
        (lambda t: t.update(key="order_id"), "key changed"),
        (lambda t: t.update(retention_days=7), "retention shortened"),
    ],
)
def test_what_moves_the_ground_under_a_topics_readers_fails(
    change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    [fault] = compare(tree(SCHEMA, TOPIC), tree(SCHEMA, changed(TOPIC, change)))
    assert reason in fault


def test_a_golden_event_never_changes_and_a_named_schema_never_goes() -> None:
    assert "never changes" in compare(tree(SCHEMA, TOPIC), tree(SCHEMA, TOPIC, b'{"a":1}'))[0]
    assert "golden event is gone" in compare(tree(SCHEMA, TOPIC), tree(SCHEMA, TOPIC, None))[0]
    assert "a topic names it" in compare(tree(SCHEMA, TOPIC), tree(None, TOPIC))[0]
    assert "had readers" in compare(tree(SCHEMA, TOPIC), tree(SCHEMA, None))[0]
