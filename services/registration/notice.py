"""The service notice (服务须知) of §4. Its version is the hash of its text: a changed text is a new version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

TEXT = Path(__file__).parent / "notice.md"


@dataclass(frozen=True, slots=True)
class Notice:
    version: str
    text: str


def read_notice(path: Path = TEXT) -> Notice:
    content = path.read_bytes()
    return Notice(hashlib.sha256(content).hexdigest(), content.decode())
