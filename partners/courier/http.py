"""The courier's API, and the hands that move a parcel in the sandbox."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request

from eventkit.clock import SystemClock, rfc3339
from eventkit.ids import new_id
from partners.courier.road import STATUSES, price_fen, steps
from partners.front import FAILURES, Refused, field, json_body, put_in_front, signed_headers
from partners.kit import Books, Notices, Row, Scripts, create_app

SCHEMA = """
create table if not exists parcel (
    tracking_no text primary key, client_order_no text not null unique, request text not null,
    callback_url text not null, status text not null, fee_fen integer not null,
    collected_fen integer not null default 0);
create table if not exists step (
    tracking_no text not null, number integer not null, status text not null, at text not null,
    primary key (tracking_no, number));
"""
NOTICE_KINDS = {"late_notice", "double_notice", "reorder_notices", "drop_notice"}


def create(path: Path, api_key: bytes, notice_key: bytes, callback_url: str) -> Flask:
    books = Books(path, SCHEMA)
    scripts = Scripts(books, FAILURES | NOTICE_KINDS)
    now = SystemClock.from_env().now

    def notice_headers(row: Row) -> dict[str, str]:
        url = urlsplit(row["url"])
        target = url.path + (f"?{url.query}" if url.query else "")
        return {"Content-Type": "application/json", **signed_headers(notice_key, "POST", target, row["body"].encode())}

    notices = Notices(books, notice_headers, accepted=lambda answer: 200 <= answer.status_code < 300)
    app = create_app("courier", books, scripts)
    put_in_front(app, scripts, api_key)

    def parcel(tracking_no: str) -> Row:
        found = books.row("select * from parcel where tracking_no = ?", tracking_no)
        if found is None:
            raise Refused(404, "no_such_parcel")
        return found

    def shown(row: Row) -> Row:
        history = books.rows(
            "select number, status, at from step where tracking_no = ? order by number", row["tracking_no"]
        )
        return {
            "tracking_no": row["tracking_no"],
            "client_order_no": row["client_order_no"],
            "status": row["status"],
            "courier_fee_fen": row["fee_fen"],
            "collected_fen": row["collected_fen"],
            "history": history,
        }

    @app.post("/orders")
    def take_order() -> tuple[Response, int]:
        body = json_body()
        number = field(body, "client_order_no", str)
        for name in ("sender", "recipient", "phone", "address"):
            field(body, name, str)
        if body.get("pay_on_delivery") is not True:
            raise Refused(400, "pay_on_delivery_only", "the recipient pays the courier: pay_on_delivery must be true")
        order = json.dumps(body, sort_keys=True, ensure_ascii=False)
        with books.write() as db:
            known = books.row("select * from parcel where client_order_no = ?", number)
            if known is not None:
                if known["request"] != order:
                    raise Refused(409, "client_order_no_reused", "this number was used for another parcel")
                return jsonify(shown(known)), 200
            tracking_no = f"FZ{int(new_id()[:12], 16):015d}"
            fee = price_fen(body["address"], field({"weight_g": 1000, **body}, "weight_g", int))
            db.execute(
                "insert into parcel (tracking_no, client_order_no, request, callback_url, status, fee_fen)"
                " values (?,?,?,?,?,?)",
                (tracking_no, number, order, body.get("callback_url", callback_url), "accepted", fee),
            )
            db.execute("insert into step values (?,0,'accepted',?)", (tracking_no, rfc3339(now())))
            return jsonify(shown(parcel(tracking_no))), 201

    @app.get("/orders/<tracking_no>")
    def order(tracking_no: str) -> Response:
        return jsonify(shown(parcel(tracking_no)))

    @app.get("/price")
    def price() -> Response:
        weight = request.args.get("weight_g", "1000")
        if not weight.isdecimal() or int(weight) == 0:
            raise Refused(400, "bad_request", "weight_g must be a whole number of grams")
        return jsonify(courier_fee_fen=price_fen(request.args.get("to", ""), int(weight)))

    def move(tracking_no: str, status: str) -> None:
        """One status further: history, money and the notice that tells it are one transaction."""
        row = parcel(tracking_no)
        number = len(shown(row)["history"])
        moved_at = rfc3339(now())
        told: Row = {
            "notice_id": f"{tracking_no}/{number}",
            "number": number,
            "tracking_no": tracking_no,
            "client_order_no": row["client_order_no"],
            "status": status,
            "occurred_at": moved_at,
        }
        if status == "delivered":
            told["courier_fee_fen"] = row["fee_fen"]
        with books.write() as db:
            db.execute("insert into step values (?,?,?,?)", (tracking_no, number, status, moved_at))
            db.execute(
                "update parcel set status = ?, collected_fen = ? where tracking_no = ?",
                (status, told.get("courier_fee_fen", 0), tracking_no),
            )
            script = scripts.take(NOTICE_KINDS, tracking_no, status) or {}
            kind = script.get("kind")
            for _ in range(2 if kind == "double_notice" else 1):
                notices.add(
                    "parcel",
                    tracking_no,
                    row["callback_url"],
                    json.dumps(told),
                    delay=float(script.get("seconds", 5)) if kind == "late_notice" else 0,
                    state={"reorder_notices": "held", "drop_notice": "dropped"}.get(str(kind), "waiting"),
                    behind=tracking_no,
                )

    @app.post("/sandbox/orders/<tracking_no>/advance")
    def advance(tracking_no: str) -> Response:
        to = (request.get_json(silent=True) or {}).get("to")
        if to is not None and to not in STATUSES:
            raise Refused(400, "unknown_status", f"to is one of {', '.join(STATUSES)}")
        with books.write():
            way = steps(parcel(tracking_no)["status"], to)
            if not way:
                raise Refused(409, "no_way", "the parcel cannot get there from where it is")
            for status in way:
                move(tracking_no, status)
            return jsonify(shown(parcel(tracking_no)))

    @app.get("/sandbox/orders")
    def orders() -> Response:
        """The van's list; with ?client_order_no= the parcel of one order of ours."""
        wanted = request.args.get("client_order_no")
        rows = books.rows("select * from parcel order by rowid")
        return jsonify(orders=[shown(row) for row in rows if wanted in (None, row["client_order_no"])])

    @app.get("/sandbox/books")
    def fees() -> Response:
        by_status = books.rows("select status, count(*) as parcels from parcel group by status order by status")
        total = books.row(
            "select count(*) as parcels, coalesce(sum(collected_fen), 0) as fees_collected_fen from parcel"
        )
        return jsonify({**(total or {}), "by_status": {row["status"]: row["parcels"] for row in by_status}})

    @app.get("/sandbox/notices")
    def told_so_far() -> Response:
        return jsonify(notices=notices.list())

    return app
