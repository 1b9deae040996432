"""The pure half of a processor: what one record of a source does, decided without any server (design rules 4 and 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from eventkit.contracts import Contracts
from eventkit.envelope import Envelope, InvalidEvent, sequence
from eventkit.ids import derived_id

S = TypeVar("S")

CLAIM = b"__claim__"
POSITION = b"__position__"
_OWN_KEYS = (CLAIM.decode(), POSITION.decode())
IDS_KEPT = 200
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Output:
    """One event to derive. `cause` names the business cause (`order_id`): type and cause make the event id, the same
    however often and from whichever event it is derived. `partitionkey` is the causing event's unless given."""

    type: str
    subject: str
    data: dict[str, Any]
    cause: tuple[str, ...]
    partitionkey: str = ""


@dataclass(frozen=True)
class Processor(Generic[S]):
    """A Faust processor as a service declares it.

    `derive(state, event)` is pure: the state of the event's key (None at first) and the event in, the next state and
    the outputs out. It sees every event of `sources` once, those of one source in order. Between two sources there is
    no order, and after a kill another one: which outputs there are must not depend on it. `state` is its type, a
    frozen dataclass that msgspec can write as JSON; fields may be added with a default, never taken.
    """

    app_id: str
    sources: tuple[str, ...]
    output_topic: str
    state: type[S]
    derive: Callable[[S | None, Envelope], tuple[S, list[Output]]]
    partitions: int = 12

    @property
    def changelog(self) -> str:
        return f"{self.app_id}-state-changelog"

    @property
    def dead_letters(self) -> str:
        return f"dlq.{self.app_id}"

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[S]:
        return msgspec.json.Decoder(self.state)

    def encode(self, state: S) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(state))

    def decode(self, raw: msgspec.Raw) -> S:
        return self._decoder.decode(raw)


class TopicSpec(NamedTuple):
    name: str
    partitions: int
    config: dict[str, str]


def processor_topics(app_id: str, partitions: int = 12) -> list[TopicSpec]:
    """The topics that only the processor itself uses. The changelog is compacted and nothing else: retention would take
    state away. What a stopped-and-returned writer appends must stay beside what it must not replace until the next
    take-over, hence the lag."""
    return [
        TopicSpec(
            f"{app_id}-state-changelog",
            partitions,
            {"cleanup.policy": "compact", "min.compaction.lag.ms": str(DAY_MS), "min.cleanable.dirty.ratio": "0.2"},
        )
    ]


class Kept(msgspec.Struct, frozen=True):
    """What the changelog keeps for a key: the state, and the guard that was written with it. `seen` is the last version
    of each source stream, `ids` are derived events (they stand in no stream), `epoch` is the writer's."""

    state: msgspec.Raw
    seen: dict[str, int]
    ids: list[str]
    epoch: int = 0


class Position(msgspec.Struct, frozen=True):
    """What the changelog keeps for a partition: the next offset by source topic. It stands in the same record batch as
    the effects it covers, after them; the broker appends a batch whole or not at all. `dead` are the instants (Unix
    seconds) of the last minute's dead letters, so that a restart does not open a burst's limit again."""

    next: dict[str, int]
    epoch: int = 0
    dead: list[float] = []


class Claim(msgspec.Struct, frozen=True):
    epoch: int


_ENCODE = msgspec.json.Encoder().encode
_KEPT = msgspec.json.Decoder(Kept)
_POSITION = msgspec.json.Decoder(Position)
_CLAIM = msgspec.json.Decoder(Claim)


def to_bytes(record: Kept | Position | Claim) -> bytes:
    return _ENCODE(record)


def kept_from(raw: bytes) -> Kept:
    return _KEPT.decode(raw)


def position_from(raw: bytes) -> Position:
    return _POSITION.decode(raw)


def claim_from(raw: bytes) -> Claim:
    return _CLAIM.decode(raw)


