"""What one record does to a processor, and what a changelog says when it is read back: no server needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from eventkit.envelope import Envelope, InvalidEvent, sequence
from eventkit.streams.guard import (
    CLAIM,
    POSITION,
    BurstLimit,
    Claim,
    Effect,
    Invalid,
    Kept,
    Output,
    Position,
    Processor,
    Repeated,
    Replay,
    Stalls,
    judge,
    kept_from,
    position_from,
    processor_topics,
    to_bytes,
    with_epoch,
)

WITHDRAWN = "org.fuzhen.registration.VisitWithdrawn.v1"
DUE = "org.fuzhen.payment.RefundDue.v1"


@dataclass(frozen=True)
class Seen:
    names: tuple[str, ...] = ()


def derive(state: Seen | None, event: Envelope) -> tuple[Seen, list[Output]]:
    if event.data.get("fault"):
        raise KeyError(event.data["fault"])
    after = Seen((*(state.names if state else ()), event.id))
    return after, [Output(DUE, "fee-v1", {"order_id": "fee-v1"}, ("fee-v1",))] if event.name == "VisitWithdrawn" else []


class Known:
    """Contracts that know two types."""

    def validate(self, envelope: Envelope, topic: str | None = None) -> None:
        if envelope.type not in (WITHDRAWN, DUE):
            raise InvalidEvent(f"{envelope.type} does not belong on {topic}")


REFUNDS: Processor[Seen] = Processor(
    "payment.refunds", ("registration.visit.v1",), "payment.refund-due.v1", Seen, derive
)
EVENT = Envelope(
    id="visit-v1/1", source="/services/registration", type=WITHDRAWN, subject="v1", time="2026-11-23T09:00:00.000Z",
    partitionkey="v1", sequence=sequence(1), data={}, correlationid="c1", traceparent="00-1-1-01",
)


def given(event: Envelope | bytes | None, kept: Kept | None = None, key: bytes | None = b"v1") -> Any:
    value = event.to_bytes() if isinstance(event, Envelope) else event
    known: Any = Known()
    return judge(REFUNDS, known, "registration.visit.v1", key, value, {"v1": kept}.get)


def kept_after(*events: Envelope) -> Kept:
    kept: Kept | None = None
    for event in events:
        effect = given(event, kept)
        assert isinstance(effect, Effect)
        kept = effect.kept
    assert kept is not None
    return kept


def test_first_event_makes_a_state_and_an_output_whose_every_field_comes_from_the_cause() -> None:
    effect = given(EVENT)
    assert REFUNDS.decode(effect.kept.state) == Seen(("visit-v1/1",))
    assert effect.kept.seen == {"visit-v1": 1}
    [output] = effect.outputs
    assert (output.source, output.time, output.causationid, output.correlationid, output.sequence) == (
        "/processors/payment.refunds", EVENT.time, EVENT.id, "c1", "0000000001",
    )
    assert output.to_bytes() == given(EVENT).outputs[0].to_bytes()


def test_the_same_cause_has_the_same_id_whichever_event_it_comes_from() -> None:
    other = replace(EVENT, id="visit-v1/2", sequence=sequence(2), time="2026-11-24T09:00:00.000Z")
    assert given(EVENT).outputs[0].id == given(other).outputs[0].id


@pytest.mark.parametrize(("version", "repeated"), [(1, True), (2, True), (3, False)])
def test_an_event_of_a_stream_counts_once(version: int, repeated: bool) -> None:
    kept = kept_after(EVENT, replace(EVENT, id="visit-v1/2", sequence=sequence(2)))
    verdict = given(replace(EVENT, id=f"visit-v1/{version}", sequence=sequence(version)), kept)
    assert isinstance(verdict, Repeated) is repeated


def test_a_derived_event_counts_once_by_its_id() -> None:
    derived = replace(EVENT, id="5f0c", source="/processors/x")
    kept = kept_after(derived)
    assert kept.ids == ["5f0c"]
    assert kept.seen == {}
    assert isinstance(given(derived, kept), Repeated)
    assert isinstance(given(replace(derived, id="5f0d"), kept), Effect)


def test_versions_that_were_never_here_are_told() -> None:
    assert given(EVENT).missing == 0
    assert given(replace(EVENT, id="visit-v1/4", sequence=sequence(4)), kept_after(EVENT)).missing == 2


@pytest.mark.parametrize(
    ("event", "key", "reason"),
    [
        (None, b"v1", "not JSON"),
        (b"\xff", b"v1", "not JSON"),
        (b"[]", b"v1", "not a JSON object"),
        (replace(EVENT, type="org.fuzhen.x.Unknown.v1"), b"v1", "does not belong"),
        (EVENT, b"v2", "its key is not its partitionkey"),
        (EVENT, None, "its key is not its partitionkey"),
        (replace(EVENT, partitionkey="__position__"), b"__position__", "reserved"),
        (replace(EVENT, data={"fault": "13800138000"}), b"v1", "derive raised KeyError"),
    ],
)
def test_what_is_invalid_has_a_reason_without_a_value(event: Envelope | bytes | None, key: bytes, reason: str) -> None:
    verdict = given(event, key=key)
    assert isinstance(verdict, Invalid)
    assert reason in verdict.reason
    assert "138" not in verdict.reason


def test_an_output_that_breaks_its_contract_is_never_sent() -> None:
    known: Any = Known()
    wrong = replace(REFUNDS, derive=lambda state, event: (Seen(), [Output("org.fuzhen.x.Unknown.v1", "s", {}, ("c",))]))
    verdict = judge(wrong, known, "registration.visit.v1", b"v1", EVENT.to_bytes(), {}.get)
    assert isinstance(verdict, Invalid)
    assert verdict.reason.startswith("derived ")


def record(epoch: int, state: str = "{}") -> bytes:
    return to_bytes(replace_epoch(kept_after(EVENT), epoch))


def replace_epoch(kept: Kept, epoch: int) -> Kept:
    return Kept(kept.state, kept.seen, kept.ids, epoch)


def test_a_writer_that_lost_the_partition_is_not_believed() -> None:
    replay = Replay(0)
    log = [(CLAIM, 1), (b"v1", 1), (CLAIM, 2), (b"v1", 2), (b"v1", 1), (b"v2", 1)]
    accepted = [
        replay.accepts(key, to_bytes(Claim(epoch)) if key == CLAIM else record(epoch)) for key, epoch in log
    ]
    assert accepted == [True, True, True, True, False, False]
    assert replay.outdone == {b"v1", b"v2"}


def test_a_key_is_written_again_only_while_the_stale_record_is_its_last() -> None:
    replay = Replay(2)
    assert not replay.accepts(b"v1", record(1))
    assert replay.accepts(b"v1", record(2))
    assert replay.outdone == set()


def test_records_are_believed_though_their_claim_was_compacted_away() -> None:
    replay = Replay(3)
    assert replay.accepts(b"v1", record(5))
    assert not replay.accepts(POSITION, to_bytes(Position({"t": 9}, 4)))
    assert replay.epoch == 5


def test_writing_again_changes_the_epoch_alone() -> None:
    kept = kept_after(EVENT)
    assert kept_from(with_epoch(b"v1", to_bytes(kept), 7)) == replace_epoch(kept, 7)
    position = Position({"t": 9}, 1, [1.5])
    assert position_from(with_epoch(POSITION, to_bytes(position), 7)) == Position({"t": 9}, 7, [1.5])


def test_a_burst_is_limited_across_restarts() -> None:
    burst = BurstLimit(limit=2, seconds=60)
    assert burst.allows([], 100.0)
    assert burst.allows([30.0, 95.0], 100.0), "the first is more than a minute old"
    assert not burst.allows([50.0, 95.0], 100.0)
    assert burst.recent([30.0, 95.0], 100.0) == [95.0]


def look(stalls: Stalls, now: float, steps: int = 0, ready: bool = True, *places: tuple[str, int, int]) -> str | None:
    return stalls.look(now, steps, ready, places)


def test_lag_without_progress_ends_a_worker() -> None:
    stalls = Stalls(limit=8, waiting_limit=15, partition_limit=60)
    assert look(stalls, 0, 5, True, ("t-0", 10, 20)) is None
    assert look(stalls, 8, 5, True, ("t-0", 10, 20)) is None
    assert "with lag" in str(look(stalls, 9, 5, True, ("t-0", 10, 20)))


def test_no_lag_is_no_stall_and_the_clock_starts_when_lag_does() -> None:
    stalls = Stalls(limit=8, waiting_limit=15, partition_limit=60)
    for now in range(100):
        assert look(stalls, now, 5, True, ("t-0", 20, 20)) is None
    assert look(stalls, 107, 5, True, ("t-0", 20, 21)) is None
    assert look(stalls, 108, 5, True, ("t-0", 20, 21)) is not None


def test_a_worker_that_never_gets_its_partitions_ends() -> None:
    stalls = Stalls(limit=8, waiting_limit=15, partition_limit=60)
    assert look(stalls, 0, 0, False) is None
    assert look(stalls, 15, 0, False) is None
    assert "before any partition" in str(look(stalls, 16, 0, False))


def test_one_partition_may_wait_its_turn_but_not_for_ever() -> None:
    stalls = Stalls(limit=8, waiting_limit=15, partition_limit=60)
    for now in range(60):
        assert look(stalls, now, now, True, ("t-0", now, 100), ("t-1", 7, 100)) is None
    assert "t-1 stands at 7 of 100" in str(look(stalls, 61, 61, True, ("t-0", 61, 100), ("t-1", 7, 100)))


def test_the_changelog_is_compacted_and_nothing_else() -> None:
    [changelog] = processor_topics("payment.refunds")
    assert (changelog.name, changelog.partitions) == (REFUNDS.changelog, REFUNDS.partitions)
    assert changelog.config["cleanup.policy"] == "compact"
