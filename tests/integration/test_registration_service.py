"""What registration keeps in MongoDB beside its log, and the slot that is sold once, on a real replica set."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pymongo.database import Database

from eventkit.clock import FixedClock
from eventkit.events import Recorded, Refusal
from eventkit.mongo_store import MongoBackend, connect, ensure_indexes
from eventkit.store import Decision, Histories, Request, Store, fold
from eventkit.vault import Vault
from services.registration.devices import Devices
from services.registration.domain import sessions, visits
from services.registration.domain.sessions import SlotState, slot_stream
from services.registration.events import (
    DraftSaved,
    DraftSubmitted,
    SessionCancelled,
    SlotClosed,
    SlotOffered,
    registry,
)
from services.registration.login import LoginCodes
from services.registration.photos import PhotoFiles
from services.registration.policy import LOGIN
from services.registration.read_model import ReadModel
from tests.unit.registration.story import (
    BOOK,
    BOOKED,
    CLAIM,
    DESCRIBED,
    NOW,
    OPENED,
    REQUESTED,
    SLOT,
    SLOT_CLOSED,
    SLOT_HELD,
    SLOT_RELEASED,
    SLOT_SOLD,
    VISIT,
    offer,
    withdrawn,
)

PHONE = "19900000001"


@pytest.fixture
def database(parts: Any) -> Iterator[Database[dict[str, Any]]]:
    client = connect(parts.mongo_url)
    database = client[f"test_{uuid.uuid4().hex[:12]}"]
    ensure_indexes(database)
    yield database
    client.drop_database(database.name)
    client.close()


@pytest.fixture
def vault(database: Database[dict[str, Any]]) -> Vault:
    return Vault(database, os.urandom(32))


@pytest.fixture
def codes(database: Database[dict[str, Any]], vault: Vault) -> LoginCodes:
    return LoginCodes(database, vault)


def wrong(code: str) -> str:
    return "000000" if code != "000000" else "111111"


def test_s7_a_code_works_once(codes: LoginCodes, database: Database[dict[str, Any]]) -> None:
    code = codes.issue(PHONE)
    kept = str(database["login_codes"].find_one())
    assert code not in kept
    assert PHONE not in kept
    codes.redeem(PHONE, code)
    with pytest.raises(Refusal, match="login_code_wrong"):
        codes.redeem(PHONE, code)


def test_s7_only_the_latest_code_of_this_very_phone_works(codes: LoginCodes) -> None:
    first, other = codes.issue(PHONE), codes.issue("19900000002")
    latest = codes.issue(PHONE)
    for code in {first, other} - {latest}:
        with pytest.raises(Refusal, match="login_code_wrong"):
            codes.redeem(PHONE, code)
    codes.redeem(PHONE, latest)


def test_s7_after_a_few_wrong_tries_the_right_code_is_wrong_too(codes: LoginCodes) -> None:
    code = codes.issue(PHONE)
    for _ in range(LOGIN.tries):
        with pytest.raises(Refusal, match="login_code_wrong"):
            codes.redeem(PHONE, wrong(code))
    with pytest.raises(Refusal, match="login_code_wrong"):
        codes.redeem(PHONE, code)


def test_s7_an_old_code_is_wrong(codes: LoginCodes, database: Database[dict[str, Any]]) -> None:
    code = codes.issue(PHONE)
    database["login_codes"].update_one({}, {"$set": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}})
    with pytest.raises(Refusal, match="login_code_wrong"):
        codes.redeem(PHONE, code)


def test_s7_a_phone_is_not_flooded(codes: LoginCodes, database: Database[dict[str, Any]]) -> None:
    for _ in range(LOGIN.codes_an_hour):
        codes.issue(PHONE)
    with pytest.raises(Refusal, match="too_many_codes"):
        codes.issue(PHONE)
    codes.issue("19900000002")
    database["login_codes"].update_many({}, {"$set": {"sent.0": datetime.now(UTC) - timedelta(hours=1, seconds=1)}})
    codes.issue(PHONE)


def test_s7_two_who_come_with_the_same_code_are_one_too_many(codes: LoginCodes) -> None:
    code = codes.issue(PHONE)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: attempt(lambda: codes.redeem(PHONE, code)), range(4)))
    assert outcomes.count("") == 1


def attempt(action: Callable[[], object]) -> str:
    """Empty when it worked, else the refusal's code."""
    try:
        action()
    except Refusal as refusal:
        return refusal.code
    return ""


def test_s31_a_photo_is_sealed_and_gone_with_its_patient(database: Database[dict[str, Any]], vault: Vault) -> None:
    photos = PhotoFiles(database, vault)
    photos.keep("ph1", "p1", b"jpeg")
    photos.keep("ph1", "p1", b"a retry changes nothing")
    assert photos.read("ph1") == b"jpeg"
    assert b"jpeg" not in (database["photos"].find_one() or {})["sealed"]
    vault.erase("p1", NOW)
    with pytest.raises(Refusal, match="not_found"):
        photos.read("ph1")
    with pytest.raises(Refusal, match="not_found"):
        photos.read("ph2")


