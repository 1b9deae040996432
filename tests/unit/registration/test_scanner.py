"""§10: what the virus scanner says counts, and silence is not a yes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from eventkit.auth import Caller
from eventkit.calls import Unanswered
from eventkit.events import Refusal
from services.registration.scanner import Scanner
from tests.unit.registration.fake_clamd import EICAR
from tests.unit.registration.test_handlers import Story
from tests.unit.registration.test_http import picture


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    command = [sys.executable, "-m", "tests.unit.registration.fake_clamd"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Scanner(f"127.0.0.1:{int(process.stdout.readline())}")
        process.terminate()


@pytest.mark.parametrize("upload", [b"", b"x", b"x" * ((64 << 10) + 1)])
def test_s10_what_is_clean_passes(scanner: Scanner, upload: bytes) -> None:
    scanner.check(upload)


def test_s10_eicar_is_refused_wherever_it_stands(scanner: Scanner) -> None:
    with pytest.raises(Refusal, match="photo_infected"):
        scanner.check(b"x" * (64 << 10) + EICAR)


def test_s10_an_infected_photo_is_not_kept(scanner: Scanner) -> None:
    story = Story()
    story.people._scanner = scanner
    caller = Caller(story.account, frozenset({"patient"}))
    with pytest.raises(Refusal, match="photo_infected"):
        story.people.add_photo(story.asked(story.account), caller, story.patient_id, picture() + EICAR)
    assert story.photos.kept == {}
    assert story.people.add_photo(story.asked(story.account), caller, story.patient_id, picture()).status == 201


def test_s10_no_verdict_is_no_yes(scanner: Scanner) -> None:
    with pytest.raises(Unanswered):
        scanner.check(b"mute")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = taken.getsockname()[1]
    with pytest.raises(Unanswered):
        Scanner(f"127.0.0.1:{closed}").check(b"x")


def test_s10_where_no_scanner_is_named_nothing_is_scanned() -> None:
    Scanner().check(EICAR)
    with pytest.raises(ValueError, match="invalid literal"):
        Scanner("clamd")
