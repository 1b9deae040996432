"""The kept client (wechatpayv3) against the WeChat Pay sandbox as a process: both really sign, verify and decrypt."""

import csv
import gzip
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from wechatpayv3 import WeChatPay, WeChatPayType

from eventkit.clock import SHANGHAI, SystemClock
from eventkit.ids import new_id
from tests.integration.partner_process import REPO, PartnerProcess, free_port, wait_for

OPENID = {"openid": "oPatient0000000000000000001"}


def make_client(url: str, folder: Path, notify_url: str, *, timeout: tuple[float, float] = (2, 5)) -> WeChatPay:
    """The recipe of partners/wechatpay/README.md: public key mode needs no call at construction."""
    names = json.loads((folder / "merchant.json").read_text())
    client = WeChatPay(
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
    client._core._gate_way = url
    return client


class Merchant:
    """Our notice URL: a socket that keeps what came and answers what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], str]] = []
        self.answers: list[int] = []
        merchant = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                merchant.calls.append((dict(self.headers), body))
                self.send_response(merchant.answers.pop(0) if merchant.answers else 200)
                self.end_headers()
                self.wfile.write(b'{"code":"SUCCESS"}')

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/payment/notices/wechatpay"

    def about(self, number: str, client: WeChatPay) -> list[dict[str, Any]]:
        """The decrypted notices about a trade or refund number, in the order they came; forged ones are left out.
        The client fails on a serial of the other mode, so the serial is looked at first, as the adapter must."""
        serial = client._core._public_key_id or client._core._platform_serial
        opened = [client.callback(*call) for call in list(self.calls) if call[0]["Wechatpay-Serial"] == serial]
        return [
            n for n in opened if n and number in (n["resource"]["out_trade_no"], n["resource"].get("out_refund_no"))
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PartnerProcess]:
    process = PartnerProcess("wechatpay", tmp_path_factory.mktemp("wechatpay"))
    for _ in range(2):  # twice: the second changes nothing
        subprocess.run(
            [sys.executable, "-m", "partners.wechatpay", "keys", str(process.home / "secrets" / "wechatpay")],
            cwd=REPO,
            check=True,
        )
    process.start()
    yield process
    process.stop()


@pytest.fixture
def merchant() -> Iterator[Merchant]:
    merchant = Merchant()
    yield merchant
    merchant.close()


@pytest.fixture
def folder(sandbox: PartnerProcess) -> Path:
    return sandbox.home / "secrets" / "wechatpay"


@pytest.fixture
def client(sandbox: PartnerProcess, merchant: Merchant, folder: Path) -> WeChatPay:
    return make_client(sandbox.url, folder, merchant.url)


@pytest.fixture
def clock(sandbox: PartnerProcess) -> SystemClock:
    return SystemClock(sandbox.clock_file)


@pytest.fixture
def number() -> str:
    return new_id()  # 32 characters: the longest out_trade_no that API v3 takes


def prepaid(client: WeChatPay, number: str, fen: int = 1000, **more: Any) -> str:
    code, body = client.pay("医事服务费", number, {"total": fen, "currency": "CNY"}, payer=OPENID, **more)
    assert code == 200, body
    prepay_id: str = json.loads(body)["prepay_id"]
    return prepay_id


def paid(sandbox: PartnerProcess, client: WeChatPay, number: str, fen: int = 1000) -> None:
    prepaid(client, number, fen)
    assert sandbox.post("/sandbox/pay", {"out_trade_no": number}).status_code == 200


def refused(answer: tuple[int, str]) -> tuple[int, str]:
    return answer[0], json.loads(answer[1])["code"]


def queried(client: WeChatPay, number: str) -> dict[str, Any]:
    code, body = client.query(out_trade_no=number)
    assert code == 200, body
    trade: dict[str, Any] = json.loads(body)
    return trade


def asked_refund(
    client: WeChatPay, number: str, fen: int = 1000, total: int = 1000, refund: str = ""
) -> dict[str, Any]:
    code, body = client.refund(
        refund or f"rf-{number}", {"refund": fen, "total": total, "currency": "CNY"}, out_trade_no=number
    )
    assert code == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def refund_status(client: WeChatPay, refund: str) -> str:
    status: str = json.loads(client.query_refund(refund)[1])["status"]
    return status


def test_a_trade_from_prepay_to_refund(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str
) -> None:
    prepay_id = prepaid(client, number)
    assert queried(client, number)["trade_state"] == "NOTPAY"

    timestamp, nonce = str(int(time.time())), new_id()
    package = f"prepay_id={prepay_id}"
    phone = {"appId": client._appid, "timeStamp": timestamp, "nonceStr": nonce, "package": package, "payer": OPENID}
    assert sandbox.post("/sandbox/pay", {**phone, "paySign": "AAAA"}).status_code == 400
    signature = client.sign([client._appid, timestamp, nonce, package])
    assert sandbox.post("/sandbox/pay", {**phone, "paySign": signature}).status_code == 200

    [notice] = wait_for(lambda: merchant.about(number, client))
    assert notice["event_type"] == "TRANSACTION.SUCCESS"
    assert notice["resource"]["amount"] == {
        "total": 1000,
        "payer_total": 1000,
        "currency": "CNY",
        "payer_currency": "CNY",
    }
    trade = queried(client, number)
    assert trade == notice["resource"]
    assert trade["trade_state"] == "SUCCESS"
    assert json.loads(client.query(transaction_id=trade["transaction_id"])[1]) == trade
    assert refused(client.close(number)) == (400, "ORDERPAID")

    answer = asked_refund(client, number)
    assert answer["status"] == "PROCESSING"
    assert asked_refund(client, number)["refund_id"] == answer["refund_id"]
    wait_for(lambda: refund_status(client, f"rf-{number}") == "SUCCESS")
    assert queried(client, number)["trade_state"] == "REFUND"
    [notice] = wait_for(lambda: merchant.about(f"rf-{number}", client))
    assert (notice["event_type"], notice["resource"]["refund_status"]) == ("REFUND.SUCCESS", "SUCCESS")
    assert notice["resource"]["amount"]["refund"] == 1000


def test_the_platform_refuses_a_wrong_signature(
    sandbox: PartnerProcess, merchant: Merchant, folder: Path, number: str
) -> None:
    thief = make_client(sandbox.url, folder, merchant.url)
    thief._core._private_key = generate_private_key(65537, 2048)
    assert refused(thief.query(out_trade_no=number)) == (401, "SIGN_ERROR")
    assert requests.get(f"{sandbox.url}/v3/certificates", timeout=5).json()["code"] == "SIGN_ERROR"


def test_the_platform_refuses_an_old_signature(
    sandbox: PartnerProcess, client: WeChatPay, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("wechatpayv3.utils.time.time", lambda: now - 301)
    assert refused(client.query(out_trade_no="whatever-1")) == (401, "SIGN_ERROR")


def test_the_client_refuses_a_wrong_platform(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str
) -> None:
    paid(sandbox, client, number)
    wait_for(lambda: merchant.about(number, client))
    headers, body = next(
        call for call in merchant.calls if client.callback(*call)["resource"]["out_trade_no"] == number
    )
    assert client.callback(headers, body.replace("支付成功", "支付失败")) is None
    client._core._public_key = generate_private_key(65537, 2048).public_key()
    assert client.callback(headers, body) is None
    with pytest.raises(Exception, match="failed to verify the signature"):
        client.query(out_trade_no=number)


def test_certificate_mode_reads_the_platform_certificate(
    sandbox: PartnerProcess, merchant: Merchant, folder: Path, number: str, tmp_path: Path
) -> None:
    names = json.loads((folder / "merchant.json").read_text())
    (tmp_path / "known.pem").write_bytes((folder / "platform_cert.pem").read_bytes())
    client = WeChatPay(
        wechatpay_type=WeChatPayType.JSAPI,
        mchid=names["mchid"],
        private_key=(folder / "merchant_key.pem").read_text(),
        cert_serial_no=names["merchant_serial"],
        appid=names["appid"],
        apiv3_key=(folder / "apiv3_key").read_text(),
        notify_url=merchant.url,
        cert_dir=str(tmp_path),
        timeout=(2, 5),
    )
    client._core._gate_way = sandbox.url
    client._core._platform_serial = names["platform_serial"]
    client._core._update_certificates()  # GET /v3/certificates, decrypted with the APIv3 key
    assert (tmp_path / f"{names['platform_serial']}.pem").exists()
    paid(sandbox, client, number)
    [notice] = wait_for(lambda: merchant.about(number, client))
    assert notice["resource"]["trade_state"] == "SUCCESS"


@pytest.mark.parametrize(
    ("expected", "call"),
    [
        ((404, "ORDER_NOT_EXIST"), lambda c, n: c.query(out_trade_no=n)),
        ((404, "RESOURCE_NOT_EXISTS"), lambda c, n: c.query_refund(f"rf-{n}")),
        ((404, "RESOURCE_NOT_EXISTS"), lambda c, n: c.refund(f"rf-{n}", {"refund": 1, "total": 1}, out_trade_no=n)),
        ((400, "PARAM_ERROR"), lambda c, n: c.pay("x", f"fee-{n}", {"total": 1}, payer=OPENID)),
        ((400, "PARAM_ERROR"), lambda c, n: c.pay("x", n, {"total": 10.5}, payer=OPENID)),
        (
            (400, "PARAM_ERROR"),
            lambda c, n: c.pay("x", n, {"total": 1}, payer=OPENID, time_expire="2020-01-01T00:00:00+08:00"),
        ),
        ((400, "APPID_MCHID_NOT_MATCH"), lambda c, n: c.pay("x", n, {"total": 1}, payer=OPENID, appid="wxother")),
    ],
)
def test_refusals(
    client: WeChatPay, number: str, expected: tuple[int, str], call: Callable[[WeChatPay, str], tuple[int, str]]
) -> None:
    assert refused(call(client, number)) == expected


def test_one_number_is_one_trade(sandbox: PartnerProcess, client: WeChatPay, number: str) -> None:
    first = prepaid(client, number)
    assert prepaid(client, number) != first  # the same request again: a further prepay_id of the same trade
    assert refused(client.pay("医事服务费", number, {"total": 999, "currency": "CNY"}, payer=OPENID)) == (
        403,
        "OUT_TRADE_NO_USED",
    )
    assert refused(client.pay("别的", number, {"total": 1000, "currency": "CNY"}, payer=OPENID)) == (
        400,
        "INVALID_REQUEST",
    )
    assert sandbox.post("/sandbox/pay", {"prepay_id": first}).status_code == 200
    assert sandbox.post("/sandbox/pay", {"out_trade_no": number}).status_code == 409
    assert refused(client.pay("医事服务费", number, {"total": 1000, "currency": "CNY"}, payer=OPENID)) == (
        400,
        "ORDERPAID",
    )


def test_a_closed_trade_takes_no_money_unless_a_late_capture_is_scripted(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str
) -> None:
    prepaid(client, number)
    assert client.close(number)[0] == 204
    assert client.close(number)[0] == 204
    assert client.close(new_id())[0] == 204  # as merchants report it: an unknown number too
    assert queried(client, number)["trade_state"] == "CLOSED"
    assert refused(client.pay("医事服务费", number, {"total": 1000, "currency": "CNY"}, payer=OPENID)) == (
        400,
        "ORDER_CLOSED",
    )
    assert sandbox.post("/sandbox/pay", {"out_trade_no": number}).json()["code"] == "ORDER_CLOSED"

    sandbox.misbehave("capture_after_close", target=number)
    assert sandbox.post("/sandbox/pay", {"out_trade_no": number}).status_code == 200
    [notice] = wait_for(lambda: merchant.about(number, client))
    assert notice["event_type"] == "TRANSACTION.SUCCESS"
    assert queried(client, number)["trade_state"] == "SUCCESS"
    [trade] = [trade for trade in sandbox.get("/sandbox/books")["trades"] if trade["out_trade_no"] == number]
    assert trade["late"] is True


def test_time_expire_is_business_time(
    sandbox: PartnerProcess, client: WeChatPay, number: str, clock: SystemClock
) -> None:
    expires = (clock.now() + timedelta(minutes=15)).astimezone(SHANGHAI).isoformat(timespec="seconds")
    prepaid(client, number, time_expire=expires)
    clock.advance(timedelta(minutes=15))
    assert queried(client, number)["trade_state"] == "CLOSED"
    assert sandbox.post("/sandbox/pay", {"out_trade_no": number}).json()["code"] == "ORDER_CLOSED"


def test_refunds_give_back_what_was_paid_and_no_more(
    sandbox: PartnerProcess, client: WeChatPay, number: str, clock: SystemClock
) -> None:
    prepaid(client, number)
    body = {"refund": 600, "total": 1000, "currency": "CNY"}
    assert refused(client.refund("rf-1", body, out_trade_no=number)) == (400, "INVALID_REQUEST")  # not paid
    sandbox.post("/sandbox/pay", {"out_trade_no": number})
    first, second = f"rf1-{number}", f"rf2-{number}"
    asked_refund(client, number, 600, refund=first)
    assert refused(client.refund(first, {"refund": 400, "total": 1000}, out_trade_no=number)) == (
        400,
        "INVALID_REQUEST",
    )
    assert refused(client.refund(second, {"refund": 401, "total": 1000}, out_trade_no=number)) == (
        400,
        "INVALID_REQUEST",
    )
    assert refused(client.refund(second, {"refund": 400, "total": 1000}, out_trade_no=number)) == (
        429,
        "FREQUENCY_LIMITED",
    )
    clock.advance(timedelta(minutes=1))
    asked_refund(client, number, 400, refund=second)
    clock.advance(timedelta(seconds=2))
    books = sandbox.get("/sandbox/books")
    mine = [refund for refund in books["refunds"] if refund["out_trade_no"] == number]
    assert [(refund["amount_fen"], refund["status"]) for refund in mine] == [(600, "SUCCESS"), (400, "SUCCESS")]
    totals = books["totals"]
    assert totals["paid_fen"] == totals["refunded_fen"] + totals["refunding_fen"] + totals["kept_fen"]


def test_a_refund_that_fails(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str, clock: SystemClock
) -> None:
    paid(sandbox, client, number)
    refund = f"rf-{number}"
    sandbox.misbehave("refund_fails", target=refund, reason="NOT_ENOUGH")
    amount = {"refund": 1000, "total": 1000, "currency": "CNY"}
    assert refused(client.refund(refund, amount, out_trade_no=number)) == (403, "NOT_ENOUGH")
    sandbox.misbehave("refund_fails", target=refund)
    answer = asked_refund(client, number)
    clock.advance(timedelta(seconds=2))
    assert refund_status(client, refund) == asked_refund(client, number)["status"] == "ABNORMAL"
    [notice] = wait_for(lambda: merchant.about(refund, client))
    assert notice["event_type"] == "REFUND.ABNORMAL"
    card = {"bank_type": "ICBC_DEBIT", "bank_account": "6222000000000000000", "real_name": "张三"}
    code, _ = client.abnormal_refund(answer["refund_id"], refund, "USER_BANK_CARD", **card)
    assert code == 200
    clock.advance(timedelta(seconds=2))
    assert refund_status(client, refund) == "SUCCESS"
    assert wait_for(lambda: merchant.about(refund, client)[1:])[0]["event_type"] == "REFUND.SUCCESS"


def test_timeouts_leave_the_truth_with_the_platform(
    sandbox: PartnerProcess, merchant: Merchant, folder: Path, client: WeChatPay, number: str
) -> None:
    hasty = make_client(sandbox.url, folder, merchant.url, timeout=(2, 0.5))
    sandbox.misbehave("charge_then_timeout", target=number, seconds=1)
    with pytest.raises(requests.Timeout):
        prepaid(hasty, number)
    assert queried(client, number)["trade_state"] == "SUCCESS"
    sandbox.misbehave("timeout_after_effect", target=f"rf-{number}", seconds=0)
    with pytest.raises(requests.ConnectionError):
        asked_refund(hasty, number)
    assert json.loads(client.query_refund(f"rf-{number}")[1])["amount"]["refund"] == 1000
    sandbox.misbehave("slow", target=number, seconds=1)
    with pytest.raises(requests.Timeout):
        queried(hasty, number)


def test_errors_come_as_often_as_scripted(sandbox: PartnerProcess, client: WeChatPay, number: str) -> None:
    sandbox.misbehave("error_500", target=number, times=2)
    sandbox.misbehave("frequency_limited", target=number)
    amount = {"total": 1000, "currency": "CNY"}
    answers = [refused(client.pay("医事服务费", number, amount, payer=OPENID)) for _ in range(3)]
    assert answers == [(500, "SYSTEM_ERROR"), (500, "SYSTEM_ERROR"), (429, "FREQUENCY_LIMITED")]
    prepaid(client, number)


def test_notices_are_told_again_until_accepted(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str
) -> None:
    merchant.answers = [500, 400]
    paid(sandbox, client, number)

    def mine() -> Any:
        return [notice for notice in sandbox.get("/sandbox/notices") if notice["subject"] == number]

    wait_for(lambda: mine()[0]["state"] == "accepted")
    assert [answer["status"] for answer in mine()[0]["answers"]] == [500, 400, 200]
    assert len({notice["id"] for notice in merchant.about(number, client)}) == 1


def test_notices_come_twice_late_reordered_not_at_all_and_forged(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str, clock: SystemClock
) -> None:
    sandbox.misbehave("double_notice", target=number)
    paid(sandbox, client, number)
    twice = wait_for(lambda: merchant.about(number, client)[1:] and merchant.about(number, client))
    assert twice[0] == twice[1]

    late, reordered, dropped, forged = (new_id() for _ in range(4))
    sandbox.misbehave("late_notice", target=late, seconds=3600)
    paid(sandbox, client, late)
    sandbox.misbehave("drop_notice", target=dropped)
    paid(sandbox, client, dropped)
    sandbox.misbehave("reorder_notices", target=reordered)
    paid(sandbox, client, reordered)
    asked_refund(client, reordered)
    clock.advance(timedelta(seconds=2))
    both = wait_for(lambda: merchant.about(reordered, client)[1:] and merchant.about(reordered, client))
    assert [notice["event_type"] for notice in both] == ["REFUND.SUCCESS", "TRANSACTION.SUCCESS"]

    assert merchant.about(late, client) == []
    clock.advance(timedelta(hours=1))
    assert len(wait_for(lambda: merchant.about(late, client))) == 1
    states = {notice["subject"]: notice["state"] for notice in sandbox.get("/sandbox/notices")}
    assert states[dropped] == "dropped"
    assert merchant.about(dropped, client) == []

    merchant.answers = [401]
    sandbox.misbehave("signtest_notice", target=forged)
    paid(sandbox, client, forged)
    wait_for(lambda: merchant.about(forged, client))
    assert sum("SIGNTEST" in headers["Wechatpay-Signature"] for headers, _ in merchant.calls) == 1


def test_nothing_answered_is_lost_by_a_kill(
    sandbox: PartnerProcess, merchant: Merchant, client: WeChatPay, number: str, clock: SystemClock
) -> None:
    sandbox.misbehave("late_notice", target=number, seconds=60)
    paid(sandbox, client, number)
    asked_refund(client, number)
    books = sandbox.get("/sandbox/books")
    sandbox.kill()
    sandbox.start()
    assert sandbox.get("/sandbox/books")["trades"] == books["trades"]
    clock.advance(timedelta(seconds=60))
    events = wait_for(lambda: merchant.about(number, client)[1:] and merchant.about(number, client))
    assert {notice["event_type"] for notice in events} == {"TRANSACTION.SUCCESS", "REFUND.SUCCESS"}


def test_the_statement_of_a_day(sandbox: PartnerProcess, client: WeChatPay, number: str, clock: SystemClock) -> None:
    paid(sandbox, client, number, 1234)
    day = clock.now().astimezone(SHANGHAI).date()
    assert refused(client.trade_bill(day.isoformat())) == (400, "NO_STATEMENT_EXIST")
    clock.advance(timedelta(days=2))
    code, body = client.trade_bill(day.isoformat())
    assert code == 200, body
    code, content = client.download_bill(json.loads(body)["download_url"])
    assert code == 200
    lines = list(csv.reader(gzip.decompress(content).decode("utf-8-sig").splitlines()))
    [mine] = [dict(zip(lines[0], line, strict=True)) for line in lines[1:-2] if f"`{number}" in line]
    assert (mine["交易状态"], mine["订单金额"]) == ("`SUCCESS", "`12.34")


def test_the_recipe_of_the_readme(
    sandbox: PartnerProcess, merchant: Merchant, folder: Path, number: str, clock: SystemClock
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (REPO / "partners/wechatpay/README.md").read_text(), re.S)
    recipe: dict[str, Any] = {}
    exec(code, recipe)
    adapter = recipe["WeChatPayAdapter"](sandbox.url, folder, merchant.url)
    appid = json.loads((folder / "merchant.json").read_text())["appid"]
    expires = (clock.now() + timedelta(minutes=15)).isoformat(timespec="seconds")

    with pytest.raises(recipe["Refused"], match="ORDER_NOT_EXIST"):
        adapter.trade(number)
    sandbox.misbehave("timeout_after_effect", target=number, seconds=0)
    with pytest.raises(recipe["Unknown"]):
        adapter.prepay(number, "医事服务费", 1000, "oPatient", expires)
    prepay_id = adapter.prepay(number, "医事服务费", 1000, "oPatient", expires)
    phone = adapter.phone_parameters(appid, prepay_id, new_id())
    assert sandbox.post("/sandbox/pay", phone).status_code == 200
    assert adapter.trade(number)["trade_state"] == "SUCCESS"
    with pytest.raises(recipe["Refused"], match="ORDERPAID"):
        adapter.close(number)
    adapter.close(new_id())
    with ThreadPoolExecutor(16) as threads:  # one client, many threads
        states = threads.map(lambda _: adapter.trade(number)["trade_state"], range(64))
    assert set(states) == {"SUCCESS"}
    assert adapter.refund(f"rf-{number}", number, 1000, 1000)["status"] == "PROCESSING"
    clock.advance(timedelta(seconds=2))
    assert adapter.refunded(f"rf-{number}")["status"] == "SUCCESS"

    headers, body = wait_for(lambda: merchant.calls)[0]
    assert adapter.notice(headers, body.encode())["resource"]["out_trade_no"] == number
    for forged in ({}, {**headers, "Wechatpay-Serial": "4F"}, {**headers, "Wechatpay-Timestamp": "1"}):
        assert adapter.notice(forged, body.encode()) is None
    assert adapter.notice(headers, body.replace("支付", "付款").encode()) is None


def test_the_start_names_what_is_missing(sandbox: PartnerProcess) -> None:
    command = [sys.executable, "-m", "partners.wechatpay"]
    env = {key: value for key, value in sandbox.env.items() if key != "FUZHEN_SECRETS"}
    ended = subprocess.run(command, check=False, cwd=REPO, env=env, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stderr.strip()) == (78, "missing setting FUZHEN_SECRETS")