def test_s9_s17_the_lists_follow_the_log_and_take_no_event_twice(database: Database[dict[str, Any]]) -> None:
    model = ReadModel(database)
    model.ensure_indexes()
    log = [
        ("session-s1", 1, OPENED), (f"visit-{VISIT}", 1, REQUESTED), (f"visit-{VISIT}", 2, DESCRIBED),
        (f"slot-{SLOT}", 1, SLOT_HELD), (f"visit-{VISIT}", 3, BOOKED), (f"slot-{SLOT}", 2, SLOT_SOLD),
    ]
    follow(model, log)
    assert listed(model) == ("booked", ["sold", "open"])
    follow(model, log[1:5])
    assert listed(model) == ("booked", ["sold", "open"])
    follow(model, [(f"visit-{VISIT}", 4, withdrawn("missed")), (f"slot-{SLOT}", 3, SLOT_RELEASED)])
    assert listed(model) == ("withdrawn", ["open", "open"])
    assert model.visits_showing("ph1", "doctor-shen") == [VISIT]
    assert model.visits_showing("ph1", "doctor-bai") == []
    assert model.sessions("2026-11-25", None, None) == []


def follow(model: ReadModel, log: list[tuple[str, int, Any]]) -> None:
    for stream, version, event in log:
        recorded = Recorded(stream, version, event, NOW)
        model.sessions_view(recorded)
        model.visits_view(recorded)
        model.drafts_view(recorded)


def listed(model: ReadModel) -> tuple[str, list[str]]:
    [visit], [session] = model.visits_of("a1"), model.sessions("2026-11-24", "doctor-shen", None)
    return visit["state"], [slot["state"] for slot in session["slots"]]


def test_s9_many_buyers_of_one_slot_have_one_winner(database: Database[dict[str, Any]], vault: Vault) -> None:
    store = Store(MongoBackend(database), registry, vault, FixedClock(NOW))

    def buy(number: int) -> str:
        visit_id = f"v{number}"
        command = replace(BOOK, visit_id=visit_id)

        def decide(histories: Histories) -> Decision:
            slot = fold(sessions.evolve_slot, SlotState(), histories[slot_stream(SLOT)])
            claimed_by = visits.claimant(recorded.event for recorded in histories[CLAIM])
            return Decision(visits.book(command, offer(slot=slot, claimed_by=claimed_by), "as1"))

        streams = [visits.visit_stream(visit_id), slot_stream(SLOT), CLAIM]
        return attempt(partial(store.execute, Request("a1", "POST /visits", f"k{number}"), streams, decide))

    with ThreadPoolExecutor(32) as pool:
        outcomes = list(pool.map(buy, range(100)))
    assert (outcomes.count(""), outcomes.count("slot_taken")) == (1, 99)
    assert database["commits"].count_documents({}) == 1


def test_s7_wrong_codes_lock_a_phone_out_whichever_codes_they_were(
    codes: LoginCodes, database: Database[dict[str, Any]]
) -> None:
    for _ in range(LOGIN.failures // LOGIN.tries):
        code = codes.issue(PHONE)
        for _ in range(LOGIN.tries):
            with pytest.raises(Refusal, match="login_code_wrong"):
                codes.redeem(PHONE, wrong(code))
    for attempt in (partial(codes.redeem, PHONE, code), partial(codes.issue, PHONE)):
        with pytest.raises(Refusal, match="login_locked") as locked:
            attempt()
        assert 1 <= locked.value.facts["minutes"] <= 15
    codes.redeem("19900000002", codes.issue("19900000002"))
    database["login_codes"].update_many({}, {"$set": {"locked_until": datetime.now(UTC)}})
    codes.redeem(PHONE, codes.issue(PHONE))


def test_s7_a_right_code_forgets_the_wrong_ones_before(codes: LoginCodes) -> None:
    for _ in range(LOGIN.failures):
        code = codes.issue(PHONE)
        with pytest.raises(Refusal, match="login_code_wrong"):
            codes.redeem(PHONE, wrong(code))
        codes.redeem(PHONE, code)


def test_s7_guessing_at_a_phone_that_asked_for_nothing_leaves_nothing(
    codes: LoginCodes, database: Database[dict[str, Any]]
) -> None:
    with pytest.raises(Refusal, match="login_code_wrong"):
        codes.redeem(PHONE, "123456")
    assert database["login_codes"].count_documents({}) == 0


@pytest.fixture
def devices(database: Database[dict[str, Any]], vault: Vault) -> Devices:
    devices = Devices(database, vault)
    devices.ensure_indexes()
    return devices


def test_s7_a_refresh_token_works_once_and_a_copy_ends_the_login(
    devices: Devices, database: Database[dict[str, Any]]
) -> None:
    first = devices.open("a1", "patient", "iPhone")
    second = devices.refresh(first.refresh_token)
    assert (second.device_id, second.subject, second.role) == (first.device_id, "a1", "patient")
    kept = str(list(database["devices"].find()))
    assert first.refresh_token not in kept
    assert second.refresh_token not in kept
    with pytest.raises(Refusal, match="login_over"):
        devices.refresh(first.refresh_token)
    with pytest.raises(Refusal, match="login_over"):
        devices.refresh(second.refresh_token)
    assert devices.revoked() == [first.device_id]


def test_s7_two_refreshes_at_once_have_one_winner(devices: Devices) -> None:
    login = devices.open("a1", "patient", "")

    def refresh(_: int) -> int:
        try:
            devices.refresh(login.refresh_token)
        except Refusal:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(refresh, range(8))) == 1


