"""Reading the log as it grows: change stream, checkpoint, and a full rescan when the change-stream history is gone.

A follower handles every commit at least once and the commits of one stream in their order. Its checkpoint moves only
after the handler returned, so a crash repeats and never skips. The checkpoint keeps the resume token and the highest
`pos` handled; when the token is worthless (down for days, oplog rolled over), everything from `pos` less an overlap is
read again by index, and the change stream continues from an instant taken before that scan began.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from eventkit.mongo_store import CODEC, DURABLE, to_commit
from eventkit.store import Commit

log = logging.getLogger(__name__)

Document = dict[str, Any]
Handler = Callable[[list[Commit]], Awaitable[None]]
BATCH = 1000
READ_AHEAD = 4 * BATCH
OVERLAP_SECONDS = 600  # longest time an insert may take between getting its `pos` and being committed
CHECKPOINT_SECONDS = 0.25
RETRY_SECONDS = 0.5
_HISTORY_GONE = {136, 280, 286}  # CappedPositionLost, ChangeStreamFatalError, ChangeStreamHistoryLost


def connect_async(url: str) -> AsyncMongoClient[Document]:
    """For followers: no overall timeout, since a change stream waits by design; sockets still notice a dead peer."""
    return AsyncMongoClient(url, tz_aware=True, serverSelectionTimeoutMS=5_000, socketTimeoutMS=20_000)


class Follower:
    """`run` ends only by cancellation or by the handler's own error, which is meant to end the process (rule 11)."""

    def __init__(self, database: AsyncDatabase[Document], name: str, handler: Handler) -> None:
        # What is not on a majority may still be rolled back, and must not be told to anybody.
        self._commits = database.get_collection("commits", codec_options=CODEC, read_concern=ReadConcern("majority"))
        self._checkpoints = database.get_collection("checkpoints", write_concern=DURABLE)
        self._database = database
        self._handler = handler
        self.name = name
        self.handled = 0
        self.checkpointed = 0  # how many of them a restart would not repeat
        self.behind = True  # until the change stream has run dry once

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except OperationFailure as error:
                if error.code not in _HISTORY_GONE:
                    log.warning("follower %s: %s; trying again", self.name, error)
                else:
                    log.warning("follower %s: change-stream history is gone, rescanning by position", self.name)
                    await self._checkpoints.update_one({"_id": self.name}, {"$unset": {"token": ""}})
            except PyMongoError as error:
                log.warning("follower %s: %s; trying again", self.name, type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        checkpoint = await self._checkpoints.find_one({"_id": self.name}) or {}
        if "token" in checkpoint:
            await self._tail(checkpoint.get("pos"), resume_after=checkpoint["token"])
            return
        hello = await self._database.command("hello")
        begin: Timestamp = hello["operationTime"]
        pos = await self._rescan(checkpoint.get("pos"), begin)
        await self._tail(pos, start_at_operation_time=begin)

    async def _rescan(self, pos: Timestamp | None, begin: Timestamp) -> Timestamp | None:
        floor = Timestamp(max(pos.time - OVERLAP_SECONDS, 0), 0) if pos else Timestamp(0, 0)
        batch: list[Document] = []
        async with self._database.client.start_session(causal_consistency=True) as session:
            # A majority read may lag; this one waits until it shows all that was written before the tail begins.
            session.advance_operation_time(begin)
            found = self._commits.find({"pos": {"$gte": floor}}, session=session, no_cursor_timeout=True)
            async with found.sort("pos", 1).batch_size(BATCH) as documents:
                async for document in documents:
                    batch.append(document)
                    if len(batch) >= BATCH:
                        pos = await self._handle(batch, pos)
                        batch = []
        return await self._handle(batch, pos)

    async def _tail(self, pos: Timestamp | None, **start: Any) -> None:
        pipeline: list[Document] = [
            {"$match": {"operationType": "insert"}},
            {"$project": {"fullDocument": 1}},
        ]
        async with await self._commits.watch(pipeline, max_await_time_ms=1000, batch_size=BATCH, **start) as stream:
            saved_at = 0.0
            saved_token: Any = start.get("resume_after")
            async with contextlib.aclosing(_read_ahead(stream)) as batches:
                async for batch, token in batches:
                    pos = await self._handle([change["fullDocument"] for change in batch], pos)
                    self.behind = bool(batch)
                    now = time.monotonic()
                    if token != saved_token and (now - saved_at >= CHECKPOINT_SECONDS or not batch):
                        await self._save(token, pos)
                        saved_at, saved_token = now, token

    async def _handle(self, documents: list[Document], pos: Timestamp | None) -> Timestamp | None:
        if not documents:
            return pos
        await self._handler([to_commit(document) for document in documents])
        self.handled += len(documents)
        highest = max(document["pos"] for document in documents)
        return highest if pos is None or highest > pos else pos

    async def _save(self, token: Any, pos: Timestamp | None) -> None:
        handled = self.handled
        update: Document = {"token": token}
        if pos is not None:
            update["pos"] = pos
        await self._checkpoints.update_one({"_id": self.name}, {"$set": update}, upsert=True)
        self.checkpointed = handled


async def _read_ahead(stream: AsyncChangeStream[Document]) -> AsyncGenerator[tuple[list[Document], Any], None]:
    """Batches of changes, each with the token to resume after it, read while the last batch is being handled. An empty
    batch is a quiet moment: its token has moved on all the same."""
    waiting: asyncio.Queue[tuple[Document | None, Any] | Exception] = asyncio.Queue(READ_AHEAD)

    async def read() -> None:
        try:
            while True:
                change = await stream.try_next()
                await waiting.put((change, change["_id"] if change else stream.resume_token))
        except Exception as error:
            await waiting.put(error)

    reader = asyncio.create_task(read())
    try:
        token: Any = None
        while True:
            batch: list[Document] = []
            failed: Exception | None = None
            while True:
                item = await waiting.get()
                if isinstance(item, Exception):
                    failed = item
                    break
                change, token = item
                if change is not None:
                    batch.append(change)
                if len(batch) >= BATCH or waiting.empty():
                    break
            if token is not None:
                yield batch, token
            if failed is not None:
                raise failed
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
