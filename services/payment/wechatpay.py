"""WeChat Pay API v3 through the kept client `wechatpayv3`, with the sharp edges that `partners/wechatpay/README.md`
found taken off: its own timeouts, one meaning for every missing answer, notices looked at before the client sees
them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pybreaker
from wechatpayv3 import WeChatPay, WeChatPayType

from eventkit.calls import Unanswered
from eventkit.clock import SHANGHAI
from eventkit.ids import derived_id
from services.payment.ports import ProviderRefused, RefundChanged, RefundState, Trade, TradePaid

NOTICE_AGE_SECONDS = 300  # of wall time; the client does not look
TIMEOUT = (2.0, 5.0)  # seconds to connect, to answer
_ABSENT = ("ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS")
_REFUNDS: dict[str, RefundState] = {
    "PROCESSING": "processing", "SUCCESS": "succeeded", "ABNORMAL": "abnormal", "CLOSED": "closed",
}


def trade_number(order_id: str) -> str:
    """API v3 takes at most 32 characters; the order's id itself travels as `attach`."""
    return derived_id("wechatpay", order_id)


def payer_of(account_id: str) -> str:
    """The account's WeChat identity (openid) under our appid. Accounts are phone numbers so far (§7), so it is derived;
    login by WeChat will bring the real one."""
    return "o" + derived_id("openid", account_id)[:27]


class WeChatPayAdapter:
    """Thread-safe. `folder` holds merchant_key.pem, platform_public_key.pem, apiv3_key and merchant.json; raises
    OSError or ValueError when it does not."""

    def __init__(self, url: str, folder: Path, notify_url: str, timeout: tuple[float, float] = TIMEOUT) -> None:
        names = json.loads((folder / "merchant.json").read_text())
        self._appid = names["appid"]
        self._public_key_id = names["public_key_id"]
        # Public key mode: certificate mode would call the platform from its constructor.
        self._client = WeChatPay(
            wechatpay_type=WeChatPayType.JSAPI,
            mchid=names["mchid"],
            private_key=(folder / "merchant_key.pem").read_text(),
            cert_serial_no=names["merchant_serial"],
            appid=names["appid"],
            apiv3_key=(folder / "apiv3_key").read_text().strip(),
            notify_url=notify_url,
            timeout=timeout,
            public_key=(folder / "platform_public_key.pem").read_text(),
            public_key_id=names["public_key_id"],
        )
        self._client._core._gate_way = url
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=8, reset_timeout=5, exclude=[ProviderRefused], name="wechatpay"
        )

    def prepay(self, order_id: str, description: str, amount_fen: int, payer: str, expires_at: datetime) -> str:
        answer = self._ask(lambda: self._client.pay(
            description,
            trade_number(order_id),
            {"total": amount_fen, "currency": "CNY"},
            payer={"openid": payer},
            attach=order_id,
            time_expire=expires_at.astimezone(SHANGHAI).isoformat(timespec="seconds"),
        ))
        return str(answer["prepay_id"])

    def for_phone(self, prepay_id: str) -> dict[str, str]:
        stamp, nonce, package = str(int(time.time())), secrets.token_hex(16), f"prepay_id={prepay_id}"
        return {
            "appId": self._appid,
            "timeStamp": stamp,
            "nonceStr": nonce,
            "package": package,
            "signType": "RSA",
            "paySign": self._client.sign([self._appid, stamp, nonce, package]),
        }

    def trade(self, order_id: str) -> Trade:
        try:
            return _trade(self._ask(lambda: self._client.query(out_trade_no=trade_number(order_id))))
        except ProviderRefused as refused:
            if refused.code in _ABSENT:
                return Trade("absent")
            raise

    def close(self, order_id: str) -> None:
        self._ask(lambda: self._client.close(trade_number(order_id)))

    def refund(self, refund_number: str, order_id: str, amount_fen: int, total_fen: int) -> RefundState:
        amount = {"refund": amount_fen, "total": total_fen, "currency": "CNY"}
        answer = self._ask(lambda: self._client.refund(refund_number, amount, out_trade_no=trade_number(order_id)))
        return _REFUNDS[answer["status"]]

    def refunded(self, refund_number: str) -> RefundState:
        try:
            return _REFUNDS[self._ask(lambda: self._client.query_refund(refund_number))["status"]]
        except ProviderRefused as refused:
            if refused.code in _ABSENT:
                return "absent"
            raise

    def refund_to_card(self, refund_number: str, bank_type: str, bank_account: str, real_name: str) -> None:
        known = self._ask(lambda: self._client.query_refund(refund_number))
        if known["status"] != "ABNORMAL":  # a retry of this very call, or the provider has mended it
            return
        self._ask(lambda: self._client.abnormal_refund(
            known["refund_id"], refund_number, "USER_BANK_CARD",
            bank_type=bank_type, bank_account=bank_account, real_name=real_name,
        ))

    def notice(self, headers: Mapping[str, str], body: bytes) -> TradePaid | RefundChanged | None:
        stamp = headers.get("Wechatpay-Timestamp", "")
        # An unknown serial would make the client fetch certificates: anybody could cause that at a public URL.
        if headers.get("Wechatpay-Serial") != self._public_key_id or not stamp.isdecimal():
            raise ProviderRefused("not_authentic")
        if abs(time.time() - int(stamp)) > NOTICE_AGE_SECONDS:
            raise ProviderRefused("not_authentic")
        try:
            notice = self._client.callback(headers, body)
        except Exception as error:  # the client raises whatever nonsense makes it raise
            raise ProviderRefused("not_authentic") from error
        if not notice:
            raise ProviderRefused("not_authentic")
        resource = notice["resource"]
        if notice["event_type"] == "TRANSACTION.SUCCESS":
            order_id = resource.get("attach", "")
            if trade_number(order_id) != resource["out_trade_no"]:
                raise ProviderRefused("not_authentic")
            return TradePaid(order_id, _trade(resource))
        if notice["event_type"].startswith("REFUND."):
            state = _REFUNDS[resource["refund_status"]]
            return RefundChanged(resource["out_refund_no"], state, resource["amount"]["refund"])
        return None

    def _ask(self, call: Callable[[], tuple[int, str]]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._breaker.call(self._answer, call)
        except pybreaker.CircuitBreakerError as error:
            raise Unanswered("wechatpay has been failing and is left alone for a moment") from error
        return found

    @staticmethod
    def _answer(call: Callable[[], tuple[int, str]]) -> dict[str, Any]:
        try:
            status, text = call()
        except Exception as error:  # timeouts, cut connections, and a bare Exception for a bad signature
            raise Unanswered(f"wechatpay: {type(error).__name__}") from error
        if status in (401, 429) or status >= 500:  # 401: our key or clock is wrong, nothing was judged
            raise Unanswered(f"wechatpay: {status}")
        answer: dict[str, Any] = json.loads(text) if text else {}
        if status >= 300:
            raise ProviderRefused(str(answer.get("code", status)))
        return answer


def _trade(answer: Mapping[str, Any]) -> Trade:
    match answer["trade_state"]:
        case "SUCCESS" | "REFUND":
            return Trade(
                "paid",
                answer["amount"]["total"],
                answer["transaction_id"],
                datetime.fromisoformat(answer["success_time"]).astimezone(UTC),
            )
        case "CLOSED" | "REVOKED":
            return Trade("closed")
        case _:
            return Trade("open")
