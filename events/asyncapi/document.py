"""The AsyncAPI 3.0 document of all topics."""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from eventkit.contracts import Contracts
from eventkit.envelope import CONTENT_TYPE

_TEXT = {"type": "string", "minLength": 1}
ENVELOPE: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0, structured JSON.",
    "required": ["specversion", "id", "source", "type", "subject", "time", "partitionkey", "sequence", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "description": "`<stream>/<version>`, or a UUID if derived: the same id is the same event"},
        "source": {**_TEXT, "description": "/services/<service>, /processors/<group> or /partners/<partner>"},
        "type": _TEXT,
        "subject": {**_TEXT, "description": "The aggregate's id"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"type": "string"},
        "partitionkey": {**_TEXT, "description": "Also the Kafka key"},
        "sequence": {"type": "string", "pattern": "^[0-9]{10}$", "description": "Version in its stream, from 1"},
        "correlationid": {"type": "string"},
        "causationid": {"type": "string"},
        "traceparent": {"type": "string"},
        "data": {"type": "object"},
    },
}


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def generate(contracts: Contracts) -> str:
    """The document as YAML text; the same contracts always give the same text."""
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {"CloudEvent": ENVELOPE}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in contracts.topics.values():
        channel = topic.name.replace(".", "_").replace("-", "_")
        names = []
        for wire_type in topic.types:
            _, _, context, event, version = wire_type.split(".")
            name = f"{context}_{event}_{version}"
            names.append(name)
            schema = {k: v for k, v in contracts.schema(wire_type).items() if k not in ("$schema", "$id")}
            schemas[name] = schema
            messages[name] = {
                "name": wire_type,
                "title": event,
                "summary": schema["description"],
                "contentType": CONTENT_TYPE.partition(";")[0],
                "payload": {
                    "allOf": [
                        {"$ref": "#/components/schemas/CloudEvent"},
                        {
                            "type": "object",
                            "properties": {
                                "type": {"const": wire_type},
                                "data": {"$ref": f"#/components/schemas/{name}"},
                            },
                        },
                    ]
                },
                "examples": [
                    {"name": path.stem, "payload": orjson.loads(path.read_bytes())}
                    for path in sorted((contracts.root / "examples" / context / f"{event}.{version}").glob("*.json"))
                ],
            }
        channels[channel] = {
            "address": topic.name,
            "description": topic.description,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "bindings": {"kafka": {"topic": topic.name, "partitions": topic.partitions, "bindingVersion": "0.5.0"}},
        }
        operations[f"receive_{channel}"] = {
            # What a reader does with it: everyone but the owner only receives.
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": f"Published by {topic.owner}; key: {topic.key}.",
            "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
        }
    document = {
        "asyncapi": "3.0.0",
        "id": "urn:fuzhen:events",
        "info": {
            "title": "Fuzhen events",
            "version": "1.0.0",
            "description": "What happened in the Internet hospital. At least once, in order per stream; drop a repeat "
            "by its `id`, or by `sequence` per stream. No personal data: ask the API, with your own credentials, for "
            "what an id stands for.",
            "contact": {"name": "Fuzhen", "url": "https://fuzhen.example"},
            "license": {"name": "Proprietary"},
            "tags": [{"name": "healthcare"}, {"name": "cloudevents"}],
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
