"""Reads the maintained list of red flags."""

from __future__ import annotations

from pathlib import Path

import yaml

from services.eligibility.domain import RedFlags

LIST = Path(__file__).parent / "red_flags.yaml"


def read_red_flags(path: Path = LIST) -> RedFlags:
    """Raises KeyError for a list that lacks a part."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return RedFlags(*(tuple(content[part]) for part in ("terms", "symptoms", "innocent")))
