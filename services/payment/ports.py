"""What the payment service needs of those who move money. The adapters are `wechatpay.py` and `insurer.py`; tests bring
their own. A call that brings no believable answer raises `eventkit.calls.Unanswered`: its effect is unknown, and the
same call, with the same number, is made again until it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from services.payment.events import Movement

RefundState = Literal["absent", "processing", "succeeded", "abnormal", "closed"]


class ProviderRefused(Exception):
    """A clear no; `code` is the provider's own. Asking again brings the same until something changed."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Trade:
    """The cash leg as the provider knows it. `paid_at` and `transaction_id` are there when it is `paid`."""

    state: Literal["absent", "open", "closed", "paid"]
    amount_fen: int = 0
    transaction_id: str = ""
    paid_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TradePaid:
    """A notice: the patient paid."""

    order_id: str
    trade: Trade


@dataclass(frozen=True, slots=True)
class RefundChanged:
    """A notice: a refund came to its end, well or not."""

    refund_number: str
    state: RefundState
    amount_fen: int


class CashProvider(Protocol):
    """WeChat Pay. One order is one trade there, under a number derived from the order's id."""

    def prepay(self, order_id: str, description: str, amount_fen: int, payer: str, expires_at: datetime) -> str:
        """A prepay id; asked again with the same values, another one of the same trade. Raises ProviderRefused
        (`ORDERPAID`, `ORDER_CLOSED`), Unanswered."""
        ...

    def for_phone(self, prepay_id: str) -> dict[str, str]:
        """What the patient's client hands to the provider's app, signed."""
        ...

    def trade(self, order_id: str) -> Trade: ...

    def close(self, order_id: str) -> None:
        """Raises ProviderRefused `ORDERPAID`. A return alone proves nothing: ask `trade`."""
        ...

    def refund(self, refund_number: str, order_id: str, amount_fen: int, total_fen: int) -> RefundState:
        """The same number is the same refund. Raises ProviderRefused (`NOT_ENOUGH`, `USER_ACCOUNT_ABNORMAL`, …)."""
        ...

    def refunded(self, refund_number: str) -> RefundState: ...

    def refund_to_card(self, refund_number: str, bank_type: str, bank_account: str, real_name: str) -> None:
        """For an `abnormal` refund: another account. Its result comes as that of any refund. Raises ProviderRefused."""
        ...

    def statement(self, day: date) -> list[Movement] | None:
        """What the provider booked on a Shanghai day; None while there is no statement, which there never is of a day
        without a trade."""
        ...

    def notice(self, headers: Mapping[str, str], body: bytes) -> TradePaid | RefundChanged | None:
        """What a call to our notice URL says. Raises ProviderRefused `not_authentic` for what the provider did not
        say."""
        ...


@dataclass(frozen=True, slots=True)
class Split:
    """A fee as the insurer splits it, in fen; nothing has moved."""

    decomposition_id: str
    fund_fen: int
    account_fen: int
    self_fen: int


@dataclass(frozen=True, slots=True)
class Settlement:
    settlement_id: str
    fund_fen: int
    account_fen: int


class Insurer(Protocol):
    def decompose(self, order_id: str, card_id: str, card_kind: str, title: str, amount_fen: int) -> Split:
        """The same for the same order. Raises ProviderRefused (`card_invalid`, …)."""
        ...

    def settle(self, decomposition_id: str) -> Settlement:
        """Claims the fund's part and charges the personal account, once. Raises ProviderRefused."""
        ...

    def settlement(self, order_id: str) -> Settlement | None:
        """What was settled for an order, if it was."""
        ...

    def reversal(self, refund_id: str) -> Settlement | None:
        """What was given back under a refund's id, if it was."""
        ...

    def statement(self, day: date) -> list[Movement] | None:
        """What the insurer booked on a Shanghai day; None while there is no statement."""
        ...

    def reverse(self, refund_id: str, settlement_id: str) -> Settlement:
        """Gives both parts back, once. Raises ProviderRefused."""
        ...
