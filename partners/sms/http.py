"""The provider's API: a message is taken once per request id; what arrived is read from the phone in /sandbox."""

import json
import re
from pathlib import Path

from flask import Flask, Response, jsonify, request

from eventkit.clock import SystemClock, rfc3339
from eventkit.ids import new_id
from partners.front import FAILURES, Refused, field, json_body, put_in_front
from partners.kit import Books, Scripts, create_app

SCHEMA = """
create table if not exists message (
    message_id text primary key, request_id text not null unique, phone text not null, template text not null,
    params text not null, accepted_at text not null, lost integer not null);
create index if not exists message_phone on message (phone);
"""


def create(path: Path, key: bytes) -> Flask:
    books = Books(path, SCHEMA)
    scripts = Scripts(books, FAILURES | {"lost"})
    now = SystemClock.from_env().now
    app = create_app("sms", books, scripts)
    put_in_front(app, scripts, key)

    @app.post("/messages")
    def send() -> tuple[Response, int]:
        body = json_body()
        request_id, phone = field(body, "request_id", str), field(body, "phone", str)
        template, params = field(body, "template", str), json.dumps(field(body, "params", dict), sort_keys=True)
        if not re.fullmatch(r"1\d{10}", phone):
            raise Refused(400, "bad_phone", "phone must be a mobile number of 11 digits")
        with books.write() as db:
            known = books.row("select * from message where request_id = ?", request_id)
            if known is not None:
                if (known["phone"], known["template"], known["params"]) != (phone, template, params):
                    raise Refused(409, "request_id_reused", "this request_id was used for another message")
                return jsonify(message_id=known["message_id"], status="accepted"), 200
            message_id = new_id()
            lost = scripts.take({"lost"}, phone) is not None
            db.execute(
                "insert into message values (?,?,?,?,?,?,?)",
                (message_id, request_id, phone, template, params, rfc3339(now()), lost),
            )
        return jsonify(message_id=message_id, status="accepted"), 202

    @app.get("/sandbox/messages")
    def phone_in_hand() -> Response:
        rows = books.rows(
            "select message_id, template, params, accepted_at from message where phone = ? and not lost order by rowid",
            request.args.get("phone", ""),
        )
        return jsonify(messages=[{**row, "params": json.loads(row["params"])} for row in rows])

    @app.get("/sandbox/books")
    def counts() -> Response:
        return jsonify(books.row("select count(*) as accepted, coalesce(sum(lost), 0) as lost from message"))

    return app
