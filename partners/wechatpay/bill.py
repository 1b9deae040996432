"""The statement of a day (交易账单) in WeChat Pay's own CSV: a backtick before each value, yuan with two decimals."""

from datetime import date, datetime, timedelta

from eventkit.clock import SHANGHAI
from partners.kit import Row
from partners.wechatpay.keys import Keys

COLUMNS = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,"
    "微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
)
TOTALS = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"


def day_bill(day: date, trades: list[Row], refunds: list[Row], keys: Keys) -> bytes:
    """Payments by the day they were paid, refunds by the day they were asked for, both in Asia/Shanghai. `status` of a
    refund is as it stands when the bill is made."""
    by_number = {trade["out_trade_no"]: trade for trade in trades}
    lines, paid, refunded = [], 0, 0
    for trade in trades:
        if trade["paid_at"] and _day(trade["paid_at"]) == day:
            paid += trade["total"]
            lines.append(_line(trade, trade["paid_at"], keys, "SUCCESS", trade["total"], ["0"] * 2, 0, ["", ""]))
    for refund in refunds:
        if _day(refund["created_at"]) == day:
            refunded += refund["amount"]
            numbers = [refund["refund_id"], refund["out_refund_no"]]
            trade = by_number[refund["out_trade_no"]]
            ending = ["ORIGINAL", refund["status"]]
            lines.append(_line(trade, refund["created_at"], keys, "REFUND", 0, numbers, refund["amount"], ending))
    totals = [str(len(lines)), _yuan(paid), _yuan(refunded), "0.00", "0.00", _yuan(paid), _yuan(refunded)]
    text = "\r\n".join([COLUMNS, *lines, TOTALS, _row(totals), ""])
    return ("\ufeff" + text).encode()


def available_from(day: date) -> datetime:
    """The platform makes a day's bill on the next morning at ten."""
    return datetime(day.year, day.month, day.day, 10, tzinfo=SHANGHAI) + timedelta(days=1)


def _line(
    trade: Row,
    at: str,
    keys: Keys,
    state: str,
    paid: int,
    refund_numbers: list[str],
    refunded: int,
    refund_end: list[str],
) -> str:
    moment = datetime.fromisoformat(at).astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
    head = [
        moment,
        keys.appid,
        keys.mchid,
        "0",
        "",
        trade["transaction_id"],
        trade["out_trade_no"],
        trade["openid"] or "",
    ]
    trading = [trade["trade_type"], state, "OTHERS", "CNY", _yuan(paid), "0.00"]
    refunding = [*refund_numbers, _yuan(refunded), "0.00", *refund_end]
    tail = [trade["description"], trade["attach"] or "", "0.00000", "0.00%", _yuan(paid), _yuan(refunded), ""]
    return _row([*head, *trading, *refunding, *tail])


def _row(values: list[str]) -> str:
    return ",".join(f"`{value}" for value in values)


def _yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02}"


def _day(at: str) -> date:
    return datetime.fromisoformat(at).astimezone(SHANGHAI).date()
