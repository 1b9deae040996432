"""What the account is told by text message, and once each (§18: «patient told»).

The templates stand with the provider; what we send is their name and values, none of them personal:

    login_code                  {code, minutes}
    visit_booked                {day, time}
    visit_lapsed.<reason>       {day, time}      unpaid, ineligible
    visit_withdrawn.<reason>    {day, time}      missed, declined (with the advice to go to a hospital, §19), silent, …
    slot_offered                {day, time, until}    of the waiting list
    refund_succeeded            {day, time, amount}    yuan
"""

from __future__ import annotations

from datetime import datetime

from eventkit.calls import PeerRefused
from eventkit.clock import SHANGHAI
from eventkit.core import Core
from eventkit.envelope import Envelope
from eventkit.ids import derived_id
from eventkit.store import Decision, Due, Histories, Request
from services.registration.events import AccountOpened, MessageGivenUp, MessagePlanned, MessageSent
from services.registration.handlers.people import account_stream
from services.registration.handlers.visits import Visits
from services.registration.partners import Sms


class Messages:
    def __init__(self, core: Core, visits: Visits) -> None:
        self._core = core
        self._visits = visits

    def plan(self, request: Request, envelope: Envelope, template: str, **params: str) -> None:
        """A message to the account of the event's visit, to be sent by a job. Raises Refusal("not_found")."""
        visit = self._visits.visit(envelope.data["visit_id"]).request
        self._plan(request, envelope.id, visit.account_id, visit.visit_id, template, visit.starts_at, params)

    def plan_offer(self, request: Request, cause: str, account_id: str, starts_at: datetime, until: datetime) -> None:
        """To who waited: the slot is theirs `until` then (§9). There is no visit yet."""
        last = f"{until.astimezone(SHANGHAI):%H:%M}"
        self._plan(request, cause, account_id, "", "slot_offered", starts_at, {"until": last})

    def _plan(
        self, request: Request, cause: str, account_id: str, visit_id: str, template: str, starts_at: datetime,
        params: dict[str, str],
    ) -> None:
        starts_at = starts_at.astimezone(SHANGHAI)
        planned = MessagePlanned(
            message_id=derived_id("message", cause),
            cause=cause,
            account_id=account_id,
            visit_id=visit_id,
            template=template,
            params={"day": f"{starts_at:%Y-%m-%d}", "time": f"{starts_at:%H:%M}", **params},
        )
        stream = message_stream(planned.message_id)

        def decide(histories: Histories) -> Decision:
            if histories[stream]:
                return Decision()
            args = {"message_id": planned.message_id}
            now = self._core.clock.now()
            return Decision([(stream, planned)], [Due(f"sms:{planned.message_id}", now, "send_message", args)])

        self._core.store.execute(request, [stream], decide)

    def send(self, request: Request, message_id: str, sms: Sms) -> None:
        """The phone is opened here and nowhere else. Raises Unanswered: the provider takes the same message once."""
        stream = message_stream(message_id)
        history = self._core.store.load(stream)[stream]
        if len(history) > 1:
            return
        planned: MessagePlanned = history[0].event
        phone = self._phone(planned.account_id)
        outcome: MessageSent | MessageGivenUp = MessageSent(message_id)
        if phone is None:
            outcome = MessageGivenUp(message_id, "no_phone")
        else:
            try:
                sms.send(planned.cause, phone, planned.template, planned.params)
            except PeerRefused as refused:
                outcome = MessageGivenUp(message_id, refused.code)

        def decide(histories: Histories) -> Decision:
            return Decision([(stream, outcome)] if len(histories[stream]) == 1 else [])

        self._core.store.execute(request, [stream], decide)

    def _phone(self, account_id: str) -> str | None:
        stream = account_stream(account_id)
        opened = (recorded.event for recorded in self._core.store.load(stream)[stream])
        return next((event.phone for event in opened if isinstance(event, AccountOpened)), None)


def message_stream(message_id: str) -> str:
    return f"message-{message_id}"
