"""The courier's API, as `partners/courier` speaks it: orders, tracking, prices, and the signature both sides use."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventkit.calls import Peer, PeerRefused, Unanswered
from services.pharmacy.domain.parcel import Report

SENDER = "复诊互联网医院药房"
TOLERANCE_SECONDS = 300
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

        def headers(method: str, path: str, body: bytes) -> dict[str, str]:
            timestamp = str(int(time.time()))
            return {
                "X-Signature-Timestamp": timestamp,
                "X-Signature": signature(api_key, method, path, timestamp, body),
            }

        self._peer = Peer("courier", url, headers=headers)
        self._prices = Peer("courier-price", url, headers=headers, timeout=_PRICE_TIMEOUT)

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

    def signed_by_courier(self, method: str, path: str, body: bytes, timestamp: str, given: str) -> bool:
        """Whether a notice is the courier's, and fresh by wall time: a moved business clock must help nobody."""
        expected = signature(self._notice_key, method, path, timestamp, body)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return False
        return timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= TOLERANCE_SECONDS


def signature(key: bytes, method: str, path: str, timestamp: str, body: bytes) -> str:
    """hex(HMAC-SHA256(key, METHOD ⏎ PATH[?QUERY] ⏎ TIMESTAMP ⏎ hex(SHA-256(BODY))))."""
    text = "\n".join((method, path, timestamp, hashlib.sha256(body).hexdigest()))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
