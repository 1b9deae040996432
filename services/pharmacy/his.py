"""The hospital's stock, as `partners/his` speaks of it (§25)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from eventkit.calls import Peer, PeerRefused, Unanswered
from eventkit.signing import signed_with

log = logging.getLogger(__name__)

_TIMEOUT = (0.5, 1.5)  # a doctor waits for it; the pharmacist looks at the shelf anyway


class Stock:
    def __init__(self, url: str, api_key: bytes) -> None:
        self._peer = Peer("his-stock", url, headers=signed_with(api_key), timeout=_TIMEOUT)

    def of(self, drug_codes: Sequence[str]) -> Mapping[str, int] | None:
        """How much there is of each; what the hospital does not keep is not in it. None when it does not answer: then
        nothing is refused, the sheet says so, and the pharmacist's review is the check."""
        query = urlencode([("drug_code", code) for code in dict.fromkeys(drug_codes)])
        try:
            answer = self._peer.call("GET", f"/stock?{query}")
            return {row["drug_code"]: int(row["on_hand"]) for row in answer["stock"]}
        except (Unanswered, PeerRefused, KeyError, TypeError, ValueError) as error:
            log.warning("the hospital's stock is not known just now: %s", type(error).__name__)
            return None
