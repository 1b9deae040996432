"""What the API says about itself, and the socket under the live side."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
import yaml
from flask.testing import FlaskClient

from eventkit.auth import Verifier
from eventkit.web import create_app
from services.consult import live
from services.consult.diagnoses import LIST, Diagnoses
from services.consult.domain import ICD10
from services.consult.http import routes


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    nobody = cast(Verifier, None)
    return create_app("consult", [routes], nobody, lambda: (True, {}), str).test_client()


BINARY = {"schema": {"type": "string", "format": "binary"}}


def operations(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in description["paths"].items():
        for method in ("get", "post"):
            if method in item:
                yield f"{method} {path}", item[method]


def test_every_operation_has_examples_and_its_problems(client: FlaskClient) -> None:
    description = client.get("/api/consult/openapi.json").json
    assert description is not None
    found = dict(operations(description))
    assert "get /api/consult/visits/{visit_id}/live" in found
    assert len(found) == 19
    for name, operation in found.items():
        assert operation["summary"], name
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                if status != "default" and content != BINARY:
                    assert "example" in content or "examples" in content, (name, status)
        if "requestBody" in operation:
            contents = [content for content in operation["requestBody"]["content"].values() if content != BINARY]
            assert all("example" in content for content in contents), name
        if "notices" not in name:
            assert {"401", "403"} <= set(operation["responses"]), name


@pytest.mark.parametrize("path", ["visits", "queue", "visits/v1", "visits/v1/messages"])
def test_nothing_is_shown_without_a_token(client: FlaskClient, path: str) -> None:
    answer = client.get(f"/api/consult/{path}")
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")


def test_28_the_hospitals_list_of_diagnoses_finds_names_and_codes() -> None:
    listed = Diagnoses()
    assert (listed.code_of("慢性胃炎"), listed.code_of(" 慢性胃炎 "), listed.code_of("怪病")) == ("K29.5", "K29.5", "")
    assert listed.like("胃")[0]["diagnosis"].startswith("胃")
    assert {"diagnosis": "偏头痛", "icd10": "G43.9"} in listed.like("头痛")
    assert {found["icd10"][:3] for found in listed.like("k29")} == {"K29"}
    assert len(listed.like("慢")) <= 20


def test_28_every_code_of_the_list_has_the_form_of_icd_10() -> None:
    codes = yaml.safe_load(LIST.read_text(encoding="utf-8")).values()
    assert [code for code in codes if not ICD10.fullmatch(code)] == []


def test_the_live_side_is_a_websocket_only(client: FlaskClient) -> None:
    answer = client.get("/api/consult/visits/v1/live")
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")


def test_a_send_that_stalls_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STALLED_SECONDS", 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        shared = live.SharedSocket(ours)
        with pytest.raises(OSError, match="unavailable"):
            shared.send(b"x" * 10_000_000)


def test_a_flood_of_frames_ends_the_connection() -> None:
    frames = live._Frames()
    for number in range(live.WAITING_FRAMES):
        frames.append(number)
    with pytest.raises(OSError, match="too many"):
        frames.append("one more")
