"""Identifiers are opaque strings; a derived one is the same wherever and however often it is derived."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("6ba8f1d0-5c1e-5e0b-9a57-2b1f0f7f9c01")


def new_id() -> str:
    return uuid.uuid4().hex


def derived_id(*parts: str) -> str:
    """An id that depends on `parts` alone, so that doing a thing again names the same thing."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join(parts)).hex
