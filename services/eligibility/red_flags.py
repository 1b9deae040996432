"""Reads the maintained list of red flags."""

from __future__ import annotations

from pathlib import Path

import yaml

from services.eligibility.domain import RedFlags

LIST = Path(__file__).parent / "red_flags.yaml"


def read_red_flags(path: Path = LIST) -> RedFlags:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return RedFlags(terms=tuple(content["terms"]), symptoms=tuple(content["symptoms"]))
