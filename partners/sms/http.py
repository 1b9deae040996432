"""The provider's two doors, SMS and WeChat template messages: a message is taken once per request id; what arrived is
read from the phone in /sandbox."""

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
create table if not exists wording (message_id text primary key, text text not null);
create table if not exists template_message (
    msgid integer primary key autoincrement, client_msg_id text not null, openid text not null,
    template_id text not null, data text not null, accepted_at text not null, unique (openid, client_msg_id));
"""


def create(path: Path, key: bytes) -> Flask:
    books = Books(path, SCHEMA)
    scripts = Scripts(books, FAILURES | {"lost", "unfollowed"})
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
            if "text" in body:
                db.execute("insert into wording values (?,?)", (message_id, field(body, "text", str)))
        return jsonify(message_id=message_id, status="accepted"), 202

    @app.get("/sandbox/messages")
    def phone_in_hand() -> Response:
        rows = books.rows(
            "select message_id, template, params, text, accepted_at from message left join wording using (message_id)"
            " where phone = ? and not lost order by message.rowid",
            request.args.get("phone", ""),
        )
        return jsonify(messages=[{**row, "params": json.loads(row["params"])} for row in rows])

    @app.post("/wechat/templates")
    def send_template() -> tuple[Response, int]:
        body = json_body()
        number, openid = field(body, "client_msg_id", str), field(body, "touser", str)
        template, data = field(body, "template_id", str), field(body, "data", dict)
        if not re.fullmatch(r"[0-9A-Za-z_-]{28}", openid):
            raise Refused(400, "invalid_openid", "touser must be an openid of 28 characters")
        if not all(isinstance(value, dict) and isinstance(value.get("value"), str) for value in data.values()):
            raise Refused(400, "bad_request", "data must be {name: {value}}")
        written = json.dumps(data, sort_keys=True, ensure_ascii=False)
        with books.write() as db:
            known = books.row("select * from template_message where (openid, client_msg_id) = (?,?)", openid, number)
            if known is not None:
                if (known["template_id"], known["data"]) != (template, written):
                    raise Refused(409, "client_msg_id_reused", "this client_msg_id was used for another message")
                return jsonify(errcode=0, errmsg="ok", msgid=known["msgid"]), 200
            unfollowed = scripts.take({"unfollowed"}, openid)
            if unfollowed is None:
                row = (number, openid, template, written, rfc3339(now()))
                msgid = db.execute(
                    "insert into template_message (client_msg_id, openid, template_id, data, accepted_at)"
                    " values (?,?,?,?,?)", row,
                ).lastrowid
        if unfollowed is not None:
            raise Refused(403, "require_subscribe", "this user does not follow the account")
        return jsonify(errcode=0, errmsg="ok", msgid=msgid), 202

    @app.get("/sandbox/wechat/messages")
    def wechat_in_hand() -> Response:
        rows = books.rows(
            "select msgid, template_id, data, accepted_at from template_message where openid = ? order by msgid",
            request.args.get("openid", ""),
        )
        return jsonify(messages=[{**row, "data": json.loads(row["data"])} for row in rows])

    @app.get("/sandbox/books")
    def counts() -> Response:
        return jsonify(books.row("select count(*) as accepted, coalesce(sum(lost), 0) as lost from message"))

    return app
