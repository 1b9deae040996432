"""The insurer's interface: JSON over HTTP, signed as `partners.front` says."""

import json
from datetime import date
from pathlib import Path

from flask import Flask, Response, jsonify, request

from eventkit.clock import SystemClock
from partners.front import FAILURES, Refused, field, json_body, put_in_front
from partners.insurer.fund import SCHEMA, Fund
from partners.kit import Books, Row, Scripts, create_app

FEE: dict[str, type] = {
    "card_id": str,
    "card_kind": str,
    "item": str,
    "title": str,
    "amount_fen": int,
    "hospital_code": str,
}


def make_app(file: Path, key: bytes) -> Flask:
    books = Books(file, SCHEMA)
    scripts = Scripts(books, FAILURES)
    fund = Fund(books, SystemClock.from_env())
    app = create_app("insurer", books, scripts)
    put_in_front(app, scripts, key)

    @app.post("/decompositions")
    def decompose() -> Response:
        body = json_body()
        fee: Row = {name: field(body, name, kind) for name, kind in FEE.items()}
        if fee["amount_fen"] <= 0:
            raise Refused(400, "bad_request", "amount_fen must be positive")
        return jsonify(fund.decompose(field(body, "trade_no", str), json.dumps(fee, sort_keys=True), fee))

    @app.post("/settlements")
    def settle() -> Response:
        return jsonify(fund.settle(field(json_body(), "decomposition_id", str)))

    @app.get("/settlements/<trade_no>")
    def settlement(trade_no: str) -> Response:
        return jsonify(fund.settlement(trade_no))

    @app.post("/reversals")
    def reverse() -> Response:
        body = json_body()
        return jsonify(fund.reverse(field(body, "reversal_no", str), field(body, "settlement_id", str)))

    @app.get("/reversals/<reversal_no>")
    def reversal(reversal_no: str) -> Response:
        return jsonify(fund.reversal(reversal_no))

    @app.get("/statements")
    def statement() -> Response:
        try:
            day = date.fromisoformat(request.args.get("day", ""))
        except ValueError:
            raise Refused(400, "bad_request", "day must be YYYY-MM-DD") from None
        return jsonify(fund.statement(day))

    @app.put("/sandbox/cards/<card_id>")
    def set_card(card_id: str) -> tuple[str, int]:
        body = json_body()
        fund.set_card(card_id, str(body.get("state", "valid")), int(body.get("account_fen", 0)))
        return "", 204

    @app.get("/sandbox/books")
    def ledger() -> Response:
        return jsonify(fund.books())

    return app
