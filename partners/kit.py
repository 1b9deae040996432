"""What the partner sandboxes share: settings, one sqlite book, scripted misbehaviour, notices, start under gunicorn.

A partner runs as ONE process with threads, so one lock orders its writes; its whole state is one sqlite file under
FUZHEN_DATA, so that kill -9 loses nothing that was answered. Business time is the system's movable clock; HTTP
signatures use wall time (an attacker must not profit from a moved clock).

    def make_app(settings) -> Flask:                         # in the gunicorn worker: handles and threads start here
        books = Books(settings.file, "create table if not exists parcel (...);")
        scripts = Scripts(books, {"error_500", "slow"})
        app = create_app("courier", books, scripts)          # GET /health/ready, /sandbox/misbehave
        ...
    settings = Settings(file=data_file("courier"), ...)      # in __main__, before serve: exits 78 when one is missing
    serve(lambda: make_app(settings))                        # on FUZHEN_PORT
"""

import json
import os
import random
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from flask import Flask, Response, jsonify, request

from eventkit.clock import SystemClock

Row = dict[str, Any]


def setting(name: str, default: str | None = None) -> str:
    """A missing setting ends the start with exit code 78 (EX_CONFIG) and one line naming it."""
    value = os.environ.get(name, default)
    if value is None:
        print(f"missing setting {name}", file=sys.stderr)
        raise SystemExit(78)
    return value


def data_file(partner: str) -> Path:
    """FUZHEN_DATA/<partner>.sqlite; the folder is made when absent."""
    folder = Path(setting("FUZHEN_DATA"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{partner}.sqlite"


class Books:
    """One sqlite file behind one lock. `write()` is a transaction: all of it or nothing, durable against kill -9."""

    def __init__(self, path: Path, schema: str) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_KIT_SCHEMA + schema)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """May be nested: only the outermost opens and commits."""
        with self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def rows(self, sql: str, *args: Any) -> list[Row]:
        with self._lock:
            return [dict(row) for row in self._db.execute(sql, args)]

    def row(self, sql: str, *args: Any) -> Row | None:
        return next(iter(self.rows(sql, *args)), None)


_KIT_SCHEMA = """
create table if not exists script (
    id integer primary key, kind text not null, target text, left integer not null, args text not null);
create table if not exists notice (
    id integer primary key, kind text not null, subject text not null, url text not null, body text not null,
    args text not null, due text not null, state text not null, behind text, answers text not null default '[]');
create index if not exists notice_waiting on notice (due) where state = 'waiting';
"""


HTTP_KINDS = {"error_500", "slow", "timeout_after_effect"}
"""What any partner's HTTP interface may do wrong: refuse by 500 `times` times without an effect; answer `seconds` late;
do its work and never answer."""


def stall(seconds: float) -> None:
    """Keep the caller of this request waiting (a timeout on its side); 0 cuts the connection without an answer."""
    if seconds > 0:
        threading.Event().wait(seconds)
    else:
        request.environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)


class Scripts:
    """Misbehaviour on demand, consumed in the order it was written: the oldest script of one of the asked kinds that is
    written for this target (a trade number, a parcel, …) or for all (no target)."""

    def __init__(self, books: Books, kinds: set[str]) -> None:
        self._books = books
        self.kinds = kinds

    def add(self, kind: str, target: str | None, times: int, args: Row) -> None:
        with self._books.write() as db:
            db.execute(
                "insert into script (kind, target, left, args) values (?,?,?,?)",
                (kind, target, times, json.dumps(args)),
            )

    def take(self, kinds: set[str], *targets: str) -> Row | None:
        """-> {kind, target, …args} or None; uses it up by one."""
        marks = ",".join("?" * len(kinds))
        wanted = ",".join("?" * len(targets))
        with self._books.write() as db:
            found = db.execute(
                f"select * from script where left > 0 and kind in ({marks})"
                f" and (target is null or target in ({wanted})) order by id limit 1",
                (*kinds, *targets),
            ).fetchone()
            if found is None:
                return None
            db.execute("update script set left = left - 1 where id = ?", (found["id"],))
            return {**json.loads(found["args"]), "kind": found["kind"], "target": found["target"]}


