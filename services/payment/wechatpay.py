"""WeChat Pay API v3 through the kept client `wechatpayv3`, with the sharp edges that `partners/wechatpay/README.md`
found taken off: its own timeouts, one meaning for every missing answer, notices looked at before the client sees
them."""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pybreaker
from wechatpayv3 import WeChatPay, WeChatPayType

from eventkit.calls import Unanswered
from eventkit.clock import SHANGHAI
from eventkit.ids import derived_id
from services.payment.events import Movement, MovementState
from services.payment.ports import ProviderRefused, RefundChanged, RefundState, Trade, TradePaid

NOTICE_AGE_SECONDS = 300  # of wall time; the client does not look
TIMEOUT = (2.0, 5.0)  # seconds to connect, to answer
_ABSENT = ("ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS")
_REFUNDS: dict[str, RefundState] = {
    "PROCESSING": "processing", "SUCCESS": "succeeded", "ABNORMAL": "abnormal", "CLOSED": "closed",
}


_STATED: dict[str, MovementState] = {"SUCCESS": "done", "PROCESSING": "pending"}


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

    def statement(self, day: date) -> list[Movement] | None:
        """The trade bill (交易账单). NO_STATEMENT_EXIST says «not made yet», and also «no trade that day»."""
        try:
            made = self._ask(lambda: self._client.trade_bill(day.isoformat(), tar_type="GZIP"))
        except ProviderRefused as refused:
            if refused.code in ("NO_STATEMENT_EXIST", "STATEMENT_CREATING"):
                return None
            raise
        try:
            bill = self._breaker.call(self._file, made["download_url"], made["hash_value"])
        except pybreaker.CircuitBreakerError as error:
            raise Unanswered("wechatpay has been failing and is left alone for a moment") from error
        return list(movements_of(bill))

    def _file(self, url: str, digest: str) -> str:
        try:
            status, packed = self._client.download_bill(url)
            content = gzip.decompress(packed) if status == 200 else b""
        except Exception as error:  # timeouts, cut connections, half a file
            raise Unanswered(f"wechatpay bill: {type(error).__name__}") from error
        if status != 200 or hashlib.sha1(content).hexdigest() != digest.lower():  # the file itself is not signed
            raise Unanswered(f"wechatpay bill: {status}, or it is not what was promised")
        return content.decode("utf-8-sig")

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


def movements_of(bill: str) -> Iterator[Movement]:
    """The lines of a trade bill: names of columns first, then values with a backtick before each, two lines of sums."""
    names, *lines = bill.splitlines()
    for line in lines:
        if not line.startswith("`"):  # the names of the sums
            return
        row = dict(zip(names.split(","), line[1:].split(",`"), strict=True))
        order_id = row["商户数据包"]
        if trade_number(order_id) != row["商户订单号"]:  # not a trade of ours
            order_id = ""
        if row["交易状态"] == "SUCCESS":
            number, fen = order_id or row["商户订单号"], _fen(row["订单金额"])
            yield Movement("wechatpay", "payment", "cash", number, fen, "done", order_id)
        elif row["交易状态"] == "REFUND":
            state = _STATED.get(row["退款状态"], "failed")
            number, fen = row["商户退款单号"], _fen(row["申请退款金额"])
            yield Movement("wechatpay", "refund", "cash", number, fen, state, order_id)


def _fen(yuan: str) -> int:
    return int(Decimal(yuan) * 100)


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
