"""The hospital's list of common diagnoses: what a doctor picks from, and the code of a name that stands in it."""

from __future__ import annotations

from pathlib import Path

import yaml

LIST = Path(__file__).parent / "diagnoses.yaml"
MOST = 20


class Diagnoses:
    def __init__(self, path: Path = LIST) -> None:
        self._codes: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))

    def code_of(self, name: str) -> str:
        """Its ICD-10 code; empty for a name that is not in the list."""
        return self._codes.get(name.strip(), "")

    def like(self, text: str) -> list[dict[str, str]]:
        """At most MOST, those that begin with `text` first; `text` is a part of a name, or the beginning of a code."""
        found = [
            (not name.startswith(text), name, code)
            for name, code in self._codes.items()
            if text in name or code.startswith(text.upper())
        ]
        return [{"diagnosis": name, "icd10": code} for _, name, code in sorted(found)[:MOST]]
