"""The courier's API, as `partners/courier` speaks it: orders, tracking, prices, and its signed notices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventkit.calls import Peer, PeerRefused, Unanswered
from eventkit.signing import is_signed, signed_with
from services.pharmacy.domain.parcel import Report

SENDER = "复诊互联网医院药房"
_PRICE_TIMEOUT = (0.5, 1.0)  # an estimate is a courtesy: nobody waits for it
_NOT_TAKEN = {400, 409, 422}


class NotTaken(Exception):
    """The courier clearly does not take this parcel, and would not the next time either."""


@dataclass(frozen=True, slots=True)
class Recipient:
    name: str
    phone: str
    address: str


class CourierApi:
    def __init__(self, url: str, api_key: bytes, notice_key: bytes) -> None:
        self._notice_key = notice_key
        self._peer = Peer("courier", url, headers=signed_with(api_key))
        self._prices = Peer("courier-price", url, headers=signed_with(api_key), timeout=_PRICE_TIMEOUT)

    def price_fen(self, to: str, weight_g: int) -> int | None:
        """The courier's estimate in fen, or None when it has none just now."""
        try:
            answer = self._prices.call("GET", "/price", params={"to": to, "weight_g": str(weight_g)})
            return int(answer["courier_fee_fen"])
        except (Unanswered, PeerRefused, KeyError, TypeError, ValueError):
            return None

    def order(self, parcel_id: str, recipient: Recipient) -> str:
        """The tracking number. Asking again is harmless: our number names the parcel. Raises NotTaken, Unanswered."""
        body = {
            "client_order_no": parcel_id,
            "sender": SENDER,
            "recipient": recipient.name,
            "phone": recipient.phone,
            "address": recipient.address,
            "pay_on_delivery": True,
        }
        try:
            return str(self._peer.post("/orders", body, repeatable=True)["tracking_no"])
        except PeerRefused as refused:
            if refused.status in _NOT_TAKEN:
                raise NotTaken(refused.code) from refused
            raise

    def history(self, tracking_no: str) -> list[Report]:
        """All that happened to a parcel so far, oldest first. Raises PeerRefused, Unanswered."""
        answer: dict[str, Any] = self._peer.get(f"/orders/{tracking_no}")
        return [
            Report(tracking_no, step["status"], datetime.fromisoformat(step["at"]), answer.get("courier_fee_fen", 0))
            for step in answer["history"]
        ]

    def signed(self, method: str, path: str, body: bytes, timestamp: str, given: str) -> bool:
        """Whether a notice is the courier's."""
        return is_signed(self._notice_key, method, path, body, timestamp, given)
