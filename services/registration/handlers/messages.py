"""What an account is told of every change that it waits for, each once; the sentences are `notifications.py`.

A message is planned by the event it tells of and sent by a job. At night it waits for the morning, by the time its job
is due; a job that comes late into the night writes down that it waits, and the next one sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from eventkit.calls import PeerRefused
from eventkit.clock import SHANGHAI, day_end, rfc3339
from eventkit.core import Core
from eventkit.envelope import Envelope
from eventkit.ids import derived_id
from eventkit.store import Decision, Due, Histories, Request, fold
from services.registration.domain import waiting
from services.registration.domain.sessions import session_stream
from services.registration.domain.waiting import Waiting, waiting_stream
from services.registration.events import MessageDelayed, MessageGivenUp, MessagePlanned, MessageSent, OrderClosed
from services.registration.handlers.preferences import WECHAT, Preferences
from services.registration.handlers.visits import Visits
from services.registration.notifications import at_once, quiet_until, wording
from services.registration.partners import Sms, Wechat
from services.registration.policy import REMIND_BEFORE


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `cause` is the event's id, `ahead` the instant it is about where that is still to come, and
    `prescription_id` the order whose payment it asks for."""

    cause: str
    account_id: str
    template: str
    params: dict[str, str]
    visit_id: str = ""
    ahead: datetime | None = None
    due: Sequence[Due] = field(default_factory=tuple)
    prescription_id: str = ""


