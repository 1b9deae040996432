"""§17, §28: voice and video calls, at a LiveKit server that is told as little as possible."""

from __future__ import annotations

import base64
import hashlib
import time
from functools import reduce
from typing import Any

import jwt
import orjson
import pytest

from services.consult import domain
from services.consult.domain import Consult, NoteCall, OpenCall, current_call, join_call, note_call, open_call
from services.consult.events import CallEnded, CallJoined, CallOpened, CallStarted, Event, MessagePosted, Refusal
from services.consult.jobs import jobs
from services.consult.livekit import LiveKit, Told
from tests.unit.consult.story import (
    ACCEPTED,
    ACCOUNT,
    DECLINED,
    DOCTOR,
    MILLISECOND,
    SCHEDULED,
    SLOT,
    VISIT,
    noticed,
    said,
)
from tests.unit.consult.test_handlers import HOUR, Desk, asked, desk  # noqa: F401  (desk is a fixture)

TALKING: list[Event] = [SCHEDULED, ACCEPTED, noticed(1, "accepted")]
OPENED = CallOpened(visit_id=VISIT, call_id="v1.1", medium="video", opened_at=SLOT)
CALLING: list[Event] = [*TALKING, OPENED]
KEY, SECRET = "fuzhen", "a secret of at least thirty-two bytes"
LIVEKIT = LiveKit("ws://127.0.0.1:1", KEY, SECRET)


def word(number: int, call: Any, call_id: str = "v1.1") -> MessagePosted:
    return MessagePosted(
        visit_id=VISIT, patient_id="p1", message_id=f"{VISIT}-{number}", number=number, sender="system", kind="text",
        posted_at=SLOT, call_id=call_id, call=call,
    )


def after(*events: Event) -> Consult:
    return reduce(domain.evolve, events, Consult())


def test_17_the_doctor_calls_and_the_patient_finds_it_in_the_conversation() -> None:
    assert open_call(OpenCall(DOCTOR, "video"), after(*TALKING), SLOT) == [OPENED, word(2, "video")]


@pytest.mark.parametrize(
    ("given", "doctor", "code"),
    [
        ([SCHEDULED], DOCTOR, "not_accepted"), (TALKING, "d-wu", "not_found"), ([], DOCTOR, "not_found"),
        ([*TALKING, DECLINED], DOCTOR, "consult_over"), ([*TALKING, said(500, "patient")], DOCTOR, "conversation_full"),
    ],
)
def test_17_only_its_doctor_calls_and_only_while_they_talk(given: list[Event], doctor: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        open_call(OpenCall(doctor, "voice"), after(*given), SLOT)
    assert refused.value.code == code


def test_17_a_second_call_of_one_medium_is_the_same_and_of_the_other_takes_its_place() -> None:
    calling = after(*CALLING, word(2, "video"))
    assert open_call(OpenCall(DOCTOR, "video"), calling, SLOT) == []
    opened, told = open_call(OpenCall(DOCTOR, "voice"), calling, SLOT)
    assert opened == CallOpened(visit_id=VISIT, call_id="v1.2", medium="voice", opened_at=SLOT)
    assert told == word(3, "voice", "v1.2")


def test_17_a_call_that_nothing_was_heard_of_is_over_after_an_hour() -> None:
    calling = after(*CALLING)
    assert current_call(calling, SLOT + HOUR - MILLISECOND) is not None
    assert current_call(calling, SLOT + HOUR) is None
    [opened, _] = open_call(OpenCall(DOCTOR, "video"), calling, SLOT + HOUR)
    assert opened.call_id == "v1.2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("side", "subject", "call_id", "given", "code"),
    [
        ("patient", ACCOUNT, "v1.1", CALLING, None),
        ("doctor", DOCTOR, "v1.1", CALLING, None),
        ("patient", "a2", "v1.1", CALLING, "not_found"),
        ("doctor", "d-wu", "v1.1", CALLING, "not_found"),
        ("patient", ACCOUNT, "v1.2", CALLING, "call_over"),
        ("patient", ACCOUNT, "v1.1", TALKING, "call_over"),
        ("patient", ACCOUNT, "v1.1", [*CALLING, CallEnded(visit_id=VISIT, call_id="v1.1", ended_at=SLOT)],
         "call_over"),
        ("patient", ACCOUNT, "v1.1", [*CALLING, DECLINED], "consult_over"),
    ],
)
def test_17_the_two_of_the_visit_join_the_call_that_is_open(
    side: Any, subject: str, call_id: str, given: list[Event], code: str | None
) -> None:
    if code is None:
        assert join_call(side, subject, call_id, after(*given), SLOT).medium == "video"
        return
    with pytest.raises(Refusal) as refused:
        join_call(side, subject, call_id, after(*given), SLOT)
    assert refused.value.code == code


STARTED = CallStarted(visit_id=VISIT, call_id="v1.1", started_at=SLOT)
DOCTOR_IN = CallJoined(visit_id=VISIT, call_id="v1.1", side="doctor", joined_at=SLOT)
PATIENT_IN = CallJoined(visit_id=VISIT, call_id="v1.1", side="patient", joined_at=SLOT)
ENDED = CallEnded(visit_id=VISIT, call_id="v1.1", ended_at=SLOT)


