"""Bad input (§5: every refusal says why): whatever is sent, the answer is a problem (RFC 9457) with a code and a
sentence, never a 5xx, and nothing that was sent is left to break what is read later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from devstack.stack import Stack
from devstack.story.cast import log_in_as
from devstack.story.stage import Stage
from eventkit.ids import new_id
from tests.e2e.doors import Answer, Door, Operation, at_once, doors, operations, places, replaced, without
from tests.e2e.families import Family, fitting_body, is_led_to_by_an_id

OPERATIONS = operations()
Bodies = dict[Operation, Any]
WITH_BODY = [operation for operation in OPERATIONS if operation.example is not None]
LAST = ("decline", "finish", "cancellation", "withdrawal", "review")  # what may end the visit that is used
DEEP = 100_000
BODIES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"x"',
    "a number": b"3",
    "half a body": b'{"a":',
    "no JSON": b"phone=19900000001",
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a NUL": b"\0",
}
BEYOND_A_PARSER = {
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "a deep field": b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a huge number": b'{"a": 1' + b"0" * 10_000 + b"}",
}
TOO_LARGE = b'{"a": "' + b"x" * 2_000_000 + b'"}'
CONTENT_TYPES = ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "x", "")
NEVER: tuple[Any, ...] = (None, [], {}, [[]], {"$ne": None})
ODD: tuple[Any, ...] = (
    True, -1, 0, 3.5, 2**70, 1e308, "", " ", "x" * 100_000, "\0", "\ud800", "🙂\u202e", "2026-02-30", "{0.__class__}",
)  # fmt: skip
PATHS = ("%00", "%FF", "%F0%9F%99%82", "$ne", "{0}", "a" * 1500, "fee-", "rf-fee-", "..%3B")
QUERIES = (
    "?zebra=1", "?day=2026-13-40", "?day=x&day=y", "?after=-1", "?after=99999999999999999999", "?after=%00",
    "?visit_id[$ne]=1", "?doctor_id=%FF", "?kind=%00", "?weight_g=-5", "?weight_g=x", "?department_id=" + "x" * 500,
)  # fmt: skip
KEYS = ("", " ", "k" * 4000, "schlüssel")


@dataclass(frozen=True)
class Attempt:
    """What was answered to whom may ask, but asks badly."""

    operation: Operation
    what: str
    answer: Answer

    def __str__(self) -> str:
        told = self.answer.code or self.answer.content[:200]
        return f"{self.operation} with {self.what}: {self.answer.status} {told!r}"


@pytest.fixture(scope="module", params=["gateway", "service"])
def door(request: pytest.FixtureRequest, stack: Stack) -> Door:
    return doors(stack.base)[request.param]


@pytest.fixture(scope="module")
def tokens(stage: Stage, stack: Stack, talking: Family) -> dict[str, str]:
    secret = (stack.home / "secrets" / "clients" / "payment").read_text()
    grant = {"grant": "client", "client_id": "payment", "client_secret": secret}
    return {
        "patient": talking.api.token,
        "doctor": talking.doctor.token,
        "service": stage.api().post("/api/registration/tokens", grant).json()["access_token"],
    } | {role: log_in_as(stage, role).token for role in ("pharmacist", "cashier", "operator")}


@pytest.fixture(scope="module")
def good(talking: Family) -> Bodies:
    """A body for each operation that it would take."""
    return {operation: fitting_body(operation, talking.ids, talking) for operation in WITH_BODY}


@pytest.fixture
def attempt(door: Door, tokens: dict[str, str], talking: Family, good: Bodies) -> Any:
    """Knock as somebody who may, with the ids of a visit that goes on."""

    nobodys = {name: new_id() for operation in OPERATIONS for name in operation.names}

    def attempt(operation: Operation, what: str, ids: dict[str, str] | None = None, **sent: Any) -> Attempt:
        token = next((f"Bearer {tokens[role]}" for role in operation.roles or () if role in tokens), None)
        if "body" not in sent and operation.example is not None:
            sent["body"] = json.dumps(good[operation]).encode()
        return Attempt(operation, what, door.ask(operation, nobodys | talking.ids | (ids or {}), token, **sent))

    return attempt


def is_refusal(attempt: Attempt) -> bool:
    return attempt.answer.status >= 400 and not attempt.answer.failed and attempt.answer.is_problem


def is_answer(attempt: Attempt) -> bool:
    """Taken, or refused as a problem."""
    return attempt.answer.status < 400 or is_refusal(attempt)


def test_a_body_of_another_shape_is_refused(attempt: Any) -> None:
    """§5: missing, empty, broken, in another encoding: told in words."""
    tasks = [(o, what, body) for o in WITH_BODY for what, body in BODIES.items() if body or o.must_say]
    attempts = at_once(lambda task: attempt(task[0], task[1], body=task[2]), tasks)
    assert [str(a) for a in attempts if not is_refusal(a)] == []


def test_a_body_that_breaks_parsers_is_refused(attempt: Any) -> None:
    """§5: deeper and longer than a parser goes."""
    tasks = [(operation, what, body) for operation in WITH_BODY for what, body in BEYOND_A_PARSER.items()]
    attempts = at_once(lambda task: attempt(task[0], task[1], body=task[2]), tasks)
    assert [str(a) for a in attempts if not is_refusal(a)] == []


def test_a_body_that_is_too_large_is_refused(stack: Stack, attempt: Any, door: Door) -> None:
    """§5: by the gateway, before a service sees it. (A service hangs up on who goes on sending.)"""
    if door.name == "gateway":
        attempts = [attempt(operation, "two megabytes", body=TOO_LARGE) for operation in WITH_BODY]
        assert {a.answer.code for a in attempts} == {"too_large"}, [str(a) for a in attempts]


@pytest.mark.parametrize("must_say", [True, False])
def test_another_content_type_is_refused(attempt: Any, must_say: bool) -> None:
    """§5: a form or a text is no JSON, even when it reads like it; and is not passed over, either."""
    tasks = [(operation, kind) for operation in WITH_BODY for kind in CONTENT_TYPES if operation.must_say == must_say]
    attempts = at_once(lambda task: attempt(task[0], task[1], headers={"Content-Type": task[1]}), tasks)
    assert tasks
    assert [str(a) for a in attempts if not is_refusal(a)] == []


def test_fields_of_another_kind_are_refused(attempt: Any, good: Bodies) -> None:
    """§5: every field in turn null, a list or an object; left out; and one that nobody knows."""
    tasks = list(wrong_fields(good))
    attempts = at_once(lambda task: attempt(task[0], task[1], body=json.dumps(task[2]).encode()), tasks)
    assert len(attempts) > 200
    assert [str(a) for a in attempts if not is_refusal(a)] == []


def wrong_fields(good: Bodies) -> Iterator[tuple[Operation, str, Any]]:
    for operation, body in good.items():
        if str(operation) != "POST /api/pharmacy/notices/courier":  # its sandbox alone can sign
            yield operation, "an unknown field", {**body, "zebra": 1}
        for place in places(body):
            here = ".".join(map(str, place))
            found = body
            for name in place:
                found = found[name]
            for value in NEVER:
                if type(found) is not type(value) or value:  # empty is not of another kind
                    yield operation, f"{here} = {value!r}", replaced(body, place, value)


def test_odd_values_break_nothing(
    attempt: Any, good: Bodies, talking: Family, tokens: dict[str, str]
) -> None:
    """§5: numbers out of range, half a character, texts without end: refused or taken, and readable afterwards."""
    tasks = [
        (operation, f"{place} = {str(value)[:20]!a}", replaced(good[operation], place, value))
        for operation in sorted(WITH_BODY, key=lambda operation: operation.path.endswith(LAST))
        for place in places(good[operation])
        for value in ODD
    ] + [(o, f"without {place}", without(body, place)) for o, body in good.items() for place in places(body)]
    attempts = at_once(lambda task: attempt(task[0], task[1], body=json.dumps(task[2]).encode()), tasks)
    assert len(attempts) > 500
    assert [str(a) for a in attempts if not is_answer(a)] == []
    theirs = [o for o in OPERATIONS if o.method == "GET" and o.names and talking.ids.keys() >= set(o.names)]
    known = [o for o in theirs if not o.live and tokens.keys() & {*(o.roles or ())}]
    unpaid = "parcel"  # there is none of a prescription that is not paid
    readable = [o for o in known if is_led_to_by_an_id(o) and not o.path.endswith(unpaid)]
    read = at_once(lambda operation: attempt(operation, "nothing odd"), readable)
    assert [str(a) for a in read if a.answer.status != 200] == []


def test_odd_paths_queries_and_keys_break_nothing(attempt: Any) -> None:
    """§5, §31: what is no id names nothing; a query or a key that cannot be read is told so; and nothing is a 5xx."""
    paths: list[tuple[Operation, Any]]
    paths = [(o, {"ids": dict.fromkeys(o.names, odd)}) for o in OPERATIONS for odd in PATHS if o.names and not o.live]
    queries: list[tuple[Operation, Any]]
    queries = [(o, {"query": query}) for o in OPERATIONS for query in QUERIES if o.method == "GET" and not o.live]
    posts = [o for o in OPERATIONS if o.method == "POST"]
    keys: list[tuple[Operation, Any]]
    keys = [(o, {"headers": {"Idempotency-Key": key.encode()}}) for o in posts for key in KEYS]
    attempts = at_once(lambda task: attempt(task[0], str(task[1])[:80], **task[1]), paths + queries + keys)
    assert [str(a) for a in attempts if not is_answer(a)] == []