class Messages:
    def __init__(self, core: Core, visits: Visits, preferences: Preferences) -> None:
        self._core = core
        self._visits = visits
        self._preferences = preferences

    def plan(self, request: Request, envelope: Envelope, template: str, **params: str) -> None:
        """A message to the account of the event's visit. Raises Refusal("not_found")."""
        self._plan(request, self._about_visit(envelope.id, envelope.data["visit_id"], template, params))

    def plan_accepted(self, request: Request, envelope: Envelope) -> None:
        """§18: somebody waits in the conversation, on that day; who hears of it later is only misled."""
        visit = self._visits.visit(envelope.data["visit_id"]).request
        if self._core.clock.now() < day_end(visit.day):
            self.plan(request, envelope, "doctor_accepted")

    def plan_offer(self, request: Request, cause: str, account_id: str, starts_at: datetime, until: datetime) -> None:
        """To who waited: the slot is theirs `until` then (§9). There is no visit yet."""
        params = {**_slot(starts_at), "until": f"{until.astimezone(SHANGHAI):%H:%M}"}
        self._plan(request, Notice(cause, account_id, "slot_offered", params, ahead=until))

    def end_waiting(self, request: Request, envelope: Envelope) -> None:
        """§29: who waits for a session that was cancelled waits for nothing; its visits are told as withdrawn."""
        session, queue = (of(envelope.data["session_id"]) for of in (session_stream, waiting_stream))
        histories = self._core.store.load(session, queue)
        for entry in fold(waiting.evolve, Waiting(), histories[queue]).entries:
            starts_at = histories[session][0].event.starts_at
            cause = f"{envelope.id}/{entry.entry_id}"
            notice = Notice(cause, entry.account_id, "waiting_ended", _slot(starts_at), ahead=starts_at)
            self._plan(replace(request, key=cause), notice)

    def open_order(self, request: Request, envelope: Envelope) -> None:
        """§20: told now, and again when a day is left (§23)."""
        data = envelope.data
        until = datetime.fromisoformat(data["valid_until"])
        args = {
            "cause": envelope.id, "visit_id": data["visit_id"], "prescription_id": data["prescription_id"],
            "until": rfc3339(until),
        }
        reminder = Due(f"remind:{data['prescription_id']}", until - REMIND_BEFORE, "remind", args)
        notice = self._about_visit(envelope.id, data["visit_id"], "order_opened", {"until": _minute(until)})
        self._plan(request, replace(notice, due=(reminder,), prescription_id=data["prescription_id"]))

    def close_order(self, request: Request, prescription_id: str) -> None:
        """Paid, settled or void: nobody is reminded. It may be heard of before the order was."""
        stream = order_stream(prescription_id)

        def decide(histories: Histories) -> Decision:
            return Decision([] if histories[stream] else [(stream, OrderClosed(prescription_id))])

        self._core.store.execute(request, [stream], decide)

    def remind(self, request: Request, cause: str, visit_id: str, prescription_id: str, until: datetime) -> None:
        """§23: a day is left. Nothing is said after an outage that took this day too."""
        if self._closed(prescription_id) or self._core.clock.now() >= until:
            return
        notice = self._about_visit(cause, visit_id, "order_expiring", {"until": _minute(until)})
        self._plan(request, replace(notice, ahead=until, prescription_id=prescription_id))

    def _closed(self, prescription_id: str) -> bool:
        stream = order_stream(prescription_id)
        return bool(prescription_id and self._core.store.load(stream)[stream])

    def _about_visit(self, cause: str, visit_id: str, template: str, params: dict[str, str]) -> Notice:
        visit = self._visits.visit(visit_id).request
        ahead = visit.starts_at if template.startswith("visit_") else None
        return Notice(cause, visit.account_id, template, {**_slot(visit.starts_at), **params}, visit_id, ahead)

    def _plan(self, request: Request, notice: Notice) -> None:
        reach = self._preferences.of(notice.account_id)
        now = self._core.clock.now()
        cause = f"{notice.cause}:{notice.template}"
        planned = MessagePlanned(
            message_id=derived_id("message", cause),
            cause=cause,
            account_id=notice.account_id,
            visit_id=notice.visit_id,
            template=notice.template,
            params=notice.params,
            language=reach.language,
            channel=reach.channel,
            at_once=at_once(notice.template, now, notice.ahead),
            prescription_id=notice.prescription_id,
        )
        stream = message_stream(planned.message_id)
        send = _send(planned.message_id, now if planned.at_once else quiet_until(now) or now)

        def decide(histories: Histories) -> Decision:
            return Decision() if histories[stream] else Decision([(stream, planned)], [send, *notice.due])

        self._core.store.execute(request, [stream], decide)

    def send(self, request: Request, message_id: str, sms: Sms, wechat: Wechat) -> None:
        """Raises Unanswered: the provider takes the same message once."""
        stream = message_stream(message_id)
        history = [recorded.event for recorded in self._core.store.load(stream)[stream]]
        if any(isinstance(event, MessageSent | MessageGivenUp) for event in history):
            return
        planned: MessagePlanned = history[0]
        morning = None if planned.at_once else quiet_until(self._core.clock.now())
        outcome: MessageDelayed | MessageSent | MessageGivenUp
        due: list[Due] = []
        if self._closed(planned.prescription_id):  # paid in the night, say
            outcome = MessageGivenUp(message_id, "order_closed")
        elif morning is not None:
            outcome, due = MessageDelayed(message_id, morning), [_send(message_id, morning)]
        else:
            outcome = self._deliver(planned, sms, wechat)

        def decide(histories: Histories) -> Decision:
            return Decision([(stream, outcome)], due) if len(histories[stream]) == len(history) else Decision()

        self._core.store.execute(request, [stream], decide)

    def _deliver(self, planned: MessagePlanned, sms: Sms, wechat: Wechat) -> MessageSent | MessageGivenUp:
        """Phone and openid are opened here and nowhere else. Who cannot be reached by WeChat gets a text message."""
        reach = self._preferences.of(planned.account_id)
        text = wording(planned.template, planned.language, planned.params)
        if planned.channel == WECHAT and reach.wechat_openid is not None:
            try:
                wechat.send(planned.cause, reach.wechat_openid, planned.template, planned.params, text)
                return MessageSent(planned.message_id, WECHAT)
            except PeerRefused:
                pass
        if reach.phone is None:
            return MessageGivenUp(planned.message_id, "no_phone")
        try:
            sms.send(planned.cause, reach.phone, planned.template, planned.params, text)
        except PeerRefused as refused:
            return MessageGivenUp(planned.message_id, refused.code)
        return MessageSent(planned.message_id)


def message_stream(message_id: str) -> str:
    return f"message-{message_id}"


def order_stream(prescription_id: str) -> str:
    return f"order-{prescription_id}"


def _send(message_id: str, at: datetime) -> Due:
    return Due(f"send:{message_id}:{rfc3339(at)}", at, "send_message", {"message_id": message_id})


def _slot(starts_at: datetime) -> dict[str, str]:
    local = starts_at.astimezone(SHANGHAI)
    return {"day": f"{local:%Y-%m-%d}", "time": f"{local:%H:%M}"}


def _minute(instant: datetime) -> str:
    return f"{instant.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
