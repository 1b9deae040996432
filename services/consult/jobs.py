"""Deadlines that have come: each is one command, which the domain may still find nothing to do for. And a call
that outlives its visit is ended at the server that carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eventkit.deadlines import Job, Row
from eventkit.store import Answer, Request
from services.consult.handlers import Handlers
from services.consult.livekit import LiveKit


def jobs(handlers: Handlers, livekit: LiveKit | None) -> Mapping[str, Job]:
    def end_room(row: Row) -> None:
        if livekit is not None:
            livekit.end_room(row.args["room"])

    def forget_conversation(row: Row) -> None:
        handlers.forget(row.args["visit_id"])

    return {
        "forget_conversation": forget_conversation,
        "end_room": end_room,
        "miss_consult": _job(handlers.miss),
        "warn_of_silence": _job(handlers.warn_of_silence),
        "abandon_consult": _job(handlers.abandon),
    }


def _job(command: Callable[[Request, str], Answer]) -> Job:
    def run(row: Row) -> None:
        command(Request(caller="jobs", route=row.job, key=row.id, correlation_id=row.id), row.args["visit_id"])

    return run
