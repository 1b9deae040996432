"""Read models: documents that follow events, each written with the guard that makes a repeat harmless (rule 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError


def apply_once(
    collection: Collection[dict[str, Any]], id_: str, stream: str, version: int, update: Mapping[str, Any]
) -> bool:
    """Apply a MongoDB update (`{"$set": …}`) to document `id_` unless version `version` of `stream` has been applied.

    The guard `seq.<stream>` is in the same write, one per source stream, so a document may follow several streams.
    Returns whether the update was applied.
    """
    guard = f"seq.{stream}"
    changed = {operator: dict(fields) for operator, fields in update.items()}
    changed.setdefault("$set", {})[guard] = version
    try:
        result = collection.update_one(
            {"_id": id_, "$or": [{guard: {"$lt": version}}, {guard: {"$exists": False}}]}, changed, upsert=True
        )
    except DuplicateKeyError:  # the document stands and the guard said no, so the upsert tried to insert it again
        return False
    return result.modified_count > 0 or result.upserted_id is not None
