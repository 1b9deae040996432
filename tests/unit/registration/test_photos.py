"""Only the picture is kept (§10, §31)."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from PIL import Image

from eventkit.events import Refusal
from services.registration.photos import cleaned


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def test_s31_where_and_with_what_it_was_taken_is_removed() -> None:
    image = Image.new("RGB", (40, 30), "red")
    exif = image.getexif()
    exif[0x010F] = "SecretPhone"
    exif[0x0112] = 6  # turned by 90 degrees
    upload = encoded(image, "JPEG", exif=exif, comment=b"taken at home")
    assert b"SecretPhone" in upload
    with Image.open(io.BytesIO(cleaned(upload))) as kept:
        assert (kept.format, kept.size, dict(kept.getexif()), kept.info.get("comment")) == ("JPEG", (30, 40), {}, None)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_s10_formats(format_: str) -> None:
    upload = encoded(Image.new("RGBA" if format_ == "PNG" else "RGB", (8, 8)), format_)
    with Image.open(io.BytesIO(cleaned(upload))) as kept:
        assert kept.format == "JPEG"


def test_s10_a_large_picture_is_made_smaller() -> None:
    with Image.open(io.BytesIO(cleaned(encoded(Image.new("L", (5120, 1000)), "PNG")))) as kept:
        assert kept.size == (2560, 500)


@pytest.mark.parametrize(
    "upload",
    [
        b"",
        b"not a picture",
        encoded(Image.new("RGB", (40, 30)), "JPEG")[:200],
        encoded(Image.new("RGB", (4, 4)), "GIF"),
        encoded(Image.new("1", (9000, 9000)), "PNG"),
    ],
    ids=["empty", "text", "cut off", "another format", "too many pixels"],
)
def test_s10_what_cannot_be_read(upload: bytes) -> None:
    with pytest.raises(Refusal, match="photo_unreadable"):
        cleaned(upload)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.js", "alert(1)")
    return file.getvalue()


JPEG = encoded(Image.new("RGB", (8, 8)), "JPEG")


@pytest.mark.parametrize(
    "upload",
    [
        JPEG + archive(),
        JPEG + b"%PDF-1.7",
        JPEG + b"Rar!\x1a\x07",
        encoded(Image.new("RGB", (8, 8)), "JPEG", comment=b"<ScRiPt>alert(1)</script>"),
        encoded(Image.new("RGB", (8, 8)), "JPEG", comment=b"<?php system(1);"),
        encoded(Image.new("RGB", (8, 8)), "PNG") + b"<html>",
    ],
    ids=["zip", "pdf", "rar", "script", "php", "html"],
)
def test_s10_a_picture_that_is_something_else_too_is_refused(upload: bytes) -> None:
    with pytest.raises(Refusal, match="photo_is_more"):
        cleaned(upload)


def test_s10_what_a_phone_adds_after_the_picture_is_only_dropped() -> None:
    assert cleaned(JPEG + b"SEFH" + bytes(500)) == cleaned(JPEG)
