"""What a patient is told: every change once, in their language, by their channel, and not at night (§31)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from string import Formatter
from typing import Any

import pytest

from eventkit.auth import Caller
from eventkit.calls import PeerRefused, Unanswered
from eventkit.clock import SHANGHAI
from eventkit.contracts import contracts
from eventkit.events import Refusal
from services.registration.events import MessageDelayed, MessageGivenUp, MessageSent
from services.registration.notifications import LANGUAGES, TEMPLATES, at_once, quiet_until, wording
from services.registration.policy import QuietHours, quiet_on
from tests.unit.registration.story import SECOND
from tests.unit.registration.test_handlers import NOTICES, Story
from tests.unit.registration.test_waiting import Crowd

OPENID = "oFuZhen000000000000000sample"
MILLISECOND = timedelta(milliseconds=1)


def shanghai(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, tzinfo=SHANGHAI).astimezone(UTC)


@pytest.fixture
def story() -> Story:
    """A visit of 24 November, 08:00, booked the afternoon before."""
    story = Story()
    story.book()
    story.pay()
    return story


def at(story: Story, instant: datetime) -> None:
    story.clock.advance(instant - story.clock.now())


def told(story: Story) -> list[str]:
    return [template for _, template, _ in story.sms.sent.values()]


# --- what is told

CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("VisitBooked", {}, "visit_booked"),
    *[("VisitLapsed", {"reason": reason}, f"visit_lapsed.{reason}") for reason in ("unpaid", "ineligible")],
    *[
        ("VisitWithdrawn", {"reason": reason}, f"visit_withdrawn.{reason}")
        for reason in ("missed", "declined", "silent", "patient", "session_cancelled", "ineligible")
    ],
    ("ConsultAccepted", {}, "doctor_accepted"),
    ("RefundSucceeded", {}, "refund_succeeded"),
    ("PrescriptionIssued", {"valid_until": "2026-11-26T08:00:00Z"}, "order_opened"),
    ("PrescriptionExpired", {}, "order_expired"),
    ("ParcelHandedOver", {}, "parcel_handed_over"),
    ("ParcelMoved", {"status": "out_for_delivery"}, "parcel_out"),
    ("ParcelDelivered", {}, "parcel_delivered"),
    ("ParcelReturned", {}, "parcel_returned"),
]


@pytest.mark.parametrize(("name", "data", "template"), CHANGES, ids=[template for _, _, template in CHANGES])
def test_s31_each_change_is_told_once_whatever_is_repeated(
    story: Story, name: str, data: dict[str, Any], template: str
) -> None:
    for _ in range(2):
        story.hear(NOTICES, name, visit_id="v1", **data)
    story.sms.failure = Unanswered("sms")
    with pytest.raises(Unanswered):
        story.run_due()
    story.sms.failure = None
    for _ in range(2):
        story.run_due()
    [(request_id, (phone, sent, _))] = story.sms.sent.items()
    assert (phone, sent) == ("19900000001", template)
    assert request_id.endswith(f":{template}")
    assert len(story.sms.texts) == 1


def test_every_reason_of_the_contract_has_its_own_sentence() -> None:
    for name, prefix in (("VisitLapsed", "visit_lapsed"), ("VisitWithdrawn", "visit_withdrawn")):
        reasons = contracts().schema(f"org.fuzhen.registration.{name}.v1")["properties"]["reason"]["enum"]
        sentences = {TEMPLATES[f"{prefix}.{reason}"].zh for reason in reasons}
        assert len(sentences) == len(reasons)


def test_every_template_but_the_waiting_lists_and_the_logins_is_an_events() -> None:
    others = {"login_code", "slot_offered", "waiting_ended", "order_expiring"}
    assert {template for _, _, template in CHANGES} | others == set(TEMPLATES)


def test_of_a_parcels_way_only_the_last_part_is_told(story: Story) -> None:
    for status in ("collected", "in_transit", "refused"):
        story.hear(NOTICES, "ParcelMoved", visit_id="v1", status=status)
    story.run_due()
    assert told(story) == []


def test_s29_who_waits_for_a_cancelled_session_is_told_each_once() -> None:
    crowd = Crowd()
    crowd.wait(3)
    crowd.wait(4)
    for _ in range(2):
        crowd.hear(NOTICES, "SessionCancelled", session_id=crowd.session_id, reason="doctor")
    crowd.run_due()
    assert sorted((phone, template) for phone, template, _ in crowd.sms.sent.values()) == [
        ("19900000003", "waiting_ended"), ("19900000004", "waiting_ended"),
    ]


# --- how it is said

ON_A_SCREEN = re.compile(
    r"[病药症疗诊舌癌孕]|处方|drug|medic|prescri|illness|disease|symptom|diagnos|pharmac|treat|herb|doctor|\bpatient",
    re.IGNORECASE,
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_s31_no_sentence_says_what_it_is_about(template: str) -> None:
    """«就诊» is going to a hospital; «门诊楼» is a house."""
    for sentence in (TEMPLATES[template].zh, TEMPLATES[template].en):
        assert not ON_A_SCREEN.search(sentence.replace("现场就诊", "").replace("门诊楼", ""))
    assert re.search("[一-鿿]", TEMPLATES[template].zh)
    assert not re.search("[一-鿿]", TEMPLATES[template].en)


@pytest.mark.parametrize("template", TEMPLATES)
def test_s31_both_languages_say_the_same_values_and_only_times_codes_and_yuan(template: str) -> None:
    zh, en = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in (
        TEMPLATES[template].zh, TEMPLATES[template].en,
    ))
    assert zh == en
    assert zh <= {"day", "time", "until", "amount", "code", "minutes"}


def test_the_language_is_the_accounts(story: Story) -> None:
    story.hear(NOTICES, "VisitBooked", visit_id="v1")
    story.preferences.set(story.asked(story.account), story.account, "en", "sms", None)
    story.hear(NOTICES, "ConsultAccepted", visit_id="v1")
    story.run_due()
    assert story.sms.texts == [  # the first as it was wished when it was planned
        "预约成功:2026-11-24 08:00。请于当天打开消息页等候,您可以提前留言。",
        "Your visit of 2026-11-24 08:00 has begun. You are expected on the message page.",
    ]


def test_wechat_is_told_instead_of_the_phone(story: Story) -> None:
    story.preferences.set(story.asked(story.account), story.account, "zh", "wechat", OPENID)
    story.hear(NOTICES, "RefundSucceeded", visit_id="v1", amount_fen=5001)
    story.run_due()
    assert story.sms.sent == {}
    [(openid, template, _)] = story.wechat.sent.values()
    assert (openid, template) == (OPENID, "refund_succeeded")
    assert story.wechat.texts == ["退款50.01元已原路退回,到账时间以支付渠道为准。"]
    assert story.events()[-1].channel == "wechat"


def test_who_left_wechat_gets_a_text_message(story: Story) -> None:
    story.preferences.set(story.asked(story.account), story.account, "zh", "wechat", OPENID)
    story.wechat.failure = PeerRefused(403, {"code": "require_subscribe"})
    story.hear(NOTICES, "VisitBooked", visit_id="v1")
    story.run_due()
    story.run_due()
    assert (told(story), story.events()[-1]) == (["visit_booked"], MessageSent(story.events()[-1].message_id, "sms"))


def test_s32_an_erased_account_is_told_nothing(story: Story) -> None:
    story.preferences.set(story.asked(story.account), story.account, "zh", "wechat", OPENID)
    story.hear(NOTICES, "VisitBooked", visit_id="v1")
    story.sealer.erased.add(story.account)
    story.run_due()
    assert (story.sms.sent, story.wechat.sent, story.events()[-1].reason) == ({}, {}, "no_phone")
    assert isinstance(story.events()[-1], MessageGivenUp)


def test_s31_an_openid_stands_nowhere_in_the_open(story: Story) -> None:
    answer = story.preferences.set(story.asked(story.account), story.account, "en", "wechat", OPENID)
    assert answer.body == {"language": "en", "channel": "wechat", "wechat_linked": True}
    assert OPENID not in str([[event.data for event in commit.events] for commit in story.backend.commits])
    again = story.preferences.set(story.asked(story.account), story.account, "zh", "wechat", None)
    assert again.body["wechat_linked"]
    stranger = story.log_in("19900000008")
    with pytest.raises(Refusal, match="wechat_unlinked"):
        story.preferences.set(story.asked(stranger), stranger, "zh", "wechat", None)


# --- when: 22:00–07:00 in Shanghai


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (shanghai(24, 21, 59, 59), None),
        (shanghai(24, 22), shanghai(25, 7)),
        (shanghai(24, 23, 59, 59), shanghai(25, 7)),
        (shanghai(25, 0), shanghai(25, 7)),
        (shanghai(25, 6, 59, 59), shanghai(25, 7)),
        (shanghai(25, 7), None),
        (shanghai(30, 23), datetime(2026, 11, 30, 23, tzinfo=UTC)),  # into December
    ],
)
def test_quiet_hours_at_their_edges(now: datetime, until: datetime | None) -> None:
    assert quiet_until(now) == until


def test_quiet_hours_are_dated() -> None:
    old, new = (QuietHours(date(2024 + i, 1, 1), time(22 - i), time(7), timedelta(hours=1)) for i in range(2))
    assert [quiet_on(date(2024, 12, 31), (old, new)), quiet_on(date(2025, 1, 1), (old, new))] == [old, new]
    assert quiet_until(shanghai(24, 21, 30), new) == shanghai(25, 7)


@pytest.mark.parametrize(
    ("template", "now", "ahead", "expected"),
    [
        ("doctor_accepted", shanghai(24, 23), None, True),
        ("login_code", shanghai(24, 3), None, True),
        ("refund_succeeded", shanghai(24, 23), None, False),
        ("visit_withdrawn.missed", shanghai(25, 0) + MILLISECOND, shanghai(24, 8), True),  # the day just ended
        ("visit_withdrawn.missed", shanghai(25, 0, 59, 59), shanghai(24, 8), True),
        ("visit_withdrawn.missed", shanghai(25, 1), shanghai(24, 8), False),  # after an outage: in the morning
        ("visit_withdrawn.declined", shanghai(24, 22, 30), shanghai(24, 8), True),
        ("visit_withdrawn.session_cancelled", shanghai(24, 0, 30), shanghai(24, 23), True),
        ("visit_withdrawn.session_cancelled", shanghai(23, 23), shanghai(24, 8), False),
        ("visit_withdrawn.session_cancelled", shanghai(23, 23), shanghai(24, 6, 30), True),  # before the morning
        ("visit_booked", shanghai(23, 23), shanghai(24, 8), False),
        ("visit_booked", shanghai(23, 23), shanghai(24, 6, 59), True),
        ("slot_offered", shanghai(23, 23), shanghai(23, 23, 10), True),  # in the morning it would be over
    ],
)
def test_what_cannot_wait_for_the_morning(template: str, now: datetime, ahead: datetime | None, expected: bool) -> None:
    assert at_once(template, now, ahead) is expected


def test_what_can_wait_waits_until_seven_and_is_sent_once(story: Story) -> None:
    at(story, shanghai(23, 22))
    story.hear(NOTICES, "RefundSucceeded", visit_id="v1")
    story.run_due()
    at(story, shanghai(24, 7) - SECOND)
    story.run_due()
    assert told(story) == []
    at(story, shanghai(24, 7))
    for _ in range(2):
        story.run_due()
    assert (told(story), len(story.sms.texts)) == (["refund_succeeded"], 1)


def test_what_could_not_be_sent_by_day_waits_for_the_morning_too(story: Story) -> None:
    at(story, shanghai(23, 21, 59))
    story.hear(NOTICES, "RefundSucceeded", visit_id="v1")
    story.sms.failure = Unanswered("sms")
    with pytest.raises(Unanswered):
        story.run_due()
    story.sms.failure = None
    at(story, shanghai(23, 23))
    for _ in range(2):
        story.run_due()
    assert (told(story), len([event for event in story.events() if isinstance(event, MessageDelayed)])) == ([], 1)
    at(story, shanghai(24, 7))
    for _ in range(2):
        story.run_due()
    assert (told(story), len([event for event in story.events() if isinstance(event, MessageSent)])) == (
        ["refund_succeeded"], 1,
    )


def test_s18_a_missed_visit_is_told_at_midnight_and_its_refund_in_the_morning(story: Story) -> None:
    at(story, shanghai(25, 0) + MILLISECOND)
    story.hear(NOTICES, "VisitWithdrawn", visit_id="v1", reason="missed")
    story.hear(NOTICES, "RefundSucceeded", visit_id="v1")
    story.run_due()
    assert told(story) == ["visit_withdrawn.missed"]
    at(story, shanghai(25, 7))
    story.run_due()
    assert told(story) == ["visit_withdrawn.missed", "refund_succeeded"]


@pytest.mark.parametrize(("heard", "expected"), [
    (shanghai(25, 0) - MILLISECOND, ["doctor_accepted"]), (shanghai(25, 0), []),
])
def test_s18_that_the_doctor_came_is_told_on_that_day_only(story: Story, heard: datetime, expected: list[str]) -> None:
    at(story, heard)
    story.hear(NOTICES, "ConsultAccepted", visit_id="v1")
    story.run_due()
    assert told(story) == expected


# --- an order that ends (§23)

ISSUED, ENDS = shanghai(24, 10), shanghai(27, 10)
ORDER = {"prescription_id": "rx1", "visit_id": "v1"}


@pytest.fixture
def ordered(story: Story) -> Story:
    at(story, ISSUED)
    story.hear(NOTICES, "PrescriptionIssued", **ORDER, valid_until="2026-11-27T02:00:00Z")
    story.run_due()
    return story


def test_s23_a_day_before_it_ends_an_order_is_told_of_again(ordered: Story) -> None:
    at(ordered, ENDS - timedelta(days=1) - SECOND)
    ordered.run_due()
    assert told(ordered) == ["order_opened"]
    at(ordered, ENDS - timedelta(days=1))
    for _ in range(3):
        ordered.run_due()
    assert told(ordered) == ["order_opened", "order_expiring"]
    assert "2026-11-27 10:00" in ordered.sms.texts[-1]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", ["PaymentCaptured", "OrderSettledOffline", "PrescriptionVoided"])
def test_s23_nobody_is_reminded_of_what_is_paid_settled_or_void(story: Story, name: str, early: bool) -> None:
    """Two topics have no common order: it may be heard of before the order itself."""
    closed = {**ORDER, **({"kind": "prescription"} if name == "PaymentCaptured" else {})}
    at(story, ISSUED)
    if early:
        story.hear(NOTICES, name, **closed)
    story.hear(NOTICES, "PrescriptionIssued", **ORDER, valid_until="2026-11-27T02:00:00Z")
    for _ in range(2):
        story.hear(NOTICES, name, **closed)
    story.run_due()
    at(story, ENDS - timedelta(days=1))
    story.run_due()
    story.run_due()
    assert told(story) == []


def test_s23_who_paid_after_being_told_is_not_reminded(ordered: Story) -> None:
    ordered.hear(NOTICES, "PaymentCaptured", **ORDER, kind="prescription")
    at(ordered, ENDS - timedelta(days=1))
    ordered.run_due()
    ordered.run_due()
    assert told(ordered) == ["order_opened"]


def test_s23_what_is_paid_in_the_night_is_not_asked_for_in_the_morning(story: Story) -> None:
    at(story, shanghai(24, 22, 30))
    story.hear(NOTICES, "PrescriptionIssued", **ORDER, valid_until="2026-11-27T14:30:00Z")
    story.hear(NOTICES, "PaymentCaptured", **ORDER, kind="prescription")
    at(story, shanghai(25, 7))
    for _ in range(2):
        story.run_due()
    assert (told(story), story.events()[-1].reason) == ([], "order_closed")


def test_s23_the_visits_own_fee_closes_no_order(ordered: Story) -> None:
    ordered.hear(NOTICES, "PaymentCaptured", visit_id="v1", kind="visit_fee")
    at(ordered, ENDS - timedelta(days=1))
    ordered.run_due()
    ordered.run_due()
    assert told(ordered) == ["order_opened", "order_expiring"]


def test_s23_when_the_order_has_ended_nobody_is_told_that_it_will(ordered: Story) -> None:
    at(ordered, ENDS)
    ordered.run_due()
    ordered.run_due()
    assert told(ordered) == ["order_opened"]


def test_s23_a_reminder_that_falls_into_the_night_waits(story: Story) -> None:
    at(story, shanghai(24, 23))
    story.hear(NOTICES, "PrescriptionIssued", **ORDER, valid_until="2026-11-27T15:00:00Z")  # 23:00
    at(story, shanghai(25, 7))
    story.run_due()
    at(story, shanghai(26, 23))
    story.run_due()
    story.run_due()
    assert told(story) == ["order_opened"]
    at(story, shanghai(27, 7))
    story.run_due()
    assert told(story) == ["order_opened", "order_expiring"]


def test_s29_a_withdrawal_by_the_patient_is_told_from_the_policies_to_the_phone(story: Story) -> None:
    caller = Caller(story.account, frozenset({"patient"}))
    story.visits.withdraw_by_patient(story.asked(story.account), caller, "v1")
    [withdrawn] = [envelope for envelope in story.published() if envelope.name == "VisitWithdrawn"]
    story.hear(NOTICES, "VisitWithdrawn", **withdrawn.data)
    story.run_due()
    assert story.sms.texts == [wording("visit_withdrawn.patient", LANGUAGES[0], {"day": "2026-11-24", "time": "08:00"})]
