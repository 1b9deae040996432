"""Load → decide → append for the consult and its conversation, which are always decided together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from eventkit.calls import Peer, PeerRefused
from eventkit.clock import day_end, rfc3339
from eventkit.core import Core
from eventkit.events import Recorded
from eventkit.ids import derived_id
from eventkit.store import Answer, Decision, Due, Request, fold
from services.consult import domain
from services.consult.domain import Consult
from services.consult.events import (
    CallOpened,
    ConsultAbandoned,
    ConsultAccepted,
    ConsultCancelled,
    ConsultDeclined,
    ConsultFinished,
    ConsultScheduled,
    Event,
    MediaKept,
    MessagePosted,
    Refusal,
    Side,
)

Decide = Callable[[Consult, datetime], list[Event]]
CONVERSATION = "conversation-"


def consult_stream(visit_id: str) -> str:
    return f"consult-{visit_id}"


def conversation_stream(visit_id: str) -> str:
    return f"{CONVERSATION}{visit_id}"


def media_stream(visit_id: str) -> str:
    return f"media-{visit_id}"


def _state_answer(visit_id: str, consult: Consult, events: list[Event]) -> Answer:
    return Answer(200, {"visit_id": visit_id, "state": consult.status})


def _message_answer(visit_id: str, consult: Consult, events: list[Event]) -> Answer:
    body: dict[str, Any] = {}
    for event in events:
        if isinstance(event, MessagePosted):
            body = {"number": event.number, "message_id": event.message_id, "posted_at": rfc3339(event.posted_at)}
    return Answer(201, body)


class Handlers:
    """One method a command. All raise Refusal and StoreUnavailable; answers hold ids and states only (§31)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._clock = core.clock

    @cached_property
    def _registration(self) -> Peer:
        return self._core.service("registration")

    # --- from the doctor and the patient

    def accept(self, request: Request, visit_id: str, command: domain.AcceptConsult) -> Answer:
        """Eligibility is checked again first (§5). The doctor is told what it refuses; registration withdraws such a
        visit. A repeat of an acceptance that stands asks nobody. Raises PeerRefused, Unanswered as well."""
        consult = self._load(consult_stream(visit_id))
        if consult.status == "waiting":
            domain.accept(command, consult, self._clock.now())
            self._check_eligibility(request, visit_id)
        return self._execute(request, visit_id, lambda consult, now: domain.accept(command, consult, now))

    def decline(self, request: Request, visit_id: str, command: domain.DeclineConsult) -> Answer:
        return self._execute(request, visit_id, lambda consult, now: domain.decline(command, consult, now))

    def finish(self, request: Request, visit_id: str, command: domain.FinishConsult) -> Answer:
        return self._execute(request, visit_id, lambda consult, now: domain.finish(command, consult, now))

    def post(self, request: Request, visit_id: str, command: domain.PostMessage) -> Answer:
        return self._execute(
            request, visit_id, lambda consult, now: domain.post(command, consult, now), answer=_message_answer,
            beside=() if command.kind == "text" else (media_stream(visit_id),),
        )

    def keep_media(self, request: Request, visit_id: str, command: domain.KeepMedia) -> Answer:
        answer = Answer(201, {
            "media_id": command.media_id, "kind": command.kind, "milliseconds": command.milliseconds,
        })
        return self._execute(
            request, visit_id, lambda consult, now: domain.keep_media(command, consult, now),
            answer=lambda *_: answer, beside=(media_stream(visit_id),),
        )

    # --- from policies and deadlines

    def schedule(self, request: Request, command: domain.ScheduleConsult) -> Answer:
        return self._execute(request, command.visit_id, lambda consult, now: domain.schedule(command, consult))

    def cancel(self, request: Request, visit_id: str, command: domain.CancelConsult) -> Answer:
        return self._execute(request, visit_id, lambda consult, now: domain.cancel(command, consult, now))

    def show_prescription(self, request: Request, visit_id: str, command: domain.ShowPrescription) -> Answer:
        return self._execute(request, visit_id, lambda consult, now: domain.show_prescription(command, consult, now))

    def miss(self, request: Request, visit_id: str) -> Answer:
        return self._execute(request, visit_id, lambda consult, now: domain.miss(domain.MissConsult(), consult, now))

    def warn_of_silence(self, request: Request, visit_id: str) -> Answer:
        command = domain.WarnOfSilence()
        return self._execute(request, visit_id, lambda consult, now: domain.warn_of_silence(command, consult, now))

    def abandon(self, request: Request, visit_id: str) -> Answer:
        command = domain.AbandonConsult()
        return self._execute(request, visit_id, lambda consult, now: domain.abandon(command, consult, now))

    def forget(self, visit_id: str) -> None:
        """§32: the conversation's time is over, and the key of its words, pictures and voice clips goes."""
        self._core.vault.erase(visit_id, self._clock.now())

    # --- reading

    def read(self, visit_id: str, role: Side, subject: str) -> Consult:
        """The consult without its conversation, for its own people only. Raises Refusal `not_found` for others."""
        consult = self._load(consult_stream(visit_id))
        domain.may_read(consult, role, subject)
        return consult

    def open_call(self, request: Request, visit_id: str, command: domain.OpenCall) -> Answer:
        def answer(visit_id: str, consult: Consult, events: list[Event]) -> Answer:
            assert consult.call is not None  # opened now, or open already
            return Answer(201, {"call_id": consult.call.call_id, "medium": consult.call.medium})

        return self._execute(
            request, visit_id, lambda consult, now: domain.open_call(command, consult, now), answer=answer
        )

    def join_call(self, visit_id: str, call_id: str, side: Side, subject: str) -> domain.Call:
        """Raises Refusal as `domain.join_call`."""
        consult = self._load(consult_stream(visit_id))
        return domain.join_call(side, subject, call_id, consult, self._clock.now())

    def note_call(self, request: Request, visit_id: str, command: domain.NoteCall) -> Answer:
        return self._execute(request, visit_id, lambda consult, now: domain.note_call(command, consult, now))

    def current_call(self, consult: Consult) -> domain.Call | None:
        return domain.current_call(consult, self._clock.now())

    def writer(self, visit_id: str, sender: Side, author_id: str) -> str:
        """The patient of the visit in which this author may write now. Raises Refusal as `domain.may_write`."""
        consult = self._load(consult_stream(visit_id))
        return domain.may_write(sender, author_id, consult, self._clock.now()).patient_id

    def see_media(self, visit_id: str, media_id: str, role: Side) -> None:
        """Raises Refusal `not_found` for what this side of the visit may not see (§31)."""
        domain.may_see(self._load(media_stream(visit_id), conversation_stream(visit_id)), media_id, role)

    # --- inside

    def _load(self, *streams: str) -> Consult:
        return _state(self._store.load(*streams), streams)

    def _check_eligibility(self, request: Request, visit_id: str) -> None:
        try:
            self._registration.post(
                f"/api/registration/internal/visits/{visit_id}/eligibility",
                {"checkpoint": "acceptance"},
                key=derived_id("acceptance", visit_id, request.caller, request.key or ""),
            )
        except PeerRefused as refused:
            match refused.code:
                case "not_eligible":
                    raise Refusal("not_eligible", failed=refused.body["failed"]) from refused
                case "visit_over":  # withdrawn at registration, and the news of it is on its way
                    raise Refusal("consult_over") from refused
                case _:
                    raise

    def _execute(
        self,
        request: Request,
        visit_id: str,
        decide: Decide,
        answer: Callable[[str, Consult, list[Event]], Answer] = _state_answer,
        beside: Sequence[str] = (),
    ) -> Answer:
        streams = (consult_stream(visit_id), conversation_stream(visit_id), *beside)

        def decision(histories: Mapping[str, Sequence[Recorded]]) -> Decision:
            consult, now = _state(histories, streams), self._clock.now()
            events = decide(consult, now)
            for event in events:
                consult = domain.evolve(consult, event)
            return Decision(
                events=[(_stream_of(event), event) for event in events],
                due=[due for event in events for due in _due(event, consult, now)],
                answer=answer(visit_id, consult, events),
            )

        return self._store.execute(request, streams, decision)


