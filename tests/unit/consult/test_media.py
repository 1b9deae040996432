"""§17: what counts as a picture or a voice clip, and what is left of it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from services.consult import media
from services.consult.events import Refusal
from services.consult.media import Media, recognised
from tests.unit.consult.clips import amr, amr_wb, m4a, ogg, picture, wav


@pytest.mark.parametrize(
    ("clip", "content_type"),
    [
        (ogg(), "audio/ogg"), (wav(), "audio/wav"), (m4a(), "audio/mp4"), (amr(), "audio/amr"),
        (amr_wb(), "audio/amr-wb"),
    ],
)
def test_s17_a_voice_clip_is_recognised_by_its_bytes_with_its_length(clip: bytes, content_type: str) -> None:
    assert recognised(clip) == Media("voice", content_type, clip, 3000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_s17_a_picture_is_drawn_anew_as_jpeg(kind: str) -> None:
    found = recognised(picture(kind))
    assert (found.kind, found.content_type, found.milliseconds) == ("picture", "image/jpeg", 0)
    assert Image.open(io.BytesIO(found.content)).size == (64, 32)


def test_s31_a_picture_keeps_no_exif_and_stands_upright() -> None:
    sent = picture(place="Haidian 39.98N")
    assert b"Haidian" in sent
    found = recognised(sent)
    assert b"Haidian" not in found.content
    drawn = Image.open(io.BytesIO(found.content))
    assert (drawn.size, dict(drawn.getexif())) == ((32, 64), {})


def test_s17_a_large_picture_is_made_smaller() -> None:
    found = recognised(picture(size=(4000, 1000)))
    assert Image.open(io.BytesIO(found.content)).size == (2560, 640)


@pytest.mark.parametrize("clip", [wav(note=b"INFOhome+39.98+116.3"), m4a(note=b"home+39.98+116.3")])
def test_s31_a_voice_clip_tells_no_place(clip: bytes) -> None:
    found = recognised(clip)
    assert b"116.3" not in found.content
    assert found.milliseconds == 3000
    assert recognised(found.content) == found


@pytest.mark.parametrize(
    "upload",
    [
        b"", b"hello", b"<svg onload=alert(1)>", b"%PDF-1.7", picture()[:100], picture("GIF"), b"RIFF", b"OggS",
        ogg(codec=b"\x01vorbis"), ogg(serials=(7, 8)), ogg()[:-1], ogg() + b"tail", wav(coding=85), wav()[:-1],
        m4a(tracks=(b"vide", b"soun")), m4a(tracks=()), m4a()[:60], amr()[:-1], b"#!AMR-NB\n" + bytes(20),
        b"#!AMR_MC1.0\n" + bytes(20), b"\0\0\0\x08ftyp" * 3, b"\0\0\0\0ftyp", b"\0\0\0\x01ftyp" + bytes(8),
    ],
)
def test_s17_anything_else_is_refused(upload: bytes) -> None:
    with pytest.raises(Refusal, match="media_unreadable"):
        recognised(upload)


def test_s17_a_picture_of_too_many_points_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_MOST_PIXELS", 64 * 32 - 1)
    with pytest.raises(Refusal, match="media_unreadable"):
        recognised(picture())


def test_s17_a_voice_clip_of_too_many_bytes_is_refused() -> None:
    with pytest.raises(Refusal, match="too_large"):
        recognised(wav(200_000))
