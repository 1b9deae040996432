"""API v3 over HTTP: who may ask (signature), the routes, the signature of every answer; the sandbox's own routes."""

import gzip
import hashlib
import re
import secrets
import time
from datetime import date
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from eventkit.clock import SHANGHAI, SystemClock
from partners.kit import HTTP_KINDS, Books, Notices, Row, Scripts, create_app, stall
from partners.wechatpay.bill import available_from, day_bill
from partners.wechatpay.keys import ALGORITHM, Keys, seal, sign, verified
from partners.wechatpay.provider import NOTICE_KINDS, PAYMENT_KINDS, REFUND_KINDS, SCHEMA, Provider, Refused

SIGNATURE_AGE = 300  # seconds of wall time
BODY_LIMIT = 1 << 20


def make_app(keys: Keys, file: Path) -> Flask:
    books = Books(file, SCHEMA)
    scripts = Scripts(books, HTTP_KINDS | {"frequency_limited"} | PAYMENT_KINDS | NOTICE_KINDS | REFUND_KINDS)
    clock = SystemClock.from_env()
    notices = Notices(books, lambda row: _notice_headers(keys, row), _accepted)
    provider = Provider(books, scripts, notices, clock, keys)
    app = create_app("wechatpay", books, scripts)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT

    @app.before_request
    def admit() -> None:
        if not request.path.startswith("/v3/"):
            return
        _verify(keys)
        g.signer = request.headers.get("Wechatpay-Serial", keys.platform_serial)
        if g.signer not in keys.signers:
            g.signer = keys.platform_serial
            raise Refused(400, "PARAM_ERROR", "Wechatpay-Serial 有误，请使用平台证书序列号或微信支付公钥ID")
        g.body = _body()
        if request.args.get("mchid", keys.mchid) != keys.mchid or g.body.get("mchid", keys.mchid) != keys.mchid:
            raise Refused(400, "PARAM_ERROR", "商户号与签名的商户号不一致")
        g.numbers = _numbers()
        script = scripts.take({"error_500", "slow", "frequency_limited"}, *g.numbers) or {"kind": None}
        match script["kind"]:
            case "error_500":
                raise Refused(500, "SYSTEM_ERROR", "系统错误")
            case "frequency_limited":
                raise Refused(429, "FREQUENCY_LIMITED", "频率限制")
            case "slow":
                stall(float(script.get("seconds", 3)))
        g.silence = scripts.take({"charge_then_timeout", "timeout_after_effect"}, *g.numbers)
        _charge()

    def _charge() -> None:
        """Before the work and after it: the patient pays just while a prepay, a query or a close is under way."""
        if g.get("silence") and g.silence["kind"] == "charge_then_timeout":
            for number in g.numbers:
                provider.capture(number)

    @app.after_request
    def sign_answer(answer: Response) -> Response:
        if "signer" in g and request.endpoint != "download_bill":  # strangers and files get none
            answer.headers.update(_signature(keys, g.signer, answer.get_data(as_text=True)))
            answer.headers["Request-ID"] = secrets.token_hex(16).upper()
        if g.get("silence"):
            _charge()
            stall(float(g.silence.get("seconds", 30)))
        return answer

    @app.errorhandler(Refused)
    def refuse(refused: Refused) -> tuple[Response, int]:
        content: Row = {"code": refused.code, "message": refused.message}
        if refused.code == "SIGN_ERROR":
            content["detail"] = {
                "field": "signature",
                "location": "authorization",
                "detail": {"issue": "sign not match"},
            }
        return jsonify(content), refused.status

    @app.errorhandler(HTTPException)
    def no_such(error: HTTPException) -> tuple[Response, int]:
        code = "RESOURCE_NOT_EXISTS" if error.code == 404 else "INVALID_REQUEST"
        return jsonify(code=code, message=error.name), error.code or 500

    @app.get("/v3/certificates")
    def certificates() -> Response:
        certificate = keys.platform_certificate
        item = {
            "serial_no": keys.platform_serial,
            "effective_time": certificate.not_valid_before_utc.astimezone(SHANGHAI).isoformat(),
            "expire_time": certificate.not_valid_after_utc.astimezone(SHANGHAI).isoformat(),
            "encrypt_certificate": seal(keys.apiv3_key, certificate.public_bytes(Encoding.PEM).decode(), "certificate"),
        }
        return jsonify(data=[item])

    @app.post("/v3/pay/transactions/<any(jsapi, app, native):kind>")
    def prepay(kind: str) -> Response:
        prepay_id = provider.prepay(kind.upper(), g.body, g.signer)
        return (
            jsonify(code_url=f"weixin://wxpay/bizpayurl?pr={prepay_id}")
            if kind == "native"
            else jsonify(prepay_id=prepay_id)
        )

    @app.get("/v3/pay/transactions/out-trade-no/<out_trade_no>")
    def query(out_trade_no: str) -> Response:
        return jsonify(provider.trade(out_trade_no=out_trade_no))

    @app.get("/v3/pay/transactions/id/<transaction_id>")
    def query_by_id(transaction_id: str) -> Response:
        return jsonify(provider.trade(transaction_id=transaction_id))

    @app.post("/v3/pay/transactions/out-trade-no/<out_trade_no>/close")
    def close(out_trade_no: str) -> tuple[str, int]:
        provider.close(out_trade_no)
        return "", 204

    @app.post("/v3/refund/domestic/refunds")
    def refund() -> Response:
        return jsonify(provider.refund(g.body, g.signer))

    @app.get("/v3/refund/domestic/refunds/<out_refund_no>")
    def query_refund(out_refund_no: str) -> Response:
        return jsonify(provider.refund_by_number(out_refund_no))

    @app.post("/v3/refund/domestic/refunds/<refund_id>/apply-abnormal-refund")
    def abnormal_refund(refund_id: str) -> Response:
        return jsonify(provider.retry_abnormal(refund_id, g.body))

    @app.get("/v3/bill/tradebill")
    def trade_bill() -> Response:
        day, packed = _bill_day(), request.args.get("tar_type") == "GZIP"
        if clock.now() < available_from(day):
            raise Refused(400, "NO_STATEMENT_EXIST", "账单文件不存在")
        digest = hashlib.sha1(_bill(day)).hexdigest()  # of the bill itself, packed or not
        url = f"{request.host_url}v3/billdownload/file?bill_date={day}&tar_type={'GZIP' if packed else ''}"
        return jsonify(hash_type="SHA1", hash_value=digest, download_url=url)

    @app.get("/v3/billdownload/file")
    def download_bill() -> Response:
        content = _bill(_bill_day())
        packed = gzip.compress(content, mtime=0) if request.args.get("tar_type") == "GZIP" else content
        return Response(packed, mimetype="application/octet-stream")

    def _bill(day: date) -> bytes:
        trades = books.rows(
            "select *, json_extract(request, '$.description') as description,"
            " json_extract(request, '$.attach') as attach from trade order by created_at"
        )
        return day_bill(day, trades, provider.refunds(), keys)

    @app.post("/sandbox/pay")
    def pay() -> Response:
        """{out_trade_no | prepay_id, payer?: {openid}} — or, as a mini program does it, {appId, timeStamp, nonceStr,
        package, paySign, payer?}: then the signature of the merchant is checked as the phone would."""
        body: Row = request.get_json()
        prepay_id = body.get("prepay_id")
        if "paySign" in body:
            lines = [str(body.get(key, "")) for key in ("appId", "timeStamp", "nonceStr", "package")]
            if not verified(keys.merchant_public, str(body["paySign"]), *lines):
                raise Refused(400, "SIGN_ERROR", "支付验证签名失败")
            prepay_id = lines[3].removeprefix("prepay_id=")
        return jsonify(provider.pay(body.get("out_trade_no"), prepay_id, (body.get("payer") or {}).get("openid")))

    @app.get("/sandbox/books")
    def ledger() -> Response:
        return jsonify(provider.books())

    @app.get("/sandbox/notices")
    def delivered() -> Response:
        return jsonify(notices.list())

    return app


