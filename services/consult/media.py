"""Pictures and voice clips of a conversation (§17): recognised by their bytes and never by what the sender calls them,
then sealed in `media: {_id: media_id, visit_id, content_type, sealed}`, with the conversation's key (§31, §32).

A picture is drawn anew, so that nothing but the picture is kept. A voice clip is kept as it was recorded, when all
of it reads as one of four containers; names and places that phones write into M4A and WAV are blanked.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageOps
from pymongo import WriteConcern
from pymongo.database import Database

from eventkit.events import Refusal
from eventkit.vault import Vault

LARGEST_PICTURE = 8 << 20
LARGEST_VOICE = 2 << 20  # a minute of 16 kHz PCM
_PICTURES = ("JPEG", "PNG", "WEBP")
_MOST_PIXELS = 60_000_000
_LONGEST_SIDE = 2560
_QUALITY = 88
_AMR = {
    b"#!AMR\n": (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0),
    b"#!AMR-WB\n": (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0),
}
_NESTED = (b"moov", b"trak", b"mdia")
_PRIVATE = (b"udta", b"meta", b"uuid")


@dataclass(frozen=True, slots=True)
class Media:
    """`milliseconds` of a voice clip, 0 of a picture."""

    kind: Literal["picture", "voice"]
    content_type: str
    content: bytes
    milliseconds: int = 0


def recognised(upload: bytes) -> Media:
    """What was uploaded, cleaned. Raises Refusal `media_unreadable`, `too_large`."""
    try:
        if upload.startswith(b"OggS"):
            found = _ogg(upload)
        elif upload.startswith(b"RIFF") and upload[8:12] == b"WAVE":
            found = _wav(upload)
        elif upload[4:8] == b"ftyp":
            found = _m4a(upload)
        elif upload.startswith(b"#!AMR"):
            found = _amr(upload)
        else:
            return Media("picture", "image/jpeg", _picture(upload))
    except Refusal:
        raise
    except Exception as error:  # a decoder fed with anything raises anything
        raise Refusal("media_unreadable") from error
    if len(upload) > LARGEST_VOICE:
        raise Refusal("too_large")
    return found


def _picture(upload: bytes) -> bytes:
    """JPEG, upright, no longer than a screen needs, without EXIF (place, device, time)."""
    with Image.open(io.BytesIO(upload), formats=_PICTURES) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise Refusal("media_unreadable")
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    bare = Image.new("RGB", upright.size)
    bare.paste(upright)
    drawn = io.BytesIO()
    bare.save(drawn, "JPEG", quality=_QUALITY)
    return drawn.getvalue()


def _ogg(upload: bytes) -> Media:
    """Opus in Ogg (RFC 7845): whole pages of one stream; its last position less the pre-skip is the time at 48 kHz."""
    place, position, first = 0, 0, b""
    serials: set[int] = set()
    while place < len(upload):
        capture, version, _, granule, serial, _, _, segments = struct.unpack_from("<4sBBqIIIB", upload, place)
        lacing = upload[place + 27 : place + 27 + segments]
        body = place + 27 + segments
        place = body + sum(lacing)
        if capture != b"OggS" or version or len(lacing) != segments or place > len(upload):
            raise Refusal("media_unreadable")
        first = first or upload[body:place]
        serials.add(serial)
        position = max(position, granule)
    if not first.startswith(b"OpusHead") or len(serials) != 1:
        raise Refusal("media_unreadable")
    (pre_skip,) = struct.unpack_from("<H", first, 10)
    return Media("voice", "audio/ogg", upload, (position - pre_skip) // 48)


def _wav(upload: bytes) -> Media:
    """PCM, written anew with nothing but its format and its sound."""
    chunks: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(upload):
        name, size = struct.unpack_from("<4sI", upload, place)
        chunks.setdefault(name, upload[place + 8 : place + 8 + size])
        if len(chunks[name]) < size and name == b"data":
            raise Refusal("media_unreadable")
        place += 8 + size + size % 2
    layout, sound = chunks[b"fmt "][:16], chunks[b"data"]
    coding, channels, rate, _, block, bits = struct.unpack("<HHIIHH", layout)
    if coding != 1 or channels not in (1, 2) or bits not in (8, 16) or block != channels * bits // 8:
        raise Refusal("media_unreadable")
    sound = sound[: len(sound) // block * block]
    padded = sound + b"\0" * (len(sound) % 2)
    head = struct.pack("<4sI4s4sI", b"RIFF", 4 + 24 + 8 + len(padded), b"WAVE", b"fmt ", 16)
    plain = head + layout + struct.pack("<4sI", b"data", len(sound)) + padded
    return Media("voice", "audio/wav", plain, len(sound) * 1000 // (rate * block))


def _m4a(upload: bytes) -> Media:
    """MPEG-4 with one sound track and no picture; boxes that tell where and by whom are turned into free space, so that
    everything else stays where the tables say it is."""
    plain = bytearray(upload)
    duration, tracks = 0, []
    for name, start, body, end in list(_boxes(upload, 0, len(upload))):
        if name in _PRIVATE:
            plain[start + 4 : start + 8] = b"free"
            plain[body:end] = bytes(end - body)
        elif name == b"hdlr":
            tracks.append(upload[body + 8 : body + 12])
        elif name == b"mvhd":
            wide = upload[body] == 1
            scale, length = struct.unpack_from(">IQ" if wide else ">II", upload, body + (20 if wide else 12))
            duration = length * 1000 // scale
    if tracks != [b"soun"]:
        raise Refusal("media_unreadable")
    return Media("voice", "audio/mp4", bytes(plain), duration)


def _boxes(upload: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(name, start, start of the body, end) of each box, and of the boxes in those that lead to a track."""
    while place < end:
        size, name = struct.unpack_from(">I4s", upload, place)
        body = place + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", upload, body)
            body += 8
        last = end if size == 0 else place + size
        if last < body or last > end:
            raise Refusal("media_unreadable")
        yield name, place, body, last
        if name in _NESTED:
            yield from _boxes(upload, body, last)
        place = last


