"""Does `events/` agree with itself? `python -m events.check` prints what does not and exits 1.

Needs node and npm for the AsyncAPI project's own parser; its packages go to `<FUZHEN_HOME>/npm`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator

from eventkit.contracts import Contracts, contracts
from eventkit.envelope import CONTENT_TYPE, Envelope, InvalidEvent, dataschema
from events.asyncapi.document import generate

HOME = Path(os.environ.get("FUZHEN_HOME") or Path(__file__).parent.parent / ".fuzhen")


def wire_type_of(schema: Path) -> str:
    """`schemas/payment/PaymentCaptured.v1.json` → `org.fuzhen.payment.PaymentCaptured.v1`."""
    return f"org.fuzhen.{schema.parent.name}.{schema.stem}"


def faults(contract: Contracts) -> list[str]:
    """Everything that is wrong with schemas, examples, topics and the generated document, one sentence each."""
    found: list[str] = []
    placed = Counter(wire_type for topic in contract.topics.values() for wire_type in topic.types)
    schemas = sorted((contract.root / "schemas").glob("*/*.json"))
    written = {wire_type_of(path) for path in schemas}
    found += [f"{t} stands on a topic and has no schema" for t in placed.keys() - written]
    found += [f"{t} stands on {n} topics" for t, n in placed.items() if n > 1]
    for path in schemas:
        wire_type = wire_type_of(path)
        schema: dict[str, Any] = orjson.loads(path.read_bytes())
        Draft202012Validator.check_schema(schema)
        if schema.get("title") != wire_type:
            found.append(f"{path}: its title is not {wire_type}")
        if wire_type not in placed:
            found.append(f"{wire_type} stands on no topic")
        examples = sorted((contract.root / "examples" / path.parent.name / path.stem).glob("*.json"))
        if not examples:
            found.append(f"{wire_type} has no golden event")
        topic = next((t for t in contract.topics.values() if wire_type in t.types), None)
        for example in examples:
            found += [f"{example}: {fault}" for fault in example_faults(contract, example, wire_type, schema)]
            if topic and orjson.loads(example.read_bytes())["data"].get(topic.key) is None:
                found.append(f"{example}: lacks {topic.key}, the key of {topic.name}")
    document = contract.root / "asyncapi.yaml"
    if not document.exists() or document.read_text(encoding="utf-8") != generate(contract):
        found.append("asyncapi.yaml is not what would be generated: run python -m events.asyncapi write")
    return found


def example_faults(contract: Contracts, path: Path, wire_type: str, schema: dict[str, Any]) -> list[str]:
    raw = path.read_bytes()
    try:
        envelope = Envelope.parse(raw)
        contract.validate(envelope)
    except InvalidEvent as error:
        return [str(error)]
    found = []
    if envelope.type != wire_type:
        found.append(f"its type is {envelope.type}")
    if orjson.loads(raw).get("dataschema") != dataschema(wire_type):
        found.append("dataschema names another schema")
    if extra := envelope.data.keys() - schema["properties"].keys():
        found.append(f"data holds {', '.join(sorted(extra))}, which the schema does not know")
    event = from_structured(
        KafkaMessage({"content-type": CONTENT_TYPE.encode()}, envelope.partitionkey.encode(), raw), JSONFormat()
    )
    if event.get_id() != envelope.id:
        found.append("the CloudEvents SDK reads another id")
    return found


def parse_asyncapi(contract: Contracts) -> int:
    """Run the AsyncAPI parser over the document; its exit code."""
    folder = HOME / "npm"
    lock = contract.root / "asyncapi" / "package-lock.json"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "package-lock.json"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes() or not (folder / "node_modules").exists():
        print("installing the AsyncAPI parser (npm ci) …", flush=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(contract.root / "asyncapi" / name, folder / name)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=folder, check=True)
    script = contract.root / "asyncapi" / "validate.cjs"
    return subprocess.run(
        ["node", str(script), str(contract.root / "asyncapi.yaml")],
        env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
        check=False,
    ).returncode


def main() -> int:
    contract = contracts()
    found = faults(contract)
    for fault in found:
        print(f"✘ {fault}")
    if found:
        return 1
    types = sum(len(topic.types) for topic in contract.topics.values())
    print(f"✔ {len(contract.topics)} topics, {types} event types agree with their schemas and golden events")
    return parse_asyncapi(contract)


if __name__ == "__main__":
    sys.exit(main())
