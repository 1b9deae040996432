"""The insurer over its signed REST (`partners/insurer/README.md`): split a fee, settle it, reverse it, each done
once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

from eventkit.calls import Peer, PeerRefused, Unanswered
from eventkit.signing import signed_with
from services.payment.events import LegName, Movement, What
from services.payment.ports import ProviderRefused, Settlement, Split

ITEM = "medical_service_fee"  # all that is decomposed online (§13)


class InsurerAdapter:
    """Thread-safe. Every call may be repeated: the insurer does each number once."""

    def __init__(self, url: str, key: bytes, hospital_code: str) -> None:
        self._peer = Peer("insurer", url, headers=signed_with(key))
        self._hospital_code = hospital_code

    def decompose(self, order_id: str, card_id: str, card_kind: str, title: str, amount_fen: int) -> Split:
        found = self._post("/decompositions", {
            "trade_no": order_id,
            "card_id": card_id,
            "card_kind": card_kind,
            "item": ITEM,
            "title": title,
            "amount_fen": amount_fen,
            "hospital_code": self._hospital_code,
        })
        return Split(found["decomposition_id"], found["fund_fen"], found["account_fen"], found["self_fen"])

    def settle(self, decomposition_id: str) -> Settlement:
        return _settlement(self._post("/settlements", {"decomposition_id": decomposition_id}))

    def reverse(self, refund_id: str, settlement_id: str) -> Settlement:
        return _settlement(self._post("/reversals", {"reversal_no": refund_id, "settlement_id": settlement_id}))

    def settlement(self, order_id: str) -> Settlement | None:
        found = self._find(f"/settlements/{order_id}")
        return _settlement(found) if found else None

    def reversal(self, refund_id: str) -> Settlement | None:
        found = self._find(f"/reversals/{refund_id}")
        return _settlement(found) if found else None

    def statement(self, day: date) -> list[Movement] | None:
        try:
            found = self._asked(lambda: self._peer.get("/statements", day=str(day)))
        except ProviderRefused as refused:
            if refused.code == "statement_not_ready":
                return None
            raise
        return [
            *(line for row in found["settlements"] for line in _lines("payment", row["trade_no"], row)),
            *(line for row in found["reversals"] for line in _lines("refund", row["reversal_no"], row)),
        ]

    def _find(self, path: str) -> Any:
        try:
            return self._asked(lambda: self._peer.get(path))
        except ProviderRefused as refused:
            if refused.code == "not_found":
                return None
            raise

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._asked(lambda: self._peer.post(path, body, repeatable=True))

    @staticmethod
    def _asked(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except PeerRefused as refused:
            if refused.status in (400, 401, 403):  # our key or clock is wrong: the insurer has judged nothing
                raise Unanswered(f"insurer: {refused}") from refused
            raise ProviderRefused(refused.code or str(refused.status)) from refused


def _settlement(found: dict[str, Any]) -> Settlement:
    return Settlement(found["settlement_id"], found["fund_fen"], found["account_fen"])


def _lines(what: What, number: str, row: dict[str, Any]) -> Iterator[Movement]:
    legs: tuple[LegName, ...] = ("fund", "account")
    for leg in legs:
        if fen := row[f"{leg}_fen"]:
            yield Movement("insurer", what, leg, number, fen, "done", row["trade_no"])
