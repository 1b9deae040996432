"""Load → decide → append without servers: idempotency, races, deadlines, and what may leave the service."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from eventkit.calls import PeerRefused
from eventkit.clock import FixedClock
from eventkit.contracts import contracts
from eventkit.core import Core
from eventkit.deadlines import Row
from eventkit.envelope import Envelope
from eventkit.events import Refusal
from eventkit.memory_store import MemoryBackend
from eventkit.problems import Catalogue
from eventkit.relay import to_envelope
from eventkit.store import Commit, Request, Store
from services.consult import domain, sentences
from services.consult.events import Notice, registry
from services.consult.handlers import Handlers, consult_stream, conversation_stream
from services.consult.jobs import jobs
from services.consult.policies import inboxes
from services.consult.problems import PROBLEMS
from tests.store_suite import PlainSealer
from tests.unit.consult.story import ACCOUNT, DAY, DAY_ENDS, DOCTOR, MILLISECOND, PATIENT, SLOT, VISIT

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Registration:
    """Stands in for registration at its HTTP interface."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        self.refusal: PeerRefused | None = None

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        self.asked.append((path, body, key))
        if self.refusal:
            raise self.refusal
        return {}


class RacingBackend(MemoryBackend):
    """Lets somebody else be first, once."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Callable[[], object] | None = None

    def append(self, commit: Commit) -> None:
        first, self.first = self.first, None
        if first:
            first()
        super().append(commit)


class Desk:
    def __init__(self) -> None:
        self.backend = RacingBackend()
        self.clock = FixedClock(SLOT)
        self.registration = Registration()
        store = Store(self.backend, registry, PlainSealer(), self.clock)
        core = SimpleNamespace(store=store, clock=self.clock, service=lambda name: self.registration)
        self.store = store
        self.handlers = Handlers(cast(Core, core))

    def schedule(self) -> None:
        self.handlers.schedule(
            asked("booked", "consult.policies"),
            domain.ScheduleConsult(
                visit_id=VISIT, patient_id=PATIENT, account_id=ACCOUNT, doctor_id=DOCTOR, day=DAY, starts_at=SLOT,
                day_ends_at=DAY_ENDS,
            ),
        )

    def accept(self, key: str = "accept") -> dict[str, Any]:
        return self.handlers.accept(asked(key), VISIT, domain.AcceptConsult(DOCTOR)).body

    def say(self, text: str, key: str, author: str = DOCTOR) -> dict[str, Any]:
        sender: Any = "doctor" if author == DOCTOR else "patient"
        return self.handlers.post(asked(key, author), VISIT, domain.PostMessage(sender, author, text)).body

    def finish(self, key: str = "finish") -> dict[str, Any]:
        record = domain.FinishConsult(
            doctor_id=DOCTOR, complaint="复诊", present_illness="平稳", diagnosis="高血压", icd10="I10",
            tcm_syndrome="肝阳上亢证", advice="继续服药",
        )
        return self.handlers.finish(asked(key), VISIT, record).body

    def due(self, job: str) -> Row:
        [due] = [due for commit in self.backend.commits for due in commit.due if due.job == job]
        return Row(due.id, due.job, due.args, due.at, 1)

    def run(self, job: str) -> None:
        row = self.due(job)
        jobs(self.handlers, None)[job](row)

    def told(self) -> list[str]:
        """The names of all events that travel, in order."""
        commits = self.backend.commits
        return [to_envelope(commit, event, registry.source).name for commit in commits for event in commit.events]


def asked(key: str, caller: str = DOCTOR) -> Request:
    return Request(caller=caller, route="test", key=key)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.schedule()
    return desk


# --- acceptance


def test_5_eligibility_is_checked_again_at_acceptance(desk: Desk) -> None:
    assert desk.accept() == {"visit_id": VISIT, "state": "accepted"}
    [(path, body, key)] = desk.registration.asked
    assert path == f"/api/registration/internal/visits/{VISIT}/eligibility"
    assert body == {"checkpoint": "acceptance"}
    assert key


def test_5_a_repeat_of_an_acceptance_that_stands_asks_nobody(desk: Desk) -> None:
    first = desk.accept()
    assert desk.accept() == first
    assert len(desk.registration.asked) == 1


def test_5_the_doctor_is_told_what_failed_and_declines(desk: Desk) -> None:
    failed = [{"code": "no_recent_visit", "detail": "近6个月无就诊记录"}]
    desk.registration.refusal = PeerRefused(422, {"code": "not_eligible", "failed": failed})
    with pytest.raises(Refusal) as refused:
        desk.accept()
    assert (refused.value.code, refused.value.facts["failed"]) == ("not_eligible", failed)
    assert desk.told() == ["ConsultScheduled"]
    desk.handlers.decline(asked("decline"), VISIT, domain.DeclineConsult(DOCTOR, "unsuitable"))
    assert desk.told() == ["ConsultScheduled", "ConsultDeclined", "MessagePosted"]


def test_29_a_visit_just_withdrawn_at_registration_is_over(desk: Desk) -> None:
    desk.registration.refusal = PeerRefused(409, {"code": "visit_over"})
    with pytest.raises(Refusal, match="consult_over"):
        desk.accept()
    assert desk.told() == ["ConsultScheduled"]


def test_5_a_peer_that_does_not_know_the_visit_accepts_nothing(desk: Desk) -> None:
    desk.registration.refusal = PeerRefused(404, {"code": "not_found"})
    with pytest.raises(PeerRefused):
        desk.accept()
    assert desk.told() == ["ConsultScheduled"]


def test_18_nobody_is_asked_about_a_visit_of_another_day(desk: Desk) -> None:
    desk.clock.instant = SLOT - timedelta(days=1)
    with pytest.raises(Refusal, match="not_its_day"):
        desk.accept()
    assert desk.registration.asked == []


# --- races: both streams of a visit move together


def test_17_a_message_never_slips_in_behind_the_end(desk: Desk) -> None:
    desk.accept()
    desk.backend.first = desk.finish
    with pytest.raises(Refusal, match="consult_over"):
        desk.say("再补充一句", "m1")
    assert desk.told()[-2:] == ["ConsultFinished", "MessagePosted"]


def test_27_a_word_in_the_last_moment_keeps_the_visit(desk: Desk) -> None:
    desk.accept()
    desk.clock.advance(timedelta(hours=2))
    desk.backend.first = lambda: desk.say("抱歉,久等了", "m1")
    desk.run("abandon_consult")
    assert "ConsultAbandoned" not in desk.told()


def test_18_accepted_in_the_last_millisecond_or_missed_but_never_both(desk: Desk) -> None:
    desk.clock.instant = DAY_ENDS - MILLISECOND

    def midnight() -> None:
        desk.clock.instant = DAY_ENDS
        desk.run("miss_consult")

    desk.backend.first = midnight
    with pytest.raises(Refusal, match="consult_over"):
        desk.accept()
    assert desk.told() == ["ConsultScheduled", "ConsultMissed", "MessagePosted"]


def test_two_messages_at_once_get_two_numbers(desk: Desk) -> None:
    desk.accept()
    numbers: list[int] = []
    desk.backend.first = lambda: numbers.append(desk.say("您好", "m1", ACCOUNT)["number"])
    numbers.append(desk.say("您好", "m2")["number"])
    assert numbers == [2, 3]


def test_the_same_key_posts_once(desk: Desk) -> None:
    desk.accept()
    assert desk.say("您好", "m1") == desk.say("您好", "m1")
    assert desk.told().count("MessagePosted") == 2  # the notice of acceptance, and this one


# --- pictures and voice clips


def keep(desk: Desk, media_id: str, author: str = ACCOUNT, kind: Any = "voice", milliseconds: int = 3000) -> Any:
    sender: Any = "doctor" if author == DOCTOR else "patient"
    command = domain.KeepMedia(
        sender=sender, author_id=author, media_id=media_id, kind=kind, milliseconds=milliseconds
    )
    return desk.handlers.keep_media(asked(f"keep-{media_id}", author), VISIT, command).body


def show(desk: Desk, media_id: str, author: str = ACCOUNT, kind: Any = "voice") -> Any:
    sender: Any = "doctor" if author == DOCTOR else "patient"
    command = domain.PostMessage(sender, author, kind=kind, media_id=media_id)
    return desk.handlers.post(asked(f"show-{media_id}-{author}", author), VISIT, command).body


def test_17_a_voice_clip_is_uploaded_and_then_shown(desk: Desk) -> None:
    assert keep(desk, "m1") == {"media_id": "m1", "kind": "voice", "milliseconds": 3000}
    assert desk.told() == ["ConsultScheduled", "MediaKept"]
    assert show(desk, "m1")["number"] == 1
    shown = desk.store.load(conversation_stream(VISIT))[conversation_stream(VISIT)][0].event
    assert (shown.kind, shown.media_id, shown.milliseconds, shown.text) == ("voice", "m1", 3000, None)
    commit, [event] = desk.backend.commits[-1], desk.backend.commits[-1].events
    contracts().validate(to_envelope(commit, event, registry.source), event.topic)


def test_31_an_upload_never_leaves_the_service(desk: Desk) -> None:
    keep(desk, "m1")
    assert [event.topic for event in desk.backend.commits[-1].events] == [None]


@pytest.mark.parametrize(
    ("media_id", "author", "kind"),
    [("m2", ACCOUNT, "voice"), ("m1", ACCOUNT, "picture"), ("m1", DOCTOR, "voice"), ("", ACCOUNT, "voice")],
    ids=["never uploaded", "another kind", "the other side's", "none"],
)
def test_17_only_ones_own_upload_of_that_kind_is_shown(desk: Desk, media_id: str, author: str, kind: str) -> None:
    desk.accept()
    keep(desk, "m1")
    with pytest.raises(Refusal, match="media_unknown"):
        show(desk, media_id, author, kind)


@pytest.mark.parametrize(("milliseconds", "kept"), [(0, False), (1, True), (60_000, True), (60_001, False)])
def test_17_a_voice_clip_lasts_a_minute_at_most(desk: Desk, milliseconds: int, kept: bool) -> None:
    if kept:
        assert keep(desk, "m1", milliseconds=milliseconds)
    else:
        with pytest.raises(Refusal, match="voice_length"):
            keep(desk, "m1", milliseconds=milliseconds)


def test_17_uploads_are_bounded_for_each_side(desk: Desk) -> None:
    desk.accept()
    for number in range(60):
        keep(desk, f"m{number}", kind="picture", milliseconds=0)
    with pytest.raises(Refusal, match="media_full"):
        keep(desk, "m60")
    assert keep(desk, "d1", DOCTOR)


def test_17_who_may_not_write_uploads_nothing(desk: Desk) -> None:
    with pytest.raises(Refusal, match="not_accepted"):
        keep(desk, "m1", DOCTOR)
    with pytest.raises(Refusal, match="not_found"):
        keep(desk, "m1", "a2")
    desk.accept()
    desk.finish()
    with pytest.raises(Refusal, match="consult_over"):
        keep(desk, "m1")


def test_31_an_upload_is_seen_by_the_other_side_once_it_is_shown(desk: Desk) -> None:
    keep(desk, "m1")
    desk.handlers.see_media(VISIT, "m1", "patient")
    for media_id in ("m1", "m2"):
        with pytest.raises(Refusal, match="not_found"):
            desk.handlers.see_media(VISIT, media_id, "doctor")
    show(desk, "m1")
    desk.handlers.see_media(VISIT, "m1", "doctor")


# --- deadlines


def test_18_the_day_end_is_a_deadline_in_shanghai(desk: Desk) -> None:
    row = desk.due("miss_consult")
    assert (row.due, row.args) == (DAY_ENDS, {"visit_id": VISIT})


def test_18_a_deadline_run_twice_misses_once(desk: Desk) -> None:
    desk.clock.instant = DAY_ENDS
    desk.run("miss_consult")
    desk.run("miss_consult")
    assert desk.told() == ["ConsultScheduled", "ConsultMissed", "MessagePosted"]


def test_a_deadline_that_comes_early_stays(desk: Desk) -> None:
    with pytest.raises(Refusal, match="too_early"):
        desk.run("miss_consult")


def test_27_silence_is_warned_of_and_then_ended(desk: Desk) -> None:
    desk.accept()
    assert desk.due("warn_of_silence").due == SLOT + 30 * MINUTE
    assert desk.due("abandon_consult").due == SLOT + 120 * MINUTE
    desk.clock.advance(30 * MINUTE)
    desk.run("warn_of_silence")
    desk.clock.advance(90 * MINUTE)
    desk.run("abandon_consult")
    assert desk.told()[3:] == ["MessagePosted", "ConsultAbandoned", "MessagePosted"]


# --- policies


def golden(context: str, name: str) -> Envelope:
    path = contracts().root / "examples" / context / f"{name}.v1" / "typical.json"
    return Envelope.parse(path.read_bytes())


@pytest.mark.parametrize(
    ("context", "name", "told"),
    [
        ("registration", "VisitBooked", ["ConsultScheduled"]),
        ("registration", "VisitWithdrawn", []),
    ],
)
def test_a_golden_event_is_understood_and_a_repeat_changes_nothing(context: str, name: str, told: list[str]) -> None:
    desk = Desk()
    handler = inboxes(desk.handlers)["consult.policies"][name]
    handler(golden(context, name))
    handler(golden(context, name))
    assert desk.told() == told


def test_18_the_day_of_a_booked_visit_ends_at_midnight_in_shanghai() -> None:
    desk = Desk()
    booked = golden("registration", "VisitBooked")
    inboxes(desk.handlers)["consult.policies"]["VisitBooked"](booked)
    [scheduled] = desk.store.load(consult_stream(booked.data["visit_id"]))[consult_stream(booked.data["visit_id"])]
    assert scheduled.event.day_ends_at == DAY_ENDS


def test_20_an_issued_prescription_is_shown_once() -> None:
    desk = Desk()
    issued = golden("pharmacy", "PrescriptionIssued")
    booked = golden("registration", "VisitBooked")
    assert issued.data["visit_id"] == booked.data["visit_id"]
    policies = inboxes(desk.handlers)["consult.policies"]
    policies["VisitBooked"](booked)
    policies["PrescriptionIssued"](issued)
    policies["PrescriptionIssued"](issued)
    stream = conversation_stream(issued.data["visit_id"])
    [shown] = desk.store.load(stream)[stream]
    assert (shown.event.kind, shown.event.prescription_id) == ("prescription", issued.data["prescription_id"])


# --- what leaves the service


def test_31_words_stay_here_and_everything_else_keeps_the_contract(desk: Desk) -> None:
    desk.say("头痛三天", "m1", ACCOUNT)
    desk.accept()
    desk.say("建议休息", "m2")
    desk.finish()
    for commit in desk.backend.commits:
        for event in commit.events:
            envelope = to_envelope(commit, event, registry.source)
            contracts().validate(envelope, event.topic)
            assert not re.search("头痛|建议|高血压|I10|肝阳|继续服药", envelope.to_bytes().decode())
        assert not re.search("头痛|建议|高血压|I10|肝阳|继续服药", orjson.dumps(commit.answer.body).decode())


def test_the_number_of_a_message_is_its_version(desk: Desk) -> None:
    desk.say("您好", "m1", ACCOUNT)
    desk.accept()
    desk.say("您好", "m2")
    stream = conversation_stream(VISIT)
    recorded = desk.store.load(stream)[stream]
    assert [one.version for one in recorded] == [one.event.number for one in recorded] == [1, 2, 3]


def test_every_refusal_of_the_domain_has_its_sentences() -> None:
    catalogue = Catalogue(PROBLEMS)
    codes = re.findall(r'Refusal\(\s*"(\w+)"', Path(domain.__file__).read_text())
    assert codes
    assert [code for code in codes if code not in catalogue] == []


def test_every_notice_has_its_sentences() -> None:
    assert set(sentences.NOTICES) == set(Notice.__args__)  # type: ignore[attr-defined]