class Notices:
    """Calls to somebody's notice URL, again with growing delay until accepted. They are rows written together with what
    they tell, so a killed sandbox still tells it; delays run on business time, so a moved clock also hurries them."""

    DELAYS = (1, 2, 4, 8, 15, 30, 60, 180, 600, 1800, 3600, 10800, 21600)

    def __init__(
        self,
        books: Books,
        headers: Callable[[Row], dict[str, str]],
        accepted: Callable[[requests.Response], bool] = lambda answer: answer.ok,
    ) -> None:
        """headers(notice row with `args` and the number of earlier attempts) is asked at every attempt, because
        signatures carry the time of sending."""
        self._books, self._headers, self._accepted = books, headers, accepted
        self._clock = SystemClock.from_env()
        self._in_flight: set[int] = set()
        self._new = threading.Event()
        self._senders = ThreadPoolExecutor(8, thread_name_prefix="notice")
        threading.Thread(target=self._run, daemon=True, name="notices").start()

    def add(
        self,
        kind: str,
        subject: str,
        url: str,
        body: str,
        *,
        delay: float = 0,
        args: Row | None = None,
        state: str = "waiting",
        behind: str | None = None,
    ) -> None:
        """Call it inside the `books.write()` of the fact it tells. `delay` in seconds. state "dropped": written down,
        never sent; "held": sent after the next accepted notice about the subject `behind`, or about any if None."""
        due = (self._clock.now() + timedelta(seconds=delay)).isoformat(timespec="microseconds")
        with self._books.write() as db:
            db.execute(
                "insert into notice (kind, subject, url, body, args, due, state, behind) values (?,?,?,?,?,?,?,?)",
                (kind, subject, url, body, json.dumps(args or {}), due, state, behind),
            )
        self._new.set()

    def _run(self) -> None:
        while True:
            self._new.wait(0.1)
            self._new.clear()
            for row in self._books.rows(
                "select id from notice where state = 'waiting' and due <= ? order by due, id", self._now()
            ):
                if row["id"] not in self._in_flight:
                    self._in_flight.add(row["id"])
                    self._senders.submit(self._send, row["id"])

    def _send(self, notice_id: int) -> None:
        try:
            row = self._books.row(
                "select * from notice where id = ? and state = 'waiting' and due <= ?", notice_id, self._now()
            )
            if row is None:  # sent between the look and this turn
                return
            answers, sent_at = json.loads(row["answers"]), self._clock.now()
            row["attempt"], row["args"] = len(answers), json.loads(row["args"])
            try:
                answer = requests.post(row["url"], data=row["body"].encode(), headers=self._headers(row), timeout=5)
                accepted, result = self._accepted(answer), {"status": answer.status_code, "body": answer.text[:500]}
            except requests.RequestException as failure:
                accepted, result = False, {"status": None, "body": type(failure).__name__}
            answers.append({"at": sent_at.isoformat(timespec="microseconds"), **result})
            state, due = "accepted", sent_at
            if not accepted and len(answers) <= len(self.DELAYS):
                state, due = (
                    "waiting",
                    sent_at + timedelta(seconds=self.DELAYS[len(answers) - 1] * random.uniform(0.8, 1.2)),
                )
            elif not accepted:
                state = "given_up"
            with self._books.write() as db:
                db.execute(
                    "update notice set state = ?, answers = ?, due = ? where id = ?",
                    (state, json.dumps(answers), due.isoformat(timespec="microseconds"), notice_id),
                )
                if state == "accepted":
                    db.execute(
                        "update notice set state = 'waiting'"
                        " where state = 'held' and id < ? and (behind is null or behind = ?)",
                        (notice_id, row["subject"]),
                    )
        finally:
            self._in_flight.discard(notice_id)

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="microseconds")

    def list(self) -> list[Row]:
        rows = self._books.rows("select id, kind, subject, url, args, due, state, answers from notice order by id")
        return [{**row, "answers": json.loads(row["answers"]), "args": json.loads(row["args"])} for row in rows]


def create_app(name: str, books: Books, scripts: Scripts) -> Flask:
    """A Flask app with health and `/sandbox/misbehave`: POST {kind, target?, times?, …args}, GET, DELETE."""
    app = Flask(name)
    app.json.ensure_ascii = False  # type: ignore[attr-defined]

    @app.get("/health/ready")
    def ready() -> Response:
        return jsonify(status="ready", partner=name)

    @app.post("/sandbox/misbehave")
    def misbehave() -> tuple[Response, int]:
        args: Row = request.get_json()
        kind = args.pop("kind", None)
        if kind not in scripts.kinds:
            return jsonify(code="unknown_kind", kinds=sorted(scripts.kinds)), 400
        scripts.add(kind, args.pop("target", None), int(args.pop("times", 1)), args)
        return jsonify(status="written"), 201

    @app.get("/sandbox/misbehave")
    def scripts_left() -> Response:
        return jsonify(books.rows("select kind, target, left, args from script where left > 0 order by id"))

    @app.delete("/sandbox/misbehave")
    def behave() -> tuple[str, int]:
        with books.write() as db:
            db.execute("delete from script")
        return "", 204

    return app


def serve(make_app: Callable[[], Flask]) -> None:
    """Run until a signal. The app is made after gunicorn's fork: threads and sqlite handles must not cross it. Settings
    are read before: a worker that exits is started again for ever, and a missing setting must end the process."""
    from gunicorn.app.base import BaseApplication

    port = setting("FUZHEN_PORT")
    host = setting("FUZHEN_HOST", "127.0.0.1")

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for key, value in {
                "bind": f"{host}:{port}",
                "worker_class": "gthread",
                "workers": 1,
                "threads": 32,
                "graceful_timeout": 2,
                "keepalive": 30,
                "loglevel": "warning",
                "control_socket_disable": True,
            }.items():
                self.cfg.set(key, value)

        def load(self) -> Flask:
            return make_app()

    Server().run()