def test_s7_devices_of_an_account(devices: Devices, database: Database[dict[str, Any]]) -> None:
    phone, tablet = devices.open("a1", "patient", "iPhone"), devices.open("a1", "patient", "iPad")
    devices.open("a2", "patient", "")
    assert {row["name"] for row in devices.of("a1")} == {"iPhone", "iPad"}
    with pytest.raises(Refusal, match="not_found"):
        devices.revoke("a2", phone.device_id)
    devices.revoke("a1", phone.device_id)
    devices.revoke("a1", phone.device_id)
    assert [row["name"] for row in devices.of("a1")] == ["iPad"]
    with pytest.raises(Refusal, match="login_over"):
        devices.refresh(phone.refresh_token)
    database["devices"].update_many({}, {"$set": {"gone_at": datetime.now(UTC)}})
    assert devices.of("a1") == []
    with pytest.raises(Refusal, match="login_over"):
        devices.refresh(tablet.refresh_token)


def test_s10_s29_the_lists_show_drafts_offers_and_what_was_called_off(database: Database[dict[str, Any]]) -> None:
    model = ReadModel(database)
    model.ensure_indexes()
    offered = SlotOffered("s1", SLOT, "e1", "a1", "p1", NOW, NOW)
    follow(model, [
        ("session-s1", 1, OPENED), (f"slot-{SLOT}", 1, offered), ("waiting-s1", 1, offered),
        ("draft-d1", 1, DraftSaved("d1", "a1", "p1", slot_id=SLOT)), ("draft-d2", 1, DraftSaved("d2", "a1", "p1")),
        ("draft-d2", 2, DraftSubmitted("d2", VISIT)),
    ])
    [session] = model.sessions("2026-11-24", None, None)
    assert (session["state"], [slot["state"] for slot in session["slots"]]) == ("open", ["held", "open"])
    assert [(draft["draft_id"], draft["slot_id"]) for draft in model.drafts_of("a1")] == [("d1", SLOT)]
    follow(model, [("session-s1", 2, SessionCancelled("s1", "doctor")), (f"slot-{SLOT}", 2, SLOT_CLOSED)])
    [session] = model.sessions("2026-11-24", None, None)
    assert (session["state"], [slot["state"] for slot in session["slots"]]) == ("cancelled", ["closed", "closed"])


def test_s29_a_session_is_cancelled_while_many_book_it(
    database: Database[dict[str, Any]], vault: Vault
) -> None:
    """On the real unique index: every hold is either before the cancellation, and then has its job, or refused."""
    store = Store(MongoBackend(database), registry, vault, FixedClock(NOW))
    count = 40
    slots = [slot_stream(f"s1-{number:02d}") for number in range(count)]

    def hold(number: int) -> str:
        def decide(histories: Histories) -> Decision:
            state = fold(sessions.evolve_slot, SlotState(), histories[slots[number]])
            if state.closed:
                raise Refusal("session_cancelled")
            return Decision([(slots[number], replace(SLOT_HELD, slot_id=f"s1-{number:02d}", visit_id=f"v{number}"))])

        return attempt(lambda: store.execute(Request("patient", "book", f"k{number}"), [slots[number]], decide))

    found: list[str] = []

    def cancel(_: int) -> str:
        def decide(histories: Histories) -> Decision:
            states = [fold(sessions.evolve_slot, SlotState(), histories[slot]) for slot in slots]
            found[:] = [state.visit_id for state in states if state.visit_id]
            return Decision([
                ("session-s1", SessionCancelled("s1", "doctor")),
                *((slot, SlotClosed(slot.removeprefix("slot-"), "s1")) for slot in slots),
            ])

        return attempt(lambda: store.execute(Request("doctor", "cancel", "k"), ["session-s1", *slots], decide))

    with ThreadPoolExecutor(9) as pool:
        held = [pool.submit(hold, number) for number in range(count // 2)]
        cancelled = pool.submit(cancel, 0)
        held += [pool.submit(hold, number) for number in range(count // 2, count)]
        outcomes = [future.result() for future in held]
        assert cancelled.result() == ""
    assert set(outcomes) <= {"", "session_cancelled"}
    assert set(found) == {f"v{number}" for number, outcome in enumerate(outcomes) if outcome == ""}
