"""What every backend of the event store must do; each backend has a test class that inherits this one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from eventkit.clock import FixedClock
from eventkit.events import Refusal, Registry, personal
from eventkit.store import Answer, Backend, Decision, Histories, Request, Store

registry = Registry("suite")
NOON = datetime(2026, 11, 23, 4, tzinfo=UTC)


@registry.event("SlotHeld")
@dataclass(frozen=True, slots=True)
class SlotHeld:
    visit_id: str


@registry.event("VisitNoted", topic="suite.visit.v1", key="visit_id")
@dataclass(frozen=True, slots=True)
class VisitNoted:
    visit_id: str
    patient_id: str
    note: str | None = personal()


class PlainSealer:
    """Keeps personal values readable in memory; erasing works as it does with real keys."""

    def __init__(self) -> None:
        self.erased: set[str] = set()
        self._kept: list[dict[str, Any]] = []

    def seal(self, person: str, values: dict[str, Any], context: str) -> bytes:
        self._kept.append(values)
        return str(len(self._kept) - 1).encode()

    def open(self, person: str, sealed: bytes, context: str) -> dict[str, Any]:
        return {} if person in self.erased else self._kept[int(sealed)]


def asked(key: str | None, fingerprint: str = "", caller: str = "anna") -> Request:
    return Request(caller=caller, route="POST /visits", key=key, fingerprint=fingerprint)


def noted(text: str, visit: str = "1") -> VisitNoted:
    return VisitNoted(visit_id=visit, patient_id="p", note=text)


class StoreSuite:
    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError

    @pytest.fixture
    def sealer(self) -> PlainSealer:
        return PlainSealer()

    @pytest.fixture
    def store(self, backend: Backend, sealer: PlainSealer) -> Store:
        return Store(backend, registry, sealer, FixedClock(NOON))

    def test_events_come_back_in_order_with_their_versions(self, store: Store) -> None:
        for number in range(1, 12):
            store.execute(asked(f"k{number}"), ["visit-1"], _append(noted(str(number))))
        history = store.load("visit-1")["visit-1"]
        assert [(r.version, r.event.note) for r in history] == [(n, str(n)) for n in range(1, 12)]
        assert history[0].id == "visit-1/1"
        assert history[0].time == NOON

    def test_a_stream_that_nobody_wrote_is_empty(self, store: Store) -> None:
        assert store.load("visit-1", "visit-2") == {"visit-1": [], "visit-2": []}

    def test_a_stream_whose_name_begins_like_another_stays_apart(self, store: Store) -> None:
        store.execute(asked("a"), ["visit-1"], _append(noted("one")))
        store.execute(asked("b"), ["visit-10"], lambda h: Decision([("visit-10", noted("ten", "10"))]))
        assert len(store.load("visit-1")["visit-1"]) == 1

    def test_the_same_key_has_one_effect_and_one_answer(self, store: Store) -> None:
        first = store.execute(asked("k"), ["visit-1"], _append(noted("one"), Answer(201, {"number": 1})))
        again = store.execute(asked("k"), ["visit-1"], _append(noted("two"), Answer(201, {"number": 2})))
        assert first == again == Answer(201, {"number": 1})
        assert len(store.load("visit-1")["visit-1"]) == 1

    def test_the_same_key_of_another_caller_is_another_command(self, store: Store) -> None:
        store.execute(asked("k"), ["visit-1"], _append(noted("one")))
        store.execute(asked("k", caller="ben"), ["visit-1"], _append(noted("two")))
        assert len(store.load("visit-1")["visit-1"]) == 2

    def test_a_key_reused_for_another_request_is_refused(self, store: Store) -> None:
        store.execute(asked("k", "print-a"), ["visit-1"], _append(noted("one")))
        with pytest.raises(Refusal, match="key_reused"):
            store.execute(asked("k", "print-b"), ["visit-1"], _append(noted("two")))

    def test_a_refusal_caused_by_its_own_success_is_answered_with_the_success(self, store: Store) -> None:
        def once(histories: Histories) -> Decision:
            if histories["slot-1"]:
                raise Refusal("slot_taken")
            return Decision([("slot-1", SlotHeld("1"))], answer=Answer(201))

        assert store.execute(asked("k"), ["slot-1"], once) == Answer(201)
        assert store.execute(asked("k"), ["slot-1"], once) == Answer(201)
        with pytest.raises(Refusal, match="slot_taken"):
            store.execute(asked("other"), ["slot-1"], once)

    def test_a_command_over_several_streams_is_all_or_nothing(self, store: Store) -> None:
        """§9, §30: the visit, the slot and the day's claim stand together or not at all."""
        barrier = threading.Barrier(2)

        def book(visit: str) -> str:
            waited = False

            def decide(histories: Histories) -> Decision:
                nonlocal waited
                if histories["slot-1"]:
                    raise Refusal("slot_taken")
                if not waited:
                    waited = True
                    barrier.wait(10)  # both have seen a free slot
                return Decision([(f"visit-{visit}", noted("x", visit)), ("slot-1", SlotHeld(visit))])

            try:
                store.execute(asked(visit), [f"visit-{visit}", "slot-1"], decide)
            except Refusal as refusal:
                return refusal.code
            return "held"

        with ThreadPoolExecutor(2) as pool:
            outcomes = sorted(pool.map(book, ["a", "b"]))
        assert outcomes == ["held", "slot_taken"]
        histories = store.load("slot-1", "visit-a", "visit-b")
        winner = histories["slot-1"][0].event.visit_id
        loser = "b" if winner == "a" else "a"
        assert len(histories["slot-1"]) == 1
        assert len(histories[f"visit-{winner}"]) == 1
        assert histories[f"visit-{loser}"] == []

    def test_many_callers_on_one_stream_lose_nothing(self, store: Store) -> None:
        def write(number: int) -> None:
            while True:
                try:
                    store.execute(asked(f"k{number}"), ["visit-1"], _append(noted(str(number))))
                    return
                except Refusal as refusal:
                    if refusal.code != "busy":
                        raise

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, range(60)))
        history = store.load("visit-1")["visit-1"]
        assert [r.version for r in history] == list(range(1, 61))
        assert sorted(int(r.event.note) for r in history) == list(range(60))

    def test_many_callers_with_one_key_have_one_effect(self, store: Store) -> None:
        with ThreadPoolExecutor(16) as pool:
            answers = list(
                pool.map(
                    lambda n: store.execute(asked("k"), ["visit-1"], _append(noted(str(n)), Answer(201, {"n": n}))),
                    range(32),
                )
            )
        history = store.load("visit-1")["visit-1"]
        assert len(history) == 1
        assert {answer.body["n"] for answer in answers} == {int(history[0].event.note)}

    def test_a_decision_without_events_writes_nothing(self, store: Store) -> None:
        answer = store.execute(asked("k"), ["visit-1"], lambda h: Decision(answer=Answer(200, {"state": "nothing"})))
        assert answer.body == {"state": "nothing"}
        assert store.load("visit-1")["visit-1"] == []

    def test_an_erased_person_reads_as_nothing_while_the_event_stays(self, store: Store, sealer: PlainSealer) -> None:
        """§32, design rule 10."""
        store.execute(asked("k"), ["visit-1"], _append(noted("cough")))
        sealer.erased.add("p")
        [recorded] = store.load("visit-1")["visit-1"]
        assert recorded.event == VisitNoted(visit_id="1", patient_id="p", note=None)


def _append(event: object, answer: Answer | None = None) -> Any:
    return lambda histories: Decision([("visit-1", event)], answer=answer or Answer())