def with_epoch(key: bytes, raw: bytes, epoch: int) -> bytes:
    record = position_from(raw) if key == POSITION else kept_from(raw)
    return to_bytes(msgspec.structs.replace(record, epoch=epoch))


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event does to its key. `missing` are versions of its stream that were never seen here."""

    key: str
    kept: Kept
    outputs: list[Envelope]
    missing: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """An event whose effect is in the state already."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """A record that goes to the dead letters. `reason` holds no value of the event (§31)."""

    reason: str


def judge(
    processor: Processor[Any],
    contracts: Contracts,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    load: Callable[[str], Kept | None],
) -> Effect | Repeated | Invalid:
    try:
        event = Envelope.parse(value)
        contracts.validate(event, topic)
        if key is None or key != event.partitionkey.encode():
            raise InvalidEvent("its key is not its partitionkey")
        if event.partitionkey in _OWN_KEYS:
            raise InvalidEvent("its key is reserved")
    except InvalidEvent as error:
        return Invalid(str(error))
    kept = load(event.partitionkey)
    if kept is not None and is_repeated(kept, event):
        return Repeated()
    try:
        state, outputs = processor.derive(processor.decode(kept.state) if kept else None, event)
        derived = [to_envelope(output, event, processor.app_id) for output in outputs]
        for envelope in derived:
            contracts.validate(envelope, processor.output_topic)
    except InvalidEvent as error:
        return Invalid(f"derived {error}")
    except Exception as error:
        return Invalid(f"derive raised {type(error).__name__}")
    seen, ids = (kept.seen, kept.ids) if kept else ({}, [])
    missing = event.version - seen.get(event.stream, 0) - 1 if event.stream else 0
    if event.stream:
        seen = {**seen, event.stream: event.version}
    else:
        ids = [*ids, event.id][-IDS_KEPT:]
    return Effect(event.partitionkey, Kept(processor.encode(state), seen, ids), derived, missing)


def is_repeated(kept: Kept, event: Envelope) -> bool:
    if event.stream:
        return event.version <= kept.seen.get(event.stream, 0)
    return event.id in kept.ids


def to_envelope(output: Output, cause: Envelope, app_id: str) -> Envelope:
    """Every field comes from the cause, so that deriving again gives the same bytes."""
    return Envelope(
        id=derived_id(output.type, *output.cause),
        source=f"/processors/{app_id}",
        type=output.type,
        subject=output.subject,
        time=cause.time,
        partitionkey=output.partitionkey or cause.partitionkey,
        sequence=sequence(1),
        data=output.data,
        correlationid=cause.correlationid,
        causationid=cause.id,
        traceparent=cause.traceparent,
    )


class Replay:
    """Reads a changelog partition back, record by record in the order of the log.

    A worker that takes a partition over first appends a claim with the next epoch, and stamps everything it writes with
    it. A writer that was stopped, lost the partition and came back still appends with its old epoch: such a record is
    not applied, and its key is in `outdone`, to be written again, because compaction would keep the later record.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.outdone: set[bytes] = set()

    def accepts(self, key: bytes, value: bytes) -> bool:
        epoch = (claim_from if key == CLAIM else position_from if key == POSITION else kept_from)(value).epoch
        if epoch < self.epoch:
            if key != CLAIM:
                self.outdone.add(key)
            return False
        self.epoch = epoch
        self.outdone.discard(key)
        return True


class BurstLimit:
    """More than `limit` dead letters within `seconds` mean that the fault is ours: one more must not be written."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds

    def recent(self, times: Iterable[float], now: float) -> list[float]:
        return [at for at in times if at > now - self._seconds]

    def allows(self, times: Iterable[float], now: float) -> bool:
        return len(self.recent(times, now)) < self._limit


class Stalls:
    """Lag without progress. `waiting_limit` is for a worker that has not taken its partitions over yet, `limit` for one
    that has, `partition_limit` for one partition among others that do move (a large backlog is read in turns)."""

    def __init__(self, limit: float, waiting_limit: float, partition_limit: float) -> None:
        self._limit = limit
        self._waiting_limit = waiting_limit
        self._partition_limit = partition_limit
        self._steps = -1
        self._since: float | None = None
        self._partitions: dict[Any, tuple[int, float]] = {}
        self.seconds = 0.0

    def look(self, now: float, steps: int, ready: bool, places: Sequence[tuple[Any, int, int]]) -> str | None:
        """Why the worker must end, or None. `steps` counts whatever it did; `places` are (name, position, end)."""
        lagging = any(position < end for _, position, end in places)
        if self._since is None or steps != self._steps or (ready and not lagging):
            self._since = now
        self._steps = steps
        self.seconds = now - self._since
        limit = self._limit if ready else self._waiting_limit
        if self.seconds > limit:
            why = "with lag" if ready else "before any partition was ready"
            return f"no progress for {self.seconds:.0f} s {why}"
        before, self._partitions = self._partitions, {}
        for name, position, end in places:
            if position < end:
                at, since = before.get(name, (position, now))
                self._partitions[name] = (position, since if at == position else now)
                if now - self._partitions[name][1] > self._partition_limit:
                    return f"{name} stands at {position} of {end} for {self._partition_limit:.0f} s"
        return None
