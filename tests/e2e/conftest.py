"""A whole stack for the end-to-end tests: every service, worker, processor and partner, with data of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devstack.places import TOOLS
from devstack.ports import free_base
from devstack.stack import Stack
from devstack.story.scenes import a_new_morning
from devstack.story.stage import Api, Stage
from tests.e2e.families import Family, a_family
from tests.e2e.heard import Said


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What was left behind is looked at when everybody has gone."""
    items.sort(key=lambda item: item.path.name == "test_privacy.py")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with Stack(TOOLS / "test" / "e2e", free_base()).start(wipe=True) as stack:
        yield stack


@pytest.fixture(scope="session", autouse=True)
def said() -> Iterator[Said]:
    """Every personal value that any test of the run says to the API, to be looked for afterwards (§31)."""
    said = Said()
    post, get = Api.post, Api.get

    def posted(self: Api, path: str, body: Any = None, **options: Any) -> Any:
        said.note(body)
        return post(self, path, body, **options)

    def got(self: Api, path: str, **params: Any) -> Any:
        answer = get(self, path, **params)
        if path.endswith("/messages"):  # what was said over a WebSocket
            said.note(answer.json())
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "post", posted)
        patch.setattr(Api, "get", got)
        yield said


@pytest.fixture(scope="session")
def stage(stack: Stack) -> Stage:
    return Stage.of(stack.home, stack.base)


@pytest.fixture(scope="session")
def families(stage: Stage) -> tuple[Family, Family]:
    """Two families whose visits have everything and are over, each with a doctor of its own."""
    a_new_morning(stage)
    return a_family(stage, "苇莺", doctor=0), a_family(stage, "戴胜", doctor=1)


@pytest.fixture(scope="session")
def talking(stage: Stage, families: tuple[Family, Family]) -> Family:
    """A third family, whose doctor has accepted and prescribed, and whose visit goes on."""
    return a_family(stage, "夜鹭", doctor=2, ends=False)
