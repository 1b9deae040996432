"""One OpenAPI document for everything behind the gateway: `python -m gateway.openapi write|check`.

Each service describes itself (`/api/<service>/openapi.json`, made by flask-smorest from the code that serves); this
merges the five. Nothing is connected to: the applications are only built.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from devstack import secrets, table
from devstack.ports import SERVICES
from eventkit.core import Core
from eventkit.main import Service, build_app

TARGET = Path(__file__).parent / "openapi.json"
Document = dict[str, Any]


def described(name: str) -> Document:
    """What a service says of itself."""
    service: Service = importlib.import_module(f"services.{name}.__main__").SERVICE
    core = Core.from_env(name, service.registry)
    try:
        answer = build_app(service, core).test_client().get(f"/api/{name}/openapi.json")
        document: Document = orjson.loads(answer.data)
    finally:
        core.mongo.close()
    return document


def all_described() -> dict[str, Document]:
    """The five services' documents, each built with settings that lead nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        secrets.make(home / "secrets")
        settings = table.settings(home, base=1, mongo_members=1) | {
            "FUZHEN_PORT": "1",
            "FUZHEN_JWT_KEY_FILE": str(home / "secrets" / "jwt_key.pem"),
            "FUZHEN_CLIENTS_FILE": str(home / "secrets" / "clients.json"),
        }
        before = dict(os.environ)
        try:
            found = {}
            for name in SERVICES:
                client = str(home / "secrets" / "clients" / name)
                os.environ.update(settings, FUZHEN_SERVICE=name, FUZHEN_CLIENT_SECRET_FILE=client)
                found[name] = described(name)
            return found
        finally:
            os.environ.clear()
            os.environ.update(before)


def merge(documents: dict[str, Document]) -> Document:
    """One document. A component that two services define differently gets its service's name in front."""
    paths: Document = {}
    components: dict[str, Document] = {}
    for name, document in documents.items():
        renamed = {}
        for kind, entries in document["components"].items():
            for entry, content in entries.items():
                taken = components.get(kind, {}).get(entry)
                if taken is not None and taken != content:
                    renamed[f"#/components/{kind}/{entry}"] = f"#/components/{kind}/{name.capitalize()}{entry}"
        document = _rename(document, renamed)
        for kind, entries in document["components"].items():
            for entry, content in entries.items():
                new = renamed.get(f"#/components/{kind}/{entry}", entry).rpartition("/")[2]
                components.setdefault(kind, {})[new] = content
        paths |= document["paths"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fuzhen 复诊",
            "version": "1",
            "description": "The Internet hospital, as client apps see it through the gateway. Every refusal is a "
            "problem (RFC 9457) with a stable `code`, a sentence in Chinese and English, and what to do next. Every "
            "command takes an `Idempotency-Key`: a retry with the same key is never done twice.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, **_tag(document)} for name, document in documents.items()],
        "paths": dict(sorted(paths.items())),
        "components": {kind: dict(sorted(entries.items())) for kind, entries in sorted(components.items())},
    }


def _tag(document: Document) -> Document:
    return {"description": document["tags"][0].get("description", "")} if document.get("tags") else {}


def _rename(node: Any, renamed: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: renamed.get(value, value) if key == "$ref" else _rename(value, renamed) for key, value in node.items()
        }
    if isinstance(node, list):
        return [_rename(item, renamed) for item in node]
    return node


def main(arguments: list[str]) -> int:
    if arguments not in (["write"], ["check"]):
        print(__doc__, file=sys.stderr)
        return 2
    document = merge(all_described())
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if arguments == ["write"]:
        TARGET.write_bytes(text)
    elif not TARGET.exists() or TARGET.read_bytes() != text:
        print("✘ gateway/openapi.json is not what the services describe: run python -m gateway.openapi write")
        return 1
    operations = sum(len(path) for path in document["paths"].values())
    print(f"✔ gateway/openapi.json: {operations} operations of {len(SERVICES)} services")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
