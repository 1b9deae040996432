"""What personal values were said in a run, and whether they stand in some bytes, however they are written there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

PERSONAL = {
    "name", "id_number", "phone", "card_no", "chief_complaint", "present_illness", "past_history", "text", "diagnosis",
    "usage", "recipient", "address", "complaint", "advice", "note",
}  # fmt: skip
_NUMBER = re.compile(rb"(?<![0-9A-Za-z])[0-9]{8,18}X?(?![0-9A-Za-z])")
_ESCAPED = re.compile(rb"(?:\\\\?u[0-9a-fA-F]{4})+")
_WORDS = re.compile(rb"(?:[\xe3-\xe9][\x80-\xbf]{2}){2,}")  # Han characters in UTF-8


class Said:
    """All that was said under a name that is personal, anywhere in a body: whole numbers, and the longest words of a
    text."""

    def __init__(self) -> None:
        self.numbers: set[bytes] = set()
        self.words: set[bytes] = set()

    def note(self, body: Any, name: str = "") -> None:
        if isinstance(body, dict):
            for key, value in body.items():
                self.note(value, key)
        elif isinstance(body, list):
            for value in body:
                self.note(value, name)
        elif isinstance(body, str) and name in PERSONAL:
            self.numbers.update(_NUMBER.findall(body.encode()))
            self.words.update(sorted(_WORDS.findall(body.encode()), key=len)[-1:])

    def found_in(self, content: bytes) -> set[str]:
        """Those of the values that stand in `content`, in UTF-8 or as \\u escapes."""
        runs = {re.sub(rb"\\\\?u", rb"\\u", run) for run in _ESCAPED.findall(content)}
        words = set(_WORDS.findall(content)) | {run.decode("unicode_escape").encode(errors="replace") for run in runs}
        text = b" ".join(words)
        found = self.numbers & set(_NUMBER.findall(content)) | {word for word in self.words if word in text}
        return {value.decode() for value in found}


class Needles:
    """A few values, looked for in every way in which a careless hand writes them: escaped, quoted, encoded, and hashed
    without a key, which hides no phone and no ID number."""

    def __init__(self, values: Iterable[str]) -> None:
        self.forms = {form: value for value in values for form in _forms(value)}

    def found_in(self, content: bytes) -> set[str]:
        return {value for form, value in self.forms.items() if form in content}


def _forms(value: str) -> Iterable[bytes]:
    plain = value.encode()
    yield plain
    for before in range(3):  # where in a text in Base64 it may stand
        encoded = base64.b64encode(b" " * before + plain).rstrip(b"=")
        yield encoded[(before * 8 + 5) // 6 : -1]
    if value.isascii():
        for digest in (hashlib.sha256(plain), hashlib.md5(plain)):
            yield digest.hexdigest().encode()
            yield digest.digest()
    else:
        escaped = json.dumps(value)[1:-1]
        yield escaped.encode()
        yield escaped.replace("\\", "\\\\").encode()
        yield quote(value).encode()
        yield repr(plain)[2:-1].encode()


async def partitions(kafka: str) -> list[TopicPartition]:
    """Of every topic that is there. (A consumer knows only those it has asked for.)"""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        described = await admin.describe_topics(await admin.list_topics())
    finally:
        await admin.close()
    return [TopicPartition(topic["topic"], place["partition"]) for topic in described for place in topic["partitions"]]
