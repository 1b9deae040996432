"""The document that client developers get: valid OpenAPI 3.1, and every operation with an example and its problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.openapi import TARGET, all_described, merge

DOCUMENT: dict[str, Any] = orjson.loads(TARGET.read_bytes())
PROBLEM = "application/problem+json"
BINARY = {"image/jpeg", "application/octet-stream", "image/png"}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield f"{method.upper()} {path}", operation


def test_the_document_is_valid_openapi_and_what_the_services_describe() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert merge(all_described()) == DOCUMENT, "run python -m gateway.openapi write"


@pytest.mark.parametrize(("name", "operation"), operations(), ids=[name for name, _ in operations()])
def test_an_operation_has_examples_and_its_problem_codes(name: str, operation: dict[str, Any]) -> None:
    contents = [
        (kind, content)
        for status, response in operation["responses"].items()
        if status.startswith("2")
        for kind, content in response.get("content", {}).items()
    ] + list(operation.get("requestBody", {}).get("content", {}).items())
    without = [kind for kind, content in contents if not content.keys() & {"example", "examples"}]
    assert set(without) <= BINARY
    problems = [r["content"][PROBLEM] for r in operation["responses"].values() if PROBLEM in r.get("content", {})]
    assert problems, "an operation says what it may refuse"
    for problem in problems:
        for code, example in problem["examples"].items():
            value = DOCUMENT["components"]["examples"][example["$ref"].rpartition("/")[2]]["value"]
            assert value["code"] == code
            assert all(value[member] for member in ("detail", "detail_en", "next", "next_en"))


def test_every_command_takes_an_idempotency_key() -> None:
    free = {
        "POST /api/registration/login-codes",
        "POST /api/registration/tokens",
        "POST /api/payment/notices/wechatpay",
        "POST /api/pharmacy/notices/courier",
        "POST /api/consult/notices/livekit",
    }
    for name, operation in operations():
        if name.startswith("POST ") and name not in free:
            keys = [p for p in operation.get("parameters", []) if p.get("name") == "Idempotency-Key"]
            assert keys, name
            assert keys[0]["required"], name
