"""The HTTP kit: refusals as problems, tokens verified here, keys demanded, operations that document themselves."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from flask.testing import FlaskClient
from flask.views import MethodView
from marshmallow import Schema, fields

from eventkit.auth import AUDIENCE, Caller, InvalidToken, Verifier
from eventkit.events import Refusal
from eventkit.problems import Catalogue, Problem
from eventkit.store import StoreUnavailable
from eventkit.web import Routes, caller, command_request, create_app

ISSUER = "https://fuzhen.example"
KEY = ec.generate_private_key(ec.SECP256R1())
CATALOGUE = Catalogue(
    [Problem("slot_taken", 409, "{slot}号已被约走。", "Slot {slot} is taken.", "请另选。", "Pick another.")]
)


class KnownKey(Verifier):
    """Verifies with KEY, without fetching it over HTTP."""

    def __init__(self) -> None:
        known = SimpleNamespace(key=KEY.public_key())
        super().__init__(SimpleNamespace(get_signing_key_from_jwt=lambda token: known), ISSUER)  # type: ignore[arg-type]


def token(key: Any = KEY, algorithm: str = "ES256", **change: Any) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "a-1", "roles": ["patient"], "iat": now, "exp": now + 60}
    claims["jti"] = "j"
    return jwt.encode({k: v for k, v in (claims | change).items() if v is not None}, key, algorithm=algorithm)


class VisitSchema(Schema):
    slot = fields.Integer(required=True)
    note = fields.String()


def app() -> Flask:
    routes = Routes("registration", CATALOGUE, "test")

    @routes.route("/visits")
    class Visits(MethodView):
        @routes.arguments(VisitSchema, example={"slot": 3})
        @routes.response(201, VisitSchema, example={"slot": 3})
        @routes.access("patient")
        @routes.command
        @routes.refuses("slot_taken")
        def post(self, body: dict[str, Any]) -> Any:
            if body["slot"] == 4:
                raise Refusal("slot_taken", slot=4)
            if body["slot"] == 5:
                raise StoreUnavailable("down")
            if body["slot"] == 6:
                raise ZeroDivisionError
            request = command_request(body)
            assert (request.caller, request.route) == (caller().subject, "POST /api/registration/visits")
            return {"slot": body["slot"]}

    return create_app("registration", [routes], KnownKey(), lambda: (True, {}), str)


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return app().test_client()


def post(client: FlaskClient, body: Any, **headers: str) -> Any:
    defaults = {"Authorization": f"Bearer {token()}", "Idempotency-Key": "k"}
    return client.post("/api/registration/visits", json=body, headers={**defaults, **headers})


def test_a_command_is_answered(client: FlaskClient) -> None:
    answer = post(client, {"slot": 3})
    assert (answer.status_code, answer.json) == (201, {"slot": 3})
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_refusal_is_a_problem_in_two_languages_with_a_next_step(client: FlaskClient) -> None:
    answer = post(client, {"slot": 4})
    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"
    assert answer.json == {
        "type": "https://fuzhen.example/problems/slot_taken",
        "title": "slot taken",
        "status": 409,
        "code": "slot_taken",
        "detail": "4号已被约走。",
        "detail_en": "Slot 4 is taken.",
        "next": "请另选。",
        "next_en": "Pick another.",
        "instance": "/api/registration/visits",
    }


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        ({"slot": "x"}, {}, 422, "invalid_input"),
        ({"slot": 3, "paid": True}, {}, 422, "invalid_input"),
        ({"slot": 3}, {"Idempotency-Key": ""}, 400, "idempotency_key_missing"),
        ({"slot": 3}, {"Authorization": ""}, 401, "token_missing"),
        ({"slot": 3}, {"Authorization": "Bearer x.y.z"}, 401, "token_invalid"),
        ({"slot": 5}, {}, 503, "unavailable"),
        ({"slot": 6}, {}, 500, "internal"),
    ],
)
def test_whatever_goes_wrong_is_a_problem_with_a_stable_code(
    client: FlaskClient, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    answer = post(client, body, **headers)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["detail"]
    assert answer.json["next"]


def test_the_caller_of_another_role_is_forbidden(client: FlaskClient) -> None:
    answer = post(client, {"slot": 3}, Authorization=f"Bearer {token(roles=['doctor'])}")
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_unknown_paths_and_methods_and_unreadable_json_are_problems_too(client: FlaskClient) -> None:
    assert client.get("/api/registration/nothing").json["code"] == "not_found"  # type: ignore[index]
    assert client.put("/api/registration/visits").json["code"] == "method_not_allowed"  # type: ignore[index]
    broken = client.post(
        "/api/registration/visits", data="{", content_type="application/json",
        headers={"Authorization": f"Bearer {token()}", "Idempotency-Key": "k"},
    )
    assert broken.json["code"] == "malformed"  # type: ignore[index]


def test_half_a_character_is_malformed(client: FlaskClient) -> None:
    answer = client.post(
        "/api/registration/visits", data=rb'{"slot": 3, "note": "\ud800"}', content_type="application/json",
        headers={"Authorization": f"Bearer {token()}", "Idempotency-Key": "k"},
    )
    assert answer.json["code"] == "malformed"  # type: ignore[index]


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    "forged",
    [
        token(ec.generate_private_key(ec.SECP256R1())),
        token(RSA, "RS256"),
        token("a shared secret of thirty-two bytes..", "HS256"),
        token(None, "none"),
        token(aud="other"),
        token(iss="https://other.example"),
        token(exp=int(time.time()) - 60),
        token(exp=None),
        token(sub=None),
        token(roles="patient"),
        token(roles=[7]),
    ],
    ids=["another key", "RS256", "HS256", "none", "audience", "issuer", "expired", "no exp", "no sub", "roles a string",
         "roles numbers"],
)
def test_a_token_that_proves_nothing_is_refused(forged: str) -> None:
    with pytest.raises(InvalidToken):
        KnownKey().verify(forged)


def test_a_good_token_names_its_caller() -> None:
    assert KnownKey().verify(token()) == Caller("a-1", frozenset({"patient"}), "j")


def test_operations_document_who_may_call_and_what_they_refuse(client: FlaskClient) -> None:
    document = client.get("/api/registration/openapi.json").json
    assert document is not None
    operation = document["paths"]["/api/registration/visits"]["post"]
    assert document["openapi"] == "3.1.0"
    assert operation["x-roles"] == ["patient"]
    assert operation["security"] == [{"bearer": []}]
    assert any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    conflict = operation["responses"]["409"]
    assert conflict["description"] == "busy, slot_taken"
    assert set(conflict["content"]["application/problem+json"]["examples"]) == {"busy", "slot_taken"}
    assert operation["responses"]["201"]["content"]["application/json"]["example"] == {"slot": 3}


def test_a_problem_that_is_not_in_the_catalogue_cannot_be_documented() -> None:
    with pytest.raises(KeyError):
        Routes("x", Catalogue(), "").refuses("nonsense")(lambda: None)
    with pytest.raises(ValueError, match="twice"):
        Catalogue([CATALOGUE["slot_taken"], CATALOGUE["slot_taken"]])
