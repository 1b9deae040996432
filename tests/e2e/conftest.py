"""A whole stack for the end-to-end tests: every service, worker, processor and partner, with data of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.places import TOOLS
from devstack.ports import free_base
from devstack.stack import Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with Stack(TOOLS / "test" / "e2e", free_base()).start(wipe=True) as stack:
        yield stack
