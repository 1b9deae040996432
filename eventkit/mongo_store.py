"""The log in MongoDB: one document a commit, inserted once, `w=majority, j=true`.

    {_id: "visit-7/0000000001",            the first position; a second insert of it is a conflict
     positions: ["visit-7/0000000001", "slot-3/0000000005", …],   unique, all streams of the commit; loads use it too
     events: [{stream, version, type, data, sealed?, person?, topic?, partitionkey?}],
     key?, fingerprint, answer: {status, body}, caller, correlation_id, causation_id, traceparent,
     at: business instant, pos: cluster time set by the server, due: [{id, at, job, args}]}

`pos` is what a full rescan follows when the change-stream history is gone: the primary fills it from the cluster time,
which never runs backwards, not even across elections.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, NoReturn

from bson.binary import Binary
from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from pymongo import ASCENDING, MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from eventkit.store import Answer, Commit, Conflict, Due, KeyTaken, LoggedEvent, Request, StoreUnavailable

Document = dict[str, Any]
CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
DURABLE = WriteConcern(w="majority", j=True)
DIRECT_WRITERS = 4
BATCH = 400
OPERATION_TIMEOUT_MS = 4_000  # a frozen primary must not hold a request for longer than its caller waits
_DUPLICATE = 11000


def connect(url: str) -> MongoClient[Document]:
    """A client whose every call ends within OPERATION_TIMEOUT_MS. Create it after fork, never before."""
    return MongoClient(
        url,
        tz_aware=True,
        tzinfo=UTC,
        timeoutMS=OPERATION_TIMEOUT_MS,
        serverSelectionTimeoutMS=OPERATION_TIMEOUT_MS,
        retryWrites=True,
        maxPoolSize=64,
    )


def commits_of(database: Database[Document]) -> Collection[Document]:
    return database.get_collection("commits", codec_options=CODEC, write_concern=DURABLE)


def ensure_indexes(database: Database[Document]) -> None:
    commits = commits_of(database)
    commits.create_index([("positions", ASCENDING)], unique=True, name="positions")
    commits.create_index(
        [("key", ASCENDING)], unique=True, name="key", partialFilterExpression={"key": {"$exists": True}}
    )
    commits.create_index([("pos", ASCENDING)], name="pos")


def to_document(commit: Commit) -> Document:
    request = commit.request
    positions = [event.position for event in commit.events]
    document: Document = {
        "_id": positions[0],
        "positions": positions,
        "events": [_event_document(event) for event in commit.events],
        "fingerprint": request.fingerprint,
        "answer": {"status": commit.answer.status, "body": commit.answer.body},
        "caller": request.caller,
        "route": request.route,
        "correlation_id": request.correlation_id,
        "causation_id": request.causation_id,
        "traceparent": request.traceparent,
        "at": commit.time,
        "pos": Timestamp(0, 0),
        "due": [{"id": due.id, "at": due.at, "job": due.job, "args": due.args} for due in commit.due],
    }
    if (key := request.idempotency) is not None:
        document["key"] = key
    return document


def _event_document(event: LoggedEvent) -> Document:
    document: Document = {"stream": event.stream, "version": event.version, "type": event.type, "data": event.data}
    if event.sealed is not None:
        document |= {"sealed": Binary(event.sealed), "person": event.person}
    if event.topic is not None:
        document |= {"topic": event.topic, "partitionkey": event.partitionkey}
    return document


def to_event(document: Document) -> LoggedEvent:
    sealed = document.get("sealed")
    return LoggedEvent(
        stream=document["stream"],
        version=document["version"],
        type=document["type"],
        data=document["data"],
        sealed=bytes(sealed) if sealed is not None else None,
        person=document.get("person"),
        topic=document.get("topic"),
        partitionkey=document.get("partitionkey"),
    )


def to_commit(document: Document) -> Commit:
    return Commit(
        events=tuple(to_event(event) for event in document["events"]),
        time=document["at"],
        request=Request(
            caller=document["caller"],
            route=document["route"],
            key=None,
            fingerprint=document["fingerprint"],
            correlation_id=document["correlation_id"],
            causation_id=document["causation_id"],
            traceparent=document["traceparent"],
        ),
        answer=Answer(document["answer"]["status"], document["answer"]["body"]),
        due=tuple(Due(due["id"], due["at"], due["job"], due["args"]) for due in document["due"]),
    )


class MongoBackend:
    """`append` writes alone while few write, and through one flusher thread when many do: the flusher turns what waits
    into one `insert_many(ordered=False)` and gives each caller its own outcome (group commit)."""

    def __init__(self, database: Database[Document]) -> None:
        self._commits = commits_of(database)
        self._waiting: queue.SimpleQueue[tuple[Document, Future[None]]] = queue.SimpleQueue()
        self._writers = 0
        self._lock = threading.Lock()
        self._flusher: threading.Thread | None = None

    def append(self, commit: Commit) -> None:
        document = to_document(commit)
        with self._lock:
            self._writers += 1
            direct = self._writers <= DIRECT_WRITERS
            if not direct and self._flusher is None:
                self._flusher = threading.Thread(target=self._flush, name="group-commit", daemon=True)
                self._flusher.start()
        try:
            if direct:
                self._insert(document)
            else:
                outcome: Future[None] = Future()
                self._waiting.put((document, outcome))
                outcome.result()
        finally:
            with self._lock:
                self._writers -= 1

    def _insert(self, document: Document) -> None:
        try:
            self._commits.insert_one(document)
        except DuplicateKeyError:
            self._lost(document)
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error

    def _flush(self) -> None:
        while True:
            waiting = [self._waiting.get()]
            while len(waiting) < BATCH and not self._waiting.empty():
                waiting.append(self._waiting.get())
            failed: dict[int, Exception] = {}
            try:
                self._commits.insert_many([document for document, _ in waiting], ordered=False)
            except BulkWriteError as error:
                details = error.details
                concern = details.get("writeConcernErrors") or []
                for write_error in details["writeErrors"]:
                    index = write_error["index"]
                    failed[index] = self._reason(waiting[index][0], write_error)
                if concern:  # inserted, but not known to be on a majority: unknown to everybody else
                    unknown = StoreUnavailable(str(concern[0].get("errmsg", "write concern")))
                    failed = {index: failed.get(index, unknown) for index in range(len(waiting))}
            except Exception as error:  # whatever it is, no caller may wait for ever
                unknown = StoreUnavailable(str(error))
                unknown.__cause__ = error
                failed = dict.fromkeys(range(len(waiting)), unknown)
            for index, (_, outcome) in enumerate(waiting):
                if index in failed:
                    outcome.set_exception(failed[index])
                else:
                    outcome.set_result(None)

    def _reason(self, document: Document, write_error: Document) -> Exception:
        if write_error.get("code") != _DUPLICATE:
            return StoreUnavailable(str(write_error.get("errmsg")))
        try:
            self._lost(document)
        except (Conflict, KeyTaken, StoreUnavailable) as reason:
            return reason

    def _lost(self, document: Document) -> NoReturn:
        """Tell a lost race from a repeated request. The same insert retried by the driver also ends here: it finds its
        own key, and its own answer."""
        key = document.get("key")
        if key is not None and (found := self.answered(key)) is not None:
            raise KeyTaken(*found)
        raise Conflict

    def read(self, streams: Iterable[str]) -> list[tuple[LoggedEvent, datetime]]:
        wanted = set(streams)
        if not wanted:
            return []
        # "0" follows "/" in ASCII: the range holds every version of the stream and nothing else.
        ranges = [{"positions": {"$elemMatch": {"$gte": f"{name}/", "$lt": f"{name}0"}}} for name in wanted]
        try:
            documents = list(self._commits.find({"$or": ranges} if len(ranges) > 1 else ranges[0]))
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error
        found = [
            (to_event(event), document["at"])
            for document in documents
            for event in document["events"]
            if event["stream"] in wanted
        ]
        return sorted(found, key=lambda entry: (entry[0].stream, entry[0].version))

    def answered(self, idempotency: str) -> tuple[Answer, str] | None:
        try:
            document = self._commits.find_one({"key": idempotency}, {"answer": 1, "fingerprint": 1})
        except PyMongoError as error:
            raise StoreUnavailable(str(error)) from error
        if document is None:
            return None
        return Answer(document["answer"]["status"], document["answer"]["body"]), document["fingerprint"]
