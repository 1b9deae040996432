"""What changed in `events/` since a git revision, and may it? `python -m events.compat [REVISION]`, or origin/main.

Allowed within a version: a new optional property, a new schema, golden, topic or reader, another description, longer
retention. Everything else breaks a reader who was promised otherwise, or is a change this program cannot place; both
fail. A schema and its goldens may go once no topic of that revision or of ours names the type.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import yaml

ROOT = Path(__file__).parent
_WORDS = {"description", "$comment", "examples"}


def breaking_schema(old: dict[str, Any], new: dict[str, Any], place: str = "data") -> list[str]:
    """Why readers of `old` cannot read what `new` allows, or why that cannot be told."""
    found: list[str] = []
    old_properties, new_properties = old.get("properties", {}), new.get("properties", {})
    required = set(new.get("required", ()))
    found += [f"{place}.{name} is gone" for name in old_properties.keys() - new_properties.keys()]
    added = new_properties.keys() - old_properties.keys()
    found += [f"{place}.{name} is new and required" for name in sorted(added & required)]
    found += [f"{place}.{name} is no longer required" for name in sorted(set(old.get("required", ())) - required)]
    found += [
        f"{place}.{name} has become required"
        for name in sorted((required - set(old.get("required", ()))) & old_properties.keys())
    ]
    for name in old_properties.keys() & new_properties.keys():
        found += breaking_schema(old_properties[name], new_properties[name], f"{place}.{name}")
    if "items" in old and "items" in new:
        found += breaking_schema(old["items"], new["items"], f"{place}[]")
    structural = {"properties", "required"}
    if "items" in old and "items" in new:
        structural.add("items")
    for keyword in sorted((old.keys() | new.keys()) - structural - _WORDS):
        if old.get(keyword) != new.get(keyword):
            found.append(f"{place}: {keyword} changed from {old.get(keyword)} to {new.get(keyword)}")
    return found


def breaking_topic(old: dict[str, Any], new: dict[str, Any], name: str) -> list[str]:
    found = [
        f"{name}: {field} changed from {old.get(field)} to {new.get(field)}"
        for field in ("owner", "key", "partitions", "cleanup")
        if old.get(field) != new.get(field)
    ]
    kept, keeps = old.get("retention_days"), new.get("retention_days")
    if keeps is not None and (kept is None or keeps < kept):
        found.append(f"{name}: retention shortened from {kept} to {keeps} days")
    return found


def compare(old: dict[str, bytes], new: dict[str, bytes]) -> list[str]:
    """Faults between two versions of `events/`, each as {path below events/: content}."""
    found: list[str] = []
    topics = [yaml.safe_load(content) for tree in (old, new) for path, content in tree.items() if _is_topic(path)]
    named = {wire_type for topic in topics for wire_type in topic.get("types", ())}
    for path, content in sorted(old.items()):
        parts = Path(path).parts
        if _is_topic(path):
            if path in new:
                found += breaking_topic(yaml.safe_load(content), yaml.safe_load(new[path]), path)
            elif yaml.safe_load(content).get("readers"):
                found.append(f"{path} is gone and had readers")
        elif parts[0] == "schemas":
            wire_type = f"org.fuzhen.{parts[1]}.{Path(path).stem}"
            if path in new:
                changes = breaking_schema(orjson.loads(content), orjson.loads(new[path]))
                found += [f"{path}: {change}" for change in changes]
            elif wire_type in named:
                found.append(f"{path} is gone and a topic names it")
        elif parts[0] == "examples" and new.get(path) != content:
            wire_type = f"org.fuzhen.{parts[1]}.{parts[2]}"
            if path in new:
                found.append(f"{path}: a golden event never changes; add another")
            elif wire_type in named:
                found.append(f"{path}: a golden event is gone while a topic names its type")
    return found


def _is_topic(path: str) -> bool:
    return path.startswith("topics/") and path.endswith(".yaml")


def at_revision(revision: str) -> dict[str, bytes] | None:
    """`events/` at a git revision; None where git has no such revision."""
    command = ["git", "ls-tree", "-r", "--name-only", revision, "--", "."]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        return None
    return {
        path: subprocess.run(
            ["git", "show", f"{revision}:./{path}"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        for path in listed.stdout.splitlines()
        if path.startswith(("schemas/", "examples/", "topics/"))
    }


def working_tree() -> dict[str, bytes]:
    return {
        str(path.relative_to(ROOT)): path.read_bytes()
        for folder in ("schemas", "examples", "topics")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }


def main(arguments: list[str]) -> int:
    revision = arguments[0] if arguments else "origin/main"
    old = at_revision(revision)
    if old is None:
        print(f"• there is no {revision} to compare events/ with")
        return 0
    found = compare(old, working_tree())
    for fault in found:
        print(f"✘ {fault}")
    if not found:
        print(f"✔ events/ breaks nothing of {revision}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
