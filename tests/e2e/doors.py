"""Every operation that `gateway/openapi.json` names, and how to knock: at the gateway, or at the service itself."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import urllib3

from devstack import ports
from devstack.places import REPO

PROBLEM = "application/problem+json"
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
THREADS = 6
NOT_IN_THIS_STACK = "calls_unavailable"  # there is no LiveKit server here, which is told before all else

T = TypeVar("T")
R = TypeVar("R")

# A service closes connections that were idle; asked twice with one Idempotency-Key, it does nothing twice.
_again = urllib3.Retry(2, redirect=0, status=0, allowed_methods=None)
_pool = urllib3.PoolManager(maxsize=THREADS, retries=_again, timeout=30)


@dataclass(frozen=True, eq=False)
class Operation:
    """`roles` is None for what needs no token. `example`: of a JSON body, which `must_say`
    something when a field is required. `upload`: the content type of a file."""

    method: str
    path: str
    roles: tuple[str, ...] | None
    example: Any
    upload: str
    must_say: bool = False
    query: str = ""  # with what it cannot do without

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def service(self) -> str:
        return self.path.split("/")[2]

    @property
    def names(self) -> list[str]:
        """The ids in its path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def live(self) -> bool:
        return self.path.endswith("/live")


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    content: bytes

    @property
    def body(self) -> Any:
        """Without the one member that says where the client knocked."""
        try:
            body = json.loads(self.content)
        except ValueError:
            return self.content
        if isinstance(body, dict):
            body.pop("instance", None)
        return body

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if self.kind == PROBLEM else ""

    @property
    def failed(self) -> bool:
        return self.status >= 500 and self.code != NOT_IN_THIS_STACK

    @property
    def is_problem(self) -> bool:
        """RFC 9457, with what a patient reads."""
        members = ("type", "title", "code", "detail", "detail_en", "next", "next_en")
        return self.kind == PROBLEM and self.body["status"] == self.status and all(self.body.get(m) for m in members)


def operations() -> list[Operation]:
    document = json.loads((REPO / "gateway" / "openapi.json").read_bytes())
    return [
        _operation(method.upper(), path, described, document["components"]["schemas"])
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


def _operation(method: str, path: str, described: dict[str, Any], schemas: dict[str, Any]) -> Operation:
    roles = tuple(described["x-roles"]) if "x-roles" in described else None
    if path.endswith("/live"):  # a WebSocket, whose roles stand in its problems
        roles = ("patient", "doctor")
    assert (roles is None) == ("security" not in described), f"{method} {path}: security without roles"
    contents = described.get("requestBody", {}).get("content", {})
    example, must_say = None, False
    if shown := contents.get("application/json"):
        example = shown["example"] if "example" in shown else next(iter(shown["examples"].values()))["value"]
        must_say = bool(schemas[shown["schema"]["$ref"].rpartition("/")[2]].get("required"))
    upload = next((kind for kind in contents if kind not in ("application/json", "multipart/form-data")), "")
    needed = [p for p in described.get("parameters", []) if p.get("in") == "query" and p.get("required")]
    query = "?" + urlencode({p["name"]: p.get("example", "0" * 64) for p in needed}) if needed else ""
    return Operation(method, path, roles, example, upload, must_say, query)


class Door:
    """`url(service)` is where a service is reached."""

    def __init__(self, name: str, url: Callable[[str], str]) -> None:
        self.name = name
        self._url = url

    def ask(
        self,
        operation: Operation,
        ids: Mapping[str, str],
        token: str | None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: str | None = None,
    ) -> Answer:
        """`token` is the whole Authorization header. The body is the example unless given."""
        sent = {"Idempotency-Key": uuid.uuid4().hex} if operation.method != "GET" else {}
        if body is None and operation.example is not None:
            body = json.dumps(operation.example).encode()
        if body is not None:
            sent["Content-Type"] = operation.upload or "application/json"
        if token is not None:
            sent["Authorization"] = token
        if operation.live:
            sent |= UPGRADE
        sent |= headers or {}
        url = self._url(operation.service) + operation.path.format(**ids)
        url += operation.query if query is None else query
        answer = _pool.request(
            operation.method, url, body=body, headers=sent, redirect=False, preload_content=not operation.live
        )
        if operation.live:  # what was a WebSocket is no connection for others
            with contextlib.closing(answer):
                content = b"" if answer.status == 101 else answer.read()
        else:
            content = answer.data
        return Answer(answer.status, answer.headers.get("Content-Type", ""), content)


def doors(base: int) -> dict[str, Door]:
    return {
        "gateway": Door("gateway", lambda _: ports.url("gateway", base)),
        "service": Door("service", lambda service: ports.url(service, base)),
    }


def at_once(work: Callable[[T], R], tasks: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, tasks))


def without(example: Any, place: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(example)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    del inner[place[-1]]
    return changed


def replaced(example: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(example)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return changed


def places(example: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body that holds something."""
    inside = example.items() if isinstance(example, dict) else enumerate(example) if isinstance(example, list) else ()
    found = [here] if here else []
    for name, value in inside:
        found += places(value, (*here, name))
    return found