@pytest.mark.parametrize(
    ("given", "command", "then"),
    [
        (CALLING, NoteCall("v1.1", "started"), [STARTED]),
        ([*CALLING, STARTED], NoteCall("v1.1", "started"), []),
        (CALLING, NoteCall("v1.1", "joined", "doctor"), [DOCTOR_IN]),
        ([*CALLING, DOCTOR_IN], NoteCall("v1.1", "joined", "doctor"), []),
        (CALLING, NoteCall("v1.1", "joined", None), []),
        (CALLING, NoteCall("v1.1", "ended"), [ENDED, word(2, "ended")]),
        ([*CALLING, ENDED], NoteCall("v1.1", "ended"), []),
        ([*CALLING, ENDED], NoteCall("v1.1", "started"), []),
        ([*CALLING, ENDED], NoteCall("v1.1", "joined", "patient"), []),
        (CALLING, NoteCall("v1.2", "ended"), []),
        (TALKING, NoteCall("v1.1", "ended"), []),
        ([], NoteCall("v1.1", "ended"), []),
        ([*CALLING, DECLINED], NoteCall("v1.1", "ended"), [ENDED]),
    ],
    ids=["started", "told twice", "joined", "joined again", "somebody else", "ended", "ended twice", "late start",
         "late join", "another call", "no call", "no visit", "§28 no word behind the end of the visit"],
)
def test_17_what_the_server_tells_of_a_call(given: list[Event], command: NoteCall, then: list[Event]) -> None:
    assert note_call(command, after(*given), SLOT) == then


def test_28_hanging_up_is_not_the_end_of_the_visit() -> None:
    consult = after(*CALLING, STARTED, DOCTOR_IN, PATIENT_IN, ENDED, word(2, "ended"))
    assert consult.status == "accepted"
    assert domain.post(domain.PostMessage("patient", ACCOUNT, "还有一个问题"), consult, SLOT)


def test_27_who_has_spoken_with_the_patient_was_not_silent_and_who_only_rang_was() -> None:
    assert not after(*CALLING, STARTED, DOCTOR_IN, ENDED).answered
    assert after(*CALLING, STARTED, DOCTOR_IN, PATIENT_IN).answered


def test_17_the_room_ends_with_the_visit(desk: Desk) -> None:  # noqa: F811
    desk.accept()
    for key in ("c1", "c1", "c2"):
        opened = desk.handlers.open_call(asked(key), VISIT, OpenCall(DOCTOR, "video")).body
        assert opened == {"call_id": "v1.1", "medium": "video"}
    desk.finish()
    row = desk.due("end_room")
    assert row.args == {"room": "v1.1"}
    ended: list[str] = []
    livekit = LiveKit("ws://127.0.0.1:1", KEY, SECRET)
    livekit.end_room = ended.append  # type: ignore[method-assign]
    jobs(desk.handlers, livekit)["end_room"](row)
    assert ended == ["v1.1"]
    assert desk.handlers.note_call(asked("n1"), VISIT, NoteCall("v1.1", "ended")).body["state"] == "finished"
    assert desk.told()[-1] == "CallEnded"


# --- LiveKit's side


@pytest.mark.parametrize(("medium", "sources"), [("voice", ["microphone"]), ("video", ["microphone", "camera"])])
def test_17_a_token_opens_one_room_to_one_side_for_ten_minutes(medium: Any, sources: list[str]) -> None:
    token, until = LIVEKIT.token("v1.1", "patient", medium)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY)
    assert (claims["sub"], claims["exp"]) == ("patient", int(until.timestamp()))
    assert 590 < claims["exp"] - time.time() <= 600
    assert claims["video"] == {
        "roomJoin": True, "room": "v1.1", "canSubscribe": True, "canPublish": True, "canPublishData": False,
        "canPublishSources": sources,
    }


def told(body: bytes, secret: str = SECRET, key: str = KEY, of: bytes | None = None, seconds: float = 300) -> Any:
    """As LiveKit signs its webhooks."""
    digest = base64.b64encode(hashlib.sha256(body if of is None else of).digest()).decode()
    now = int(time.time())
    token = jwt.encode({"iss": key, "nbf": now, "exp": now + seconds, "sha256": digest}, secret, algorithm="HS256")
    return LIVEKIT.told(token, body)


JOINED = orjson.dumps({
    "event": "participant_joined", "id": "EV_1", "createdAt": "1795433400", "room": {"sid": "RM_1", "name": "v1.1"},
    "participant": {"sid": "PA_1", "identity": "patient", "state": "ACTIVE"},
})


def test_17_a_webhook_is_understood() -> None:
    assert told(JOINED) == Told("EV_1", "v1.1", "joined", "patient")
    finished = orjson.dumps({"event": "room_finished", "id": "EV_2", "room": {"name": "v1.1"}})
    assert told(finished) == Told("EV_2", "v1.1", "ended", "")
    assert told(orjson.dumps({"event": "track_published", "id": "EV_3", "room": {"name": "v1.1"}})) is None


@pytest.mark.parametrize(
    "forged",
    [{"secret": "another secret of thirty-two bytes!!"}, {"key": "somebody"}, {"of": b"{}"}, {"seconds": -120}],
    ids=["another secret", "another key", "another body", "old"],
)
def test_17_a_forged_webhook_is_refused(forged: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="not_authentic"):
        told(JOINED, **forged)


@pytest.mark.parametrize("authorization", ["", "rubbish", "Bearer x", LIVEKIT.token("v1.1", "patient", "voice")[0]])
def test_17_a_webhook_without_its_signature_is_refused(authorization: str) -> None:
    """The last is a token of ours: it signs no body."""
    with pytest.raises(Refusal, match="not_authentic"):
        LIVEKIT.told(authorization, JOINED)