def _verify(keys: Keys) -> None:
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    claims = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if scheme != ALGORITHM or {"mchid", "serial_no", "nonce_str", "timestamp", "signature"} - claims.keys():
        raise Refused(401, "SIGN_ERROR", "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》")
    if claims["mchid"] != keys.mchid:
        raise Refused(401, "SIGN_ERROR", "商户号不存在")
    if claims["serial_no"].upper().lstrip("0") != keys.merchant_serial.lstrip("0"):
        raise Refused(401, "SIGN_ERROR", "商户证书序列号有误。请使用签名私钥匹配的证书序列号")
    if not claims["timestamp"].isdecimal() or abs(time.time() - int(claims["timestamp"])) > SIGNATURE_AGE:
        raise Refused(401, "SIGN_ERROR", "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟")
    body = request.get_data(as_text=True)
    lines = (request.method, request.environ["RAW_URI"], claims["timestamp"], claims["nonce_str"], body)
    if not verified(keys.merchant_public, claims["signature"], *lines):
        raise Refused(401, "SIGN_ERROR", "错误的签名，验签失败")


def _body() -> Row:
    if request.method == "GET":
        return {}
    body: Any = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise Refused(400, "PARAM_ERROR", "请求体不是合法的JSON")
    return body


def _numbers() -> list[str]:
    """The merchant's numbers that this request is about: what scripts are written for."""
    places = {**g.body, **(request.view_args or {})}
    return [str(places[key]) for key in ("out_trade_no", "out_refund_no") if key in places]


def _bill_day() -> date:
    try:
        return date.fromisoformat(request.args.get("bill_date", ""))
    except ValueError:
        raise Refused(400, "PARAM_ERROR", "参数错误：bill_date") from None


def _signature(keys: Keys, signer: str, body: str) -> dict[str, str]:
    timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
    return {
        "Wechatpay-Timestamp": timestamp,
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": signer,
        "Wechatpay-Signature-Type": ALGORITHM,
        "Wechatpay-Signature": sign(keys.signers[signer], timestamp, nonce, body),
    }


def _notice_headers(keys: Keys, row: Row) -> dict[str, str]:
    """The platform now and then tries whether a merchant checks signatures (签名探测): a wrong one comes first."""
    headers = _signature(keys, row["args"]["signer"], row["body"])
    if row["args"]["signtest"] and row["attempt"] == 0:
        headers["Wechatpay-Signature"] = "WECHATPAY/SIGNTEST/" + headers["Wechatpay-Signature"]
    return headers | {"Content-Type": "application/json"}


def _accepted(answer: requests.Response) -> bool:
    """2xx, and where it says a code, SUCCESS."""
    if not answer.ok or not answer.content:
        return answer.ok
    try:
        return bool(answer.json().get("code", "SUCCESS") == "SUCCESS")
    except (requests.JSONDecodeError, AttributeError):
        return False
