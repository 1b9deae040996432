"""What every FHIR R4 read facade of a service shares: references, search results, how resources are written (ADR 9)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson
from flask import Response, request
from marshmallow import Schema, fields, validate

CONTENT_TYPE = "application/fhir+json"
IDS = "https://fuzhen.example/ids/"
Resource = dict[str, Any]


class EncounterQuery(Schema):
    """The search parameter that leads to what belongs to a visit."""

    encounter = fields.String(
        required=True, validate=validate.Length(min=1, max=100),
        metadata={"description": "Id of the visit, with or without `Encounter/`"},
    )


def reference(resource_type: str, kind: str, value: str) -> Resource:
    """Logical, because the resource may live in another service, or is the HIS's own."""
    return {"type": resource_type, "identifier": {"system": IDS + kind, "value": value}}


def searchset(resources: Iterable[Resource]) -> Resource:
    """What a search found, one page of all."""
    return _bundle(list(resources), request.base_url, request.url)


def searchset_example(service: str, resource: Resource) -> Resource:
    """The answer to a search in a service's OpenAPI document."""
    base = f"https://fuzhen.example/api/{service}/fhir/{resource['resourceType']}"
    return _bundle([resource], base, f"{base}?encounter=v7c1d2e3f4a5")


def written(resource: Resource) -> Response:
    return Response(orjson.dumps(resource, default=_exact), content_type=CONTENT_TYPE)


def _bundle(resources: list[Resource], base: str, url: str) -> Resource:
    entries = [{"fullUrl": f"{base}/{r['id']}", "resource": r, "search": {"mode": "match"}} for r in resources]
    bundle: Resource = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(entries),
        "link": [{"relation": "self", "url": url}],
    }
    return {**bundle, "entry": entries} if entries else bundle


def _exact(value: object) -> orjson.Fragment:
    """A decimal as the number it is, digits after the point included. Raises TypeError for anything else."""
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    raise TypeError(f"{type(value).__name__} has no place in a FHIR resource")
