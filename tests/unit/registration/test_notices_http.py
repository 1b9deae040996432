"""PUT and GET /me/preferences, and the two doors of the message provider's sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from partners.front import signed_headers
from partners.sms.http import create
from tests.unit.registration.test_http import Api, api, application, client, story
from tests.unit.registration.test_notices import OPENID

__all__ = ["api", "application", "client", "story"]

PATH = "/api/registration/me/preferences"


def test_preferences_are_chinese_by_text_message_until_set(api: Api, client: FlaskClient) -> None:
    assert api.get("/me/preferences", "a9/patient").json == {
        "language": "zh", "channel": "sms", "wechat_linked": False,
    }
    wished = {"language": "en", "channel": "wechat", "wechat_openid": OPENID}
    answer = client.put(PATH, json=wished, headers=api.headers("a9/patient", None))
    assert (answer.status_code, answer.json) == (200, {"language": "en", "channel": "wechat", "wechat_linked": True})
    assert client.put(PATH, json=wished, headers=api.headers("a9/patient", None)).status_code == 200
    assert api.get("/me/preferences", "a9/patient").json == answer.json
    assert api.get("/me/preferences", "a8/patient").json["channel"] == "sms"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"language": "zh", "channel": "wechat"}, 422, "wechat_unlinked"),
        ({"language": "fr", "channel": "sms"}, 422, "invalid_input"),
        ({"language": "zh", "channel": "pigeon"}, 422, "invalid_input"),
        ({"language": "zh", "channel": "wechat", "wechat_openid": "short"}, 422, "invalid_input"),
        ({"channel": "sms"}, 422, "invalid_input"),
    ],
)
def test_what_are_no_preferences(api: Api, client: FlaskClient, body: Any, status: int, code: str) -> None:
    answer = client.put(PATH, json=body, headers=api.headers("a9/patient", None))
    assert (answer.status_code, (answer.json or {})["code"]) == (status, code)


def test_preferences_are_the_patients_own(api: Api, client: FlaskClient) -> None:
    body = {"language": "zh", "channel": "sms"}
    assert client.put(PATH, json=body).status_code == 401
    assert client.put(PATH, json=body, headers=api.headers("doctor-shen/doctor", None)).status_code == 403


# --- partners/sms

KEY = b"secret"
MESSAGE = {
    "client_msg_id": "m-1", "touser": OPENID, "template_id": "parcel_out",
    "data": {"text": {"value": "您的包裹正在派送"}},
}
SHORT = {"request_id": "m-1", "phone": "19900000001", "template": "parcel_out", "params": {"day": "2026-11-24"}}


class Provider:
    def __init__(self, folder: Path) -> None:
        self.client = create(folder / "sms.sqlite", KEY).test_client()

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        sent = self.client.post(
            path, data=(raw := orjson.dumps(body)), headers=signed_headers(KEY, "POST", path, raw),
            content_type="application/json", environ_overrides={"RAW_URI": path},
        )
        return sent.status_code, sent.json or {}

    def hand(self, path: str) -> Any:
        return (self.client.get(f"/sandbox/{path}").json or {})["messages"]

    def misbehave(self, kind: str, target: str) -> None:
        assert self.client.post("/sandbox/misbehave", json={"kind": kind, "target": target}).status_code < 300


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path)


def test_a_template_message_is_taken_once(provider: Provider) -> None:
    first, again = provider.post("/wechat/templates", MESSAGE), provider.post("/wechat/templates", MESSAGE)
    assert (first[0], again[0], first[1]) == (202, 200, again[1])
    assert first[1]["errcode"] == 0
    other = provider.post("/wechat/templates", {**MESSAGE, "template_id": "parcel_delivered"})
    assert (other[0], other[1]["code"]) == (409, "client_msg_id_reused")
    [message] = provider.hand(f"wechat/messages?openid={OPENID}")
    assert (message["template_id"], message["data"]) == ("parcel_out", MESSAGE["data"])


@pytest.mark.parametrize(
    ("change", "code"),
    [({"touser": "o1"}, "invalid_openid"), ({"data": {"text": "bare"}}, "bad_request"), ({"data": 1}, "bad_request")],
)
def test_what_is_no_template_message(provider: Provider, change: dict[str, Any], code: str) -> None:
    status, answer = provider.post("/wechat/templates", {**MESSAGE, **change})
    assert (status, answer["code"]) == (400, code)


def test_who_unfollowed_is_not_told_and_then_follows_again(provider: Provider) -> None:
    provider.misbehave("unfollowed", OPENID)
    status, answer = provider.post("/wechat/templates", MESSAGE)
    assert (status, answer["code"]) == (403, "require_subscribe")
    assert provider.post("/wechat/templates", MESSAGE)[0] == 202


def test_a_text_message_shows_its_words_where_they_were_sent(provider: Provider) -> None:
    provider.post("/messages", SHORT)
    provider.post("/messages", {**SHORT, "request_id": "m-2", "text": "您的包裹正在派送"})
    provider.post("/messages", {**SHORT, "request_id": "m-2", "text": "您的包裹正在派送"})
    assert [message["text"] for message in provider.hand("messages?phone=19900000001")] == [None, "您的包裹正在派送"]