def _amr(upload: bytes) -> Media:
    """Frames of 20 ms, whose first byte says how long they are; every byte must be of one."""
    head = b"#!AMR-WB\n" if upload.startswith(b"#!AMR-WB\n") else b"#!AMR\n"
    place, frames = len(head), 0
    while place < len(upload):
        place += 1 + _AMR[head][upload[place] >> 3 & 15]
        frames += 1
    if not upload.startswith(head) or place != len(upload):
        raise Refusal("media_unreadable")
    return Media("voice", "audio/amr-wb" if b"WB" in head else "audio/amr", upload, frames * 20)


class MediaFiles:
    def __init__(self, database: Database[dict[str, Any]], vault: Vault) -> None:
        self._media = database.get_collection("media", write_concern=WriteConcern(w="majority", j=True))
        self._vault = vault

    def keep(self, media_id: str, visit_id: str, media: Media) -> None:
        """Before the event that names it: a file without an event is harmless, an event without a file is not."""
        self._media.update_one(
            {"_id": media_id},
            {"$setOnInsert": {
                "visit_id": visit_id,
                "content_type": media.content_type,
                "sealed": self._vault.seal_bytes(visit_id, media.content, _place(media_id)),
            }},
            upsert=True,
        )

    def read(self, media_id: str) -> tuple[str, bytes]:
        """(content type, content). Raises Refusal `not_found` for one that is not there or whose
        conversation is erased."""
        row = self._media.find_one({"_id": media_id})
        content = self._vault.open_bytes(row["visit_id"], bytes(row["sealed"]), _place(media_id)) if row else None
        if row is None or content is None:
            raise Refusal("not_found")
        return row["content_type"], content


def _place(media_id: str) -> str:
    return f"media/{media_id}"
