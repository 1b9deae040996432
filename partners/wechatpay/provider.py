"""What WeChat Pay decides about trades and refunds, on its own books. HTTP and signatures are in `http.py`.

Amounts are fen. A refund is written with its outcome and the instant it settles: until then a query says PROCESSING,
and its notice is due at that instant, so nothing has to run in between and a killed sandbox forgets nothing.
"""

import json
import re
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from eventkit.clock import SHANGHAI, Clock
from partners.kit import Books, Notices, Row, Scripts
from partners.wechatpay.keys import Keys, seal

SCHEMA = """
create table if not exists trade (
    out_trade_no text primary key, trade_type text not null, request text not null, total integer not null, openid text,
    notify_url text not null, time_expire text, signer text not null, created_at text not null, closed_at text,
    paid_at text, transaction_id text unique, late integer not null default 0);
create table if not exists prepay (prepay_id text primary key, out_trade_no text not null, created_at text not null);
create table if not exists refund (
    out_refund_no text primary key, refund_id text not null unique, out_trade_no text not null, amount integer not null,
    notify_url text not null, signer text not null, created_at text not null, settles_at text not null,
    outcome text not null, received text not null);
create index if not exists refund_of_trade on refund (out_trade_no);
"""
NOTICE_KINDS = {"late_notice", "double_notice", "reorder_notices", "drop_notice", "signtest_notice"}
PAYMENT_KINDS = {"charge_then_timeout", "capture_after_close"}
REFUND_KINDS = {"refund_fails", "slow_refund"}

REFUND_SECONDS = 1.0
PREPAY_HOURS = 2
STATES = {"SUCCESS": "支付成功", "REFUND": "转入退款", "NOTPAY": "订单未支付", "CLOSED": "订单已关闭"}
REFUSED_REFUNDS = {
    "NOT_ENOUGH": (403, "基本账户余额不足，请充值后重新发起"),
    "USER_ACCOUNT_ABNORMAL": (403, "用户账户异常，无法退款"),
    "FREQUENCY_LIMITED": (429, "频率限制"),
    "SYSTEM_ERROR": (500, "系统错误"),
}


