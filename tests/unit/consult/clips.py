"""Voice clips and pictures as phones make them, built here byte by byte."""

from __future__ import annotations

import io
import struct

from PIL import Image


def ogg(milliseconds: int = 3000, codec: bytes = b"OpusHead", serials: tuple[int, int] = (7, 7)) -> bytes:
    head = codec + struct.pack("<BBHIhB", 1, 1, 312, 48000, 0, 0)
    pages = [(2, 0, serials[0], head), (0, 0, serials[0], b"OpusTags" + struct.pack("<II", 0, 0)),
             (4, milliseconds * 48 + 312, serials[1], b"\x42" * 200)]
    return b"".join(
        struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, serial, number, 0, 1) + bytes([len(body)]) + body
        for number, (flags, position, serial, body) in enumerate(pages)
    )


def wav(milliseconds: int = 3000, coding: int = 1, note: bytes = b"") -> bytes:
    layout = struct.pack("<HHIIHH", coding, 1, 8000, 16000, 2, 16)
    sound = b"\1\2" * (8 * milliseconds)
    chunks = struct.pack("<4sI", b"fmt ", 16) + layout
    if note:
        chunks += struct.pack("<4sI", b"LIST", len(note)) + note
    chunks += struct.pack("<4sI", b"data", len(sound)) + sound
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def m4a(milliseconds: int = 3000, tracks: tuple[bytes, ...] = (b"soun",), note: bytes = b"") -> bytes:
    movie = box(b"mvhd", bytes(12) + struct.pack(">II", 1000, milliseconds) + bytes(80))
    for track in tracks:
        movie += box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + track + bytes(12))))
    if note:
        movie += box(b"udta", note)
    return box(b"ftyp", b"M4A \0\0\0\0") + box(b"moov", movie) + box(b"mdat", b"\x21" * 64)


def amr(milliseconds: int = 3000) -> bytes:
    return b"#!AMR\n" + (b"\x3c" + bytes(31)) * (milliseconds // 20)


def amr_wb(milliseconds: int = 3000) -> bytes:
    return b"#!AMR-WB\n" + (b"\x04" + bytes(17)) * (milliseconds // 20)


def picture(kind: str = "JPEG", size: tuple[int, int] = (64, 32), place: str = "") -> bytes:
    image = Image.new("RGB", size, (200, 30, 40))
    exif = Image.Exif()
    if place:
        exif[0x010E] = place
        exif[0x0112] = 6  # lies on its side
    written = io.BytesIO()
    image.save(written, kind, exif=exif)
    return written.getvalue()