def _state(histories: Mapping[str, Sequence[Recorded]], streams: Sequence[str]) -> Consult:
    return fold(domain.evolve, Consult(), (recorded for stream in streams for recorded in histories[stream]))


def _stream_of(event: Event) -> str:
    match event:
        case MessagePosted():
            return conversation_stream(event.visit_id)
        case MediaKept():
            return media_stream(event.visit_id)
        case _:
            return consult_stream(event.visit_id)


def _due(event: Event, consult: Consult, now: datetime) -> list[Due]:
    """The deadlines that an event starts; what becomes of them is decided when they are due."""
    match event:
        case ConsultScheduled():
            forgotten = day_end(domain.conversation_end(event.day) - timedelta(days=1))
            return [
                _job("miss_consult", event.visit_id, event.day_ends_at),
                _job("forget_conversation", event.visit_id, forgotten),
            ]
        case ConsultAccepted() if consult.visit is not None:
            policy = domain.policy_on(consult.visit.day)
            return [
                _job("warn_of_silence", event.visit_id, event.accepted_at + policy.warn_after),
                _job("abandon_consult", event.visit_id, event.accepted_at + policy.abandon_after),
            ]
        case ConsultFinished() | ConsultDeclined() | ConsultCancelled() | ConsultAbandoned():
            if consult.call is None or consult.call.ended:
                return []
            room = consult.call.call_id
            return [Due(f"end_room:{room}", now, "end_room", {"room": room})]
        case CallOpened() if consult.calls > 1:  # perhaps in place of one of the other medium
            room = f"{event.visit_id}.{consult.calls - 1}"
            return [Due(f"end_room:{room}", now, "end_room", {"room": room})]
        case _:
            return []


def _job(name: str, visit_id: str, at: datetime) -> Due:
    return Due(f"{name}:{visit_id}", at, name, {"visit_id": visit_id})