class Refused(Exception):
    """Answered as {code, message} with this status, as API v3 does."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Provider:
    def __init__(self, books: Books, scripts: Scripts, notices: Notices, clock: Clock, keys: Keys) -> None:
        self._books, self._scripts, self._notices, self._clock, self._keys = books, scripts, notices, clock, keys

    # What the merchant asks

    def prepay(self, trade_type: str, body: Row, signer: str) -> str:
        """-> prepay_id. The same request again gives a further prepay_id of the same trade."""
        number = _text(body, "out_trade_no", r"[0-9A-Za-z_\-|*]{6,32}")
        self._own(body)
        _text(body, "description", r".{1,127}")
        notify_url = _notify_url(body)
        total = _fen(body.get("amount"), "total")
        openid = body.get("payer", {}).get("openid") if isinstance(body.get("payer"), dict) else None
        if trade_type == "JSAPI" and not openid:
            raise Refused(400, "PARAM_ERROR", "参数错误：payer.openid 必填")
        expires = _instant(body.get("time_expire"))
        now = self._clock.now()
        content = json.dumps(body, sort_keys=True, ensure_ascii=False)
        with self._books.write() as db:
            trade = self._trade(number)
            if trade is None:
                if expires is not None and expires <= now:
                    raise Refused(400, "PARAM_ERROR", "参数错误：time_expire 已过")
                db.execute(
                    "insert into trade (out_trade_no, trade_type, request, total, openid, notify_url, time_expire,"
                    " signer, created_at) values (?,?,?,?,?,?,?,?,?)",
                    (
                        number,
                        trade_type,
                        content,
                        total,
                        openid,
                        notify_url,
                        expires and _at(expires),
                        signer,
                        _at(now),
                    ),
                )
            elif trade["paid_at"]:
                raise Refused(400, "ORDERPAID", "该订单已支付")
            elif self._state(trade) == "CLOSED":
                raise Refused(400, "ORDER_CLOSED", "该订单已关闭，请重新下单")
            elif (trade["total"], trade["trade_type"]) != (total, trade_type):
                raise Refused(403, "OUT_TRADE_NO_USED", "商户订单号重复")
            elif trade["request"] != content:
                raise Refused(400, "INVALID_REQUEST", "请求重入时，参数与首次请求时不一致")
            prepay_id = "wx" + now.astimezone(SHANGHAI).strftime("%Y%m%d%H%M%S") + secrets.token_hex(9) + "0000"
            db.execute("insert into prepay values (?,?,?)", (prepay_id, number, _at(now)))
        return prepay_id

    def trade(self, *, out_trade_no: str | None = None, transaction_id: str | None = None) -> Row:
        """The answer of a query, and what a TRANSACTION.SUCCESS notice seals."""
        trade = self._trade(out_trade_no, transaction_id)
        if trade is None:
            raise Refused(404, "ORDER_NOT_EXIST", "订单不存在")
        state, request = self._state(trade), json.loads(trade["request"])
        answer: Row = {
            "appid": self._keys.appid,
            "mchid": self._keys.mchid,
            "out_trade_no": trade["out_trade_no"],
            "trade_state": state,
            "trade_state_desc": STATES[state],
            "amount": {"total": trade["total"], "currency": "CNY"},
            "payer": {"openid": trade["openid"]} if trade["openid"] else {},
        }
        if "attach" in request:
            answer["attach"] = request["attach"]
        if trade["paid_at"]:
            answer |= {
                "transaction_id": trade["transaction_id"],
                "trade_type": trade["trade_type"],
                "bank_type": "OTHERS",
                "success_time": _shanghai(trade["paid_at"]),
            }
            answer["amount"] |= {"payer_total": trade["total"], "payer_currency": "CNY"}
        return answer

    def close(self, out_trade_no: str) -> None:
        """As merchants report it, a closed and even an unknown number is answered 204 too: only a query tells."""
        with self._books.write() as db:
            trade = self._trade(out_trade_no)
            if trade is not None and trade["paid_at"]:
                raise Refused(400, "ORDERPAID", "订单已支付，不能发起关单")
            db.execute(
                "update trade set closed_at = ? where out_trade_no = ? and closed_at is null",
                (_at(self._clock.now()), out_trade_no),
            )

    def refund(self, body: Row, signer: str) -> Row:
        """Accepted, not done: PROCESSING. The same out_refund_no gives the same refund, whatever became of it."""
        number = _text(body, "out_refund_no", r"[0-9A-Za-z_\-|*@]{1,64}")
        notify_url = _notify_url(body) if body.get("notify_url") else ""
        if not (body.get("transaction_id") or body.get("out_trade_no")):
            raise Refused(400, "PARAM_ERROR", "参数错误：transaction_id 与 out_trade_no 二选一")
        amount, total = _fen(body.get("amount"), "refund"), _fen(body.get("amount"), "total")
        now = self._clock.now()
        with self._books.write() as db:
            trade = self._trade(body.get("out_trade_no"), body.get("transaction_id"))
            if trade is None:
                raise Refused(404, "RESOURCE_NOT_EXISTS", "订单不存在")
            trade_no: str = trade["out_trade_no"]
            known = self._books.row("select * from refund where out_refund_no = ?", number)
            if known is not None:
                if (known["out_trade_no"], known["amount"], trade["total"]) != (trade_no, amount, total):
                    raise Refused(400, "INVALID_REQUEST", "订单金额或退款金额与之前请求不一致，请核实后再试")
                return self._refund(known, trade)
            if not trade["paid_at"]:
                raise Refused(400, "INVALID_REQUEST", "订单未支付，无法退款")
            if now > datetime.fromisoformat(trade["paid_at"]) + timedelta(days=365):
                raise Refused(400, "INVALID_REQUEST", "订单已超过可退款的最大期限")
            others = self._books.rows("select * from refund where out_trade_no = ? and outcome != 'CLOSED'", trade_no)
            if total != trade["total"] or amount + sum(other["amount"] for other in others) > total:
                raise Refused(400, "INVALID_REQUEST", "申请退款金额大于订单可退金额，或订单金额不一致")
            if any(other["created_at"] > _at(now - timedelta(minutes=1)) for other in others):
                raise Refused(429, "FREQUENCY_LIMITED", "同一笔订单多次退款的请求需相隔1分钟")
            script = self._scripts.take(REFUND_KINDS, number, trade_no) or {}
            outcome = script.get("reason", "ABNORMAL") if script.get("kind") == "refund_fails" else "SUCCESS"
            refused = REFUSED_REFUNDS.get(outcome)
            if refused is None:
                db.execute(
                    "insert into refund values (?,?,?,?,?,?,?,?,?,?)",
                    (number, _digits("503", 29), trade_no, amount, notify_url, signer, _at(now), "", "", ""),
                )
                self._settle(number, outcome, "支付用户零钱", float(script.get("seconds", REFUND_SECONDS)))
        if refused is not None:  # after the write: the script is used up although the refund was refused
            raise Refused(refused[0], outcome, refused[1])
        return self.refund_by_number(number)

    def refund_by_number(self, out_refund_no: str) -> Row:
        refund = self._books.row("select * from refund where out_refund_no = ?", out_refund_no)
        if refund is None:
            raise Refused(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
        trade = self._trade(refund["out_trade_no"])
        assert trade is not None
        return self._refund(refund, trade)

    def retry_abnormal(self, refund_id: str, body: Row) -> Row:
        """发起异常退款: people decide that the money goes to the patient's bank card or back to the merchant's."""
        received = {"USER_BANK_CARD": "用户银行卡", "MERCHANT_BANK_CARD": "商户银行账户"}.get(str(body.get("type")))
        if received is None:
            raise Refused(400, "PARAM_ERROR", "参数错误：type")
        if body["type"] == "USER_BANK_CARD" and not all(
            body.get(key) for key in ("bank_type", "bank_account", "real_name")
        ):
            raise Refused(400, "PARAM_ERROR", "参数错误：退款至用户时 bank_type、bank_account、real_name 必填")
        with self._books.write():
            refund = self._books.row("select * from refund where refund_id = ?", refund_id)
            if refund is None or refund["out_refund_no"] != body.get("out_refund_no"):
                raise Refused(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
            if self._refund_status(refund) != "ABNORMAL":
                raise Refused(400, "INVALID_REQUEST", "退款单状态不是退款异常")
            self._settle(refund["out_refund_no"], "SUCCESS", received, REFUND_SECONDS)
        return self.refund_by_number(refund["out_refund_no"])

    # What the patient's phone does

    def pay(self, out_trade_no: str | None, prepay_id: str | None, openid: str | None) -> Row:
        """The patient confirms the payment. A closed or expired trade refuses it, unless a late capture is scripted."""
        now = self._clock.now()
        with self._books.write():
            if prepay_id:
                prepay = self._books.row("select * from prepay where prepay_id = ?", prepay_id)
                if prepay is None:
                    raise Refused(404, "PREPAY_NOT_EXIST", "prepay_id 不存在")
                if datetime.fromisoformat(prepay["created_at"]) + timedelta(hours=PREPAY_HOURS) < now:
                    raise Refused(409, "PREPAY_EXPIRED", "prepay_id 已过期，有效期2小时")
                out_trade_no = prepay["out_trade_no"]
            trade = self._trade(out_trade_no)
            if trade is None:
                raise Refused(404, "ORDER_NOT_EXIST", "订单不存在")
            if trade["openid"] and openid and trade["openid"] != openid:
                raise Refused(403, "OPENID_MISMATCH", "只有下单时的用户可以支付")
            if trade["paid_at"]:
                raise Refused(409, "ORDERPAID", "该订单已支付")
            if (
                self._state(trade) == "CLOSED"
                and self._scripts.take({"capture_after_close"}, trade["out_trade_no"]) is None
            ):
                raise Refused(409, "ORDER_CLOSED", "订单已关闭")
            self.capture(trade["out_trade_no"])
            return self.trade(out_trade_no=trade["out_trade_no"])

    def capture(self, out_trade_no: str) -> None:
        """Take the money if the trade is there and unpaid, whatever the merchant did to it, and tell the merchant."""
        with self._books.write() as db:
            trade = self._trade(out_trade_no)
            if trade is None or trade["paid_at"]:
                return
            db.execute(
                "update trade set paid_at = ?, transaction_id = ?, late = ? where out_trade_no = ?",
                (_at(self._clock.now()), _digits("4200", 28), self._state(trade) == "CLOSED", out_trade_no),
            )
            resource = self.trade(out_trade_no=out_trade_no)
            self._tell(
                "TRANSACTION.SUCCESS", "支付成功", resource, trade["notify_url"], trade["signer"], 0, out_trade_no
            )

    # The books, for the ledger

    def books(self) -> Row:
        """{trades, refunds, totals: {paid_fen, refunded_fen, refunding_fen, kept_fen}}; abnormal is `refunding`."""
        refunds = [
            {
                "out_refund_no": refund["out_refund_no"],
                "refund_id": refund["refund_id"],
                "out_trade_no": refund["out_trade_no"],
                "amount_fen": refund["amount"],
                "status": self._refund_status(refund),
                "received": refund["received"],
                "created_at": refund["created_at"],
                "settles_at": refund["settles_at"],
            }
            for refund in self._books.rows("select * from refund order by created_at")
        ]
        trades = [
            {
                "out_trade_no": trade["out_trade_no"],
                "transaction_id": trade["transaction_id"],
                "state": self._state(trade),
                "amount_fen": trade["total"],
                "paid_fen": trade["total"] if trade["paid_at"] else 0,
                "paid_at": trade["paid_at"],
                "late": bool(trade["late"]),
            }
            for trade in self._books.rows("select * from trade order by created_at")
        ]
        paid = sum(trade["paid_fen"] for trade in trades)
        refunded = sum(refund["amount_fen"] for refund in refunds if refund["status"] == "SUCCESS")
        refunding = sum(refund["amount_fen"] for refund in refunds if refund["status"] in ("PROCESSING", "ABNORMAL"))
        totals = {
            "paid_fen": paid,
            "refunded_fen": refunded,
            "refunding_fen": refunding,
            "kept_fen": paid - refunded - refunding,
        }
        return {"trades": trades, "refunds": refunds, "totals": totals}

    # Inside

    def _own(self, body: Row) -> None:
        if (body.get("appid"), body.get("mchid")) != (self._keys.appid, self._keys.mchid):
            raise Refused(400, "APPID_MCHID_NOT_MATCH", "appid 和 mch_id 不匹配，请检查后再试")

    def _trade(self, out_trade_no: str | None, transaction_id: str | None = None) -> Row | None:
        if transaction_id:
            return self._books.row("select * from trade where transaction_id = ?", transaction_id)
        return self._books.row("select * from trade where out_trade_no = ?", out_trade_no)

    def _state(self, trade: Row) -> str:
        if trade["paid_at"]:
            refunds = "select 1 from refund where out_trade_no = ? and outcome != 'CLOSED'"
            return "REFUND" if self._books.row(refunds, trade["out_trade_no"]) else "SUCCESS"
        expired = trade["time_expire"] and trade["time_expire"] <= _at(self._clock.now())
        return "CLOSED" if trade["closed_at"] or expired else "NOTPAY"

    def _settle(self, out_refund_no: str, outcome: str, received: str, seconds: float) -> None:
        """Write how and when the refund ends, and the notice that will tell it then."""
        with self._books.write() as db:
            settles_at = _at(self._clock.now() + timedelta(seconds=seconds))
            db.execute(
                "update refund set outcome = ?, settles_at = ?, received = ? where out_refund_no = ?",
                (outcome, settles_at, received, out_refund_no),
            )
            refund = self._books.row("select * from refund where out_refund_no = ?", out_refund_no)
            assert refund is not None
            trade = self._trade(refund["out_trade_no"])
            assert trade is not None
            resource: Row = {
                "mchid": self._keys.mchid,
                "out_trade_no": trade["out_trade_no"],
                "transaction_id": trade["transaction_id"],
                "out_refund_no": out_refund_no,
                "refund_id": refund["refund_id"],
                "refund_status": outcome,
                "user_received_account": received,
                "amount": {
                    "total": trade["total"],
                    "refund": refund["amount"],
                    "payer_total": trade["total"],
                    "payer_refund": refund["amount"],
                },
            }
            if outcome == "SUCCESS":
                resource["success_time"] = _shanghai(settles_at)
            url, signer = refund["notify_url"] or trade["notify_url"], refund["signer"]
            summary = {"SUCCESS": "退款成功", "ABNORMAL": "退款异常"}.get(outcome, "退款关闭")
            self._tell(
                f"REFUND.{outcome}", summary, resource, url, signer, seconds, trade["out_trade_no"], out_refund_no
            )

    def refunds(self) -> list[Row]:
        """All, in the order they were asked for, each with its `status` of this moment."""
        rows = self._books.rows("select * from refund order by created_at")
        return [row | {"status": self._refund_status(row)} for row in rows]

    def _refund_status(self, refund: Row) -> str:
        settled: bool = refund["settles_at"] <= _at(self._clock.now())
        return refund["outcome"] if settled else "PROCESSING"

    def _refund(self, refund: Row, trade: Row) -> Row:
        status = self._refund_status(refund)
        answer: Row = {
            "refund_id": refund["refund_id"],
            "out_refund_no": refund["out_refund_no"],
            "transaction_id": trade["transaction_id"],
            "out_trade_no": trade["out_trade_no"],
            "channel": "ORIGINAL",
            "user_received_account": refund["received"],
            "create_time": _shanghai(refund["created_at"]),
            "status": status,
            "funds_account": "AVAILABLE",
            "amount": {
                "total": trade["total"],
                "refund": refund["amount"],
                "payer_total": trade["total"],
                "payer_refund": refund["amount"],
                "settlement_refund": refund["amount"],
                "settlement_total": trade["total"],
                "discount_refund": 0,
                "currency": "CNY",
            },
        }
        return answer | ({"success_time": _shanghai(refund["settles_at"])} if status == "SUCCESS" else {})

    def _tell(
        self, event: str, summary: str, resource: Row, url: str, signer: str, delay: float, *numbers: str
    ) -> None:
        script = self._scripts.take(NOTICE_KINDS, *numbers) or {}
        kind = script.get("kind")
        original = event.partition(".")[0].lower()
        sealed = seal(self._keys.apiv3_key, json.dumps(resource, ensure_ascii=False), original)
        body = json.dumps(
            {
                "id": str(uuid.uuid4()),
                "create_time": _shanghai(_at(self._clock.now() + timedelta(seconds=delay))),
                "resource_type": "encrypt-resource",
                "event_type": event,
                "summary": summary,
                "resource": {"original_type": original, **sealed},
            },
            ensure_ascii=False,
        )

        def add(extra: float = 0, state: str = "waiting") -> None:
            args = {"signer": signer, "numbers": list(numbers), "signtest": kind == "signtest_notice"}
            behind = numbers[0] if script.get("target") else None
            self._notices.add(event, numbers[0], url, body, delay=delay + extra, args=args, state=state, behind=behind)

        seconds = float(script.get("seconds", 0))
        if kind == "drop_notice":
            add(state="dropped")
        elif kind == "reorder_notices":
            add(state="held")
        else:
            add(seconds if kind == "late_notice" else 0)
            if kind == "double_notice":
                add(seconds)


def _text(body: Row, key: str, pattern: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise Refused(400, "PARAM_ERROR", f"参数错误：{key}")
    return value


def _fen(amount: Any, key: str) -> int:
    value = amount.get(key) if isinstance(amount, dict) else None
    if type(value) is not int or value < 1 or amount.get("currency", "CNY") != "CNY":
        raise Refused(400, "PARAM_ERROR", f"参数错误：amount.{key}")
    return value


def _notify_url(body: Row) -> str:
    value = _text(body, "notify_url", r"\S{1,256}")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
        raise Refused(400, "PARAM_ERROR", "参数错误：notify_url 不能携带参数")
    return value


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Refused(400, "PARAM_ERROR", "参数错误：time_expire 应为 rfc3339 格式")
    return instant


def _at(instant: datetime) -> str:
    """UTC with a fixed width, so that stored instants compare as text."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def _shanghai(stored: str) -> str:
    return datetime.fromisoformat(stored).astimezone(SHANGHAI).isoformat(timespec="seconds")


def _digits(prefix: str, length: int) -> str:
    return prefix + "".join(secrets.choice("0123456789") for _ in range(length - len(prefix)))
