"""Work that became due: the three days, and the calls to the courier until it answers (design rules 5 and 8)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from eventkit.calls import Unanswered
from eventkit.clock import rfc3339
from eventkit.deadlines import Again, Job, Row
from eventkit.store import Request
from services.pharmacy.courier import CourierApi, NotTaken, Recipient
from services.pharmacy.handlers import Handlers

log = logging.getLogger(__name__)

POLL_AGAIN_SECONDS = 1800


def jobs(handlers: Handlers, courier: CourierApi) -> Mapping[str, Job]:
    def expire_prescription(row: Row) -> None:
        handlers.expire(_request(row), row.args["prescription_id"], unpaid=False)

    def hand_over(row: Row) -> Again | None:
        """Order the courier. An order whose answer was lost is found again under our number."""
        parcel_id = row.args["parcel_id"]
        parcel = handlers.parcel(parcel_id)
        if parcel.opened is None or parcel.handed_over or parcel.ended:
            return None
        address = handlers.prescription(parcel.opened.prescription_id).address
        if address is None or address.recipient is None or address.phone is None or address.address is None:
            log.error("parcel %s has no readable address", parcel_id)
            handlers.give_up(_request(row), parcel_id)
            return None
        try:
            tracking_no = courier.order(parcel_id, Recipient(address.recipient, address.phone, address.address))
        except NotTaken as refused:
            log.error("the courier does not take parcel %s: %s", parcel_id, refused)
            handlers.give_up(_request(row), parcel_id)
            return None
        except Unanswered:
            return Again()
        handlers.hand_over(_request(row), parcel_id, tracking_no)
        return None

    def poll_parcel(row: Row) -> Again | None:
        """A courier that told us nothing, or not everything, is asked until the parcel has arrived somewhere."""
        parcel_id = row.args["parcel_id"]
        parcel = handlers.parcel(parcel_id)
        if parcel.handed_over is None or parcel.ended:
            return None
        try:
            reports = courier.history(parcel.handed_over.tracking_no)
        except Unanswered:
            return Again()
        for report in reports:
            handlers.note_report(
                _request(row, f"{report.status}@{rfc3339(report.at)}"), parcel_id, report
            )
        return None if handlers.parcel(parcel_id).ended else Again(POLL_AGAIN_SECONDS)

    return {"expire_prescription": expire_prescription, "hand_over": hand_over, "poll_parcel": poll_parcel}


def _request(row: Row, *more: str) -> Request:
    return Request(caller="jobs", route=row.job, key="/".join((row.id, *more)))
