"""The SMS provider as our registration service meets it: a real process, real sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.partner_process import wait_for
from tests.integration.signed_partner import Partner, running

MESSAGE = {"request_id": "m-1", "phone": "19900000001", "template": "login_code", "params": {"code": "246810"}}


@pytest.fixture
def sms(tmp_path: Path) -> Iterator[Partner]:
    with running("sms", tmp_path) as partner:
        yield partner


def test_a_message_is_on_the_phone_once_however_often_it_is_sent(sms: Partner) -> None:
    first = sms.signed("POST", "/messages", MESSAGE)
    again = sms.signed("POST", "/messages", MESSAGE)
    other = sms.signed("POST", "/messages", {**MESSAGE, "params": {"code": "1"}})

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (409, "request_id_reused")
    [message] = sms.hand("GET", "/messages?phone=19900000001")["messages"]
    assert message["params"] == {"code": "246810"}
    assert sms.hand("GET", "/messages?phone=19900000002")["messages"] == []


def test_who_does_not_sign_is_not_let_in(sms: Partner) -> None:
    assert requests.post(f"{sms.url}/messages", json=MESSAGE, timeout=5).status_code == 401
    assert sms.signed("POST", "/messages", MESSAGE, key="another secret").json()["code"] == "bad_signature"
    assert sms.hand("GET", "/books") == {"accepted": 0, "lost": 0}


@pytest.mark.parametrize("wrong", [{"phone": "12345"}, {"params": "code"}, {"request_id": ""}, {"template": None}])
def test_bad_input_is_named(sms: Partner, wrong: dict[str, object]) -> None:
    answer = sms.signed("POST", "/messages", {**MESSAGE, **wrong})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_it_fails_as_scripted_and_then_works(sms: Partner) -> None:
    sms.hand("POST", "/misbehave", {"kind": "error_500"})
    assert sms.signed("POST", "/messages", MESSAGE).status_code == 500
    for kind in ("down", "timeout_after_effect"):
        sms.hand("POST", "/misbehave", {"kind": kind})
        with pytest.raises(requests.ConnectionError):
            sms.signed("POST", "/messages", MESSAGE)
    assert sms.signed("POST", "/messages", MESSAGE).status_code == 200  # it had arrived, only the answer had not

    sms.hand("POST", "/misbehave", {"kind": "lost"})
    assert sms.signed("POST", "/messages", {**MESSAGE, "request_id": "m-2"}).status_code == 202
    assert len(sms.hand("GET", "/messages?phone=19900000001")["messages"]) == 1
    assert sms.hand("GET", "/books") == {"accepted": 2, "lost": 1}


def test_what_it_accepted_survives_kill_9(sms: Partner) -> None:
    sms.signed("POST", "/messages", MESSAGE)
    sms.kill()
    sms.start()
    wait_for(lambda: sms.hand("GET", "/messages?phone=19900000001")["messages"])
