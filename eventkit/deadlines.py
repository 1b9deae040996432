"""Work that becomes due: business deadlines, and calls to partners that must be made until they are answered (rule 5).

A commit names its work (`Due`). A follower copies it into `deadlines`, one row an id, before its checkpoint moves; the
runner claims rows that are due and calls the job. A job turns the row into a command that carries the row's id as its
idempotency key, so that a row run twice has one effect. It is never early: `at` is compared with the one clock. A job
answers None when it is done, or `Again(seconds)` when the partner has no answer yet; anything it raises is tried again,
later and later.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.operations import InsertOne

from eventkit.clock import Clock
from eventkit.mongo_store import CODEC, DURABLE
from eventkit.store import Commit

log = logging.getLogger(__name__)

CLAIM_SECONDS = 30
POLL_SECONDS = 0.2
FIRST_RETRY_SECONDS = 0.3
LAST_RETRY_SECONDS = 30.0
RUNNERS = 8
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Again:
    """Not done: come back in `seconds` of wall time, or by growing steps when None."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of work. `attempt` counts from 1; `due` is the business instant it was meant for."""

    id: str
    job: str
    args: Mapping[str, Any]
    due: datetime
    attempt: int


Job = Callable[[Row], Again | None]


class Deadlines:
    def __init__(self, database: Database[dict[str, Any]], clock: Clock) -> None:
        self._rows = database.get_collection("deadlines", codec_options=CODEC, write_concern=DURABLE)
        self._clock = clock
        self._owner = socket.gethostname()
        self.wake = asyncio.Event()

    def ensure_indexes(self) -> None:
        self._rows.create_index(
            [("state", ASCENDING), ("due", ASCENDING), ("not_before", ASCENDING)], name="waiting"
        )

    def write(self, commits: list[Commit]) -> None:
        """Copy what the commits made due; rows that stand already are left as they are."""
        rows = [
            InsertOne({
                "_id": due.id, "state": "waiting", "job": due.job, "args": due.args, "due": due.at,
                "not_before": _NEVER, "attempts": 0,
            })
            for commit in commits
            for due in commit.due
        ]
        if not rows:
            return
        try:
            self._rows.bulk_write(rows, ordered=False)
        except BulkWriteError as error:
            if any(failure["code"] != 11000 for failure in error.details["writeErrors"]) or error.details.get(
                "writeConcernErrors"
            ):
                raise

    def release(self) -> None:
        """Let go of what this host claimed before it was killed: nobody needs to wait for those claims to run out."""
        self._rows.update_many(
            {"state": "waiting", "owner": self._owner}, {"$set": {"not_before": _NEVER}, "$unset": {"owner": ""}}
        )

    def claim(self) -> Row | None:
        """The most overdue row, ours alone for CLAIM_SECONDS of wall time."""
        wall = datetime.now(UTC)
        document = self._rows.find_one_and_update(
            {"state": "waiting", "due": {"$lte": self._clock.now()}, "not_before": {"$lte": wall}},
            {
                "$set": {"not_before": wall + timedelta(seconds=CLAIM_SECONDS), "owner": self._owner},
                "$inc": {"attempts": 1},
            },
            sort=[("due", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            return None
        return Row(document["_id"], document["job"], document["args"], document["due"], document["attempts"])

    def done(self, row: Row) -> None:
        self._rows.update_one({"_id": row.id}, {"$set": {"state": "done", "done_at": self._clock.now()}})

    def again(self, row: Row, seconds: float | None, reason: str) -> None:
        if seconds is None:
            seconds = min(FIRST_RETRY_SECONDS * 2 ** (row.attempt - 1), LAST_RETRY_SECONDS) * random.uniform(0.7, 1.3)
        self._rows.update_one(
            {"_id": row.id},
            {
                "$set": {"not_before": datetime.now(UTC) + timedelta(seconds=seconds), "last_reason": reason},
                "$unset": {"owner": ""},
            },
        )


class Runner:
    """Runs due rows on a few threads; one per service is enough, more share the work by claiming."""

    def __init__(self, deadlines: Deadlines, jobs: Mapping[str, Job]) -> None:
        self._deadlines = deadlines
        self._jobs = jobs
        self.last_progress = time.monotonic()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._deadlines.release)
        with ThreadPoolExecutor(RUNNERS, thread_name_prefix="deadline") as pool:
            free = asyncio.Semaphore(RUNNERS)
            running: set[asyncio.Future[None]] = set()

            def finished(task: asyncio.Future[None]) -> None:
                running.discard(task)
                free.release()

            while True:
                self._deadlines.wake.clear()
                await free.acquire()
                row = await asyncio.to_thread(self._claim)
                self.last_progress = time.monotonic()
                if row is not None:
                    task = loop.run_in_executor(pool, self._run_row, row)
                    running.add(task)
                    task.add_done_callback(finished)
                    continue
                free.release()
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._deadlines.wake.wait()
                except TimeoutError:
                    pass

    def _claim(self) -> Row | None:
        try:
            return self._deadlines.claim()
        except PyMongoError as error:
            log.warning("deadlines: %s; trying again", type(error).__name__)
            return None

    def _run_row(self, row: Row) -> None:
        try:
            job = self._jobs.get(row.job)
            if job is None:
                log.error("deadline %s names job %s, which this version does not know", row.id, row.job)
                self._deadlines.again(row, LAST_RETRY_SECONDS, "unknown job")
                return
            try:
                again = job(row)
            except Exception as error:  # the row stays, whatever went wrong
                log.warning("job %s for %s: %s: %s", row.job, row.id, type(error).__name__, error)
                self._deadlines.again(row, None, type(error).__name__)
                return
            if again is None:
                self._deadlines.done(row)
            else:
                self._deadlines.again(row, again.seconds, "not done yet")
        except PyMongoError as error:  # the claim runs out by itself and the row is run again
            log.warning("deadline %s: %s", row.id, type(error).__name__)
