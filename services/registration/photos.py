"""Photos of the tongue and of results (§10): re-encoded, so that nothing but the picture is kept, and sealed for the
patient in the collection `photos: {_id: photo_id, patient_id, sealed}`."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from PIL import Image, ImageOps
from pymongo import WriteConcern
from pymongo.database import Database

from eventkit.events import Refusal
from eventkit.vault import Vault

MAX_UPLOAD_BYTES = 8 << 20
_FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_PIXELS = 60_000_000
_MAX_SIDE = 2560
_QUALITY = 88


# What else a file can be while it is a picture, too. The picture alone would be kept anyway; who sends such a file has
# made it to deceive, and is told no.
_OTHER_KINDS = (b"%pdf-", b"<script", b"<?php", b"<html", b"<!doctype", b"<svg", b"rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")


def check_kind(upload: bytes) -> None:
    """Raises Refusal("photo_is_more") for a file that is also a document, a script or an archive."""
    lowered = upload.lower()
    if any(mark in lowered for mark in _OTHER_KINDS) or zipfile.is_zipfile(io.BytesIO(upload)):
        raise Refusal("photo_is_more")


def cleaned(upload: bytes) -> bytes:
    """The picture alone as JPEG, whatever it was called: its bytes say what it is. Upright, without EXIF (place,
    device, time), no longer than a doctor's screen needs.
    Raises Refusal("photo_unreadable" | "photo_is_more")."""
    check_kind(upload)
    try:
        with Image.open(io.BytesIO(upload), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise Refusal("photo_unreadable")
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except Refusal:
        raise
    except Exception as error:  # a decoder fed with anything raises anything
        raise Refusal("photo_unreadable") from error
    upright.thumbnail((_MAX_SIDE, _MAX_SIDE))
    plain = io.BytesIO()
    bare = Image.new("RGB", upright.size)
    bare.paste(upright)
    bare.save(plain, "JPEG", quality=_QUALITY)
    return plain.getvalue()


class PhotoFiles:
    def __init__(self, database: Database[dict[str, Any]], vault: Vault) -> None:
        self._photos = database.get_collection("photos", write_concern=WriteConcern(w="majority", j=True))
        self._vault = vault

    def keep(self, photo_id: str, patient_id: str, jpeg: bytes) -> None:
        """Before the event that names it: a picture without an event is harmless, an event without a picture is not."""
        sealed = self._vault.seal_bytes(patient_id, jpeg, _place(photo_id))
        self._photos.update_one(
            {"_id": photo_id}, {"$setOnInsert": {"patient_id": patient_id, "sealed": sealed}}, upsert=True
        )

    def read(self, photo_id: str) -> bytes:
        """JPEG. Raises Refusal("not_found") for one that is not there or whose patient is erased."""
        row = self._photos.find_one({"_id": photo_id})
        jpeg = self._vault.open_bytes(row["patient_id"], bytes(row["sealed"]), _place(photo_id)) if row else None
        if jpeg is None:
            raise Refusal("not_found")
        return jpeg


def _place(photo_id: str) -> str:
    return f"photos/{photo_id}"
