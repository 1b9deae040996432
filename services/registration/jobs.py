"""Work that became due (design rule 5). A row's id is the idempotency key of its command."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from eventkit.deadlines import Again, Job, Row
from eventkit.store import Request
from services.registration.handlers.messages import Messages
from services.registration.handlers.visits import Visits
from services.registration.handlers.waiting import WaitingLists
from services.registration.partners import Sms, Wechat


def jobs(
    visits: Visits, waiting: WaitingLists, messages: Messages, sms: Sms, wechat: Wechat
) -> Mapping[str, Job]:
    def lapse_visit(row: Row) -> Again | None:
        visits.lapse(_request(row), row.args["visit_id"], "unpaid")
        return None

    def withdraw_visit(row: Row) -> Again | None:
        visits.withdraw(_request(row), row.args["visit_id"], row.args["reason"])
        return None

    def send_message(row: Row) -> Again | None:
        messages.send(_request(row), row.args["message_id"], sms, wechat)
        return None

    def tell_offer(row: Row) -> Again | None:
        starts_at, until = (datetime.fromisoformat(row.args[name]) for name in ("starts_at", "until"))
        messages.plan_offer(_request(row), row.id, row.args["account_id"], starts_at, until)
        return None

    def remind(row: Row) -> Again | None:
        cause, visit_id, prescription_id = (row.args[name] for name in ("cause", "visit_id", "prescription_id"))
        until = datetime.fromisoformat(row.args["until"])
        messages.remind(_request(row), cause, visit_id, prescription_id, until)
        return None

    def end_offer(row: Row) -> Again | None:
        waiting.end_offer(_request(row), row.args["session_id"], row.args["entry_id"], row.args["slot_id"])
        return None

    return {
        "lapse_visit": lapse_visit,
        "withdraw_visit": withdraw_visit,
        "tell_offer": tell_offer,
        "end_offer": end_offer,
        "remind": remind,
        "send_message": send_message,
    }


def _request(row: Row) -> Request:
    return Request(caller="jobs", route=row.job, key=row.id)
