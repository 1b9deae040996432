"""What the hospital's own system knows: people, cards, outpatient visits, stock, settlements at the desk.

Every fact that others are told is written together with its message in the outbox; `kafka.py` publishes from there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from eventkit.clock import Clock, rfc3339, shanghai_day
from eventkit.envelope import Envelope, sequence
from partners.front import Refused
from partners.his.identity import born_for_age, id_number, name, phone, read_id_number
from partners.kit import Books, Row

CARD_KINDS = {"beijing_insured": "insurance_card", "other_insured": "insurance_card", "uninsured": "visit_card"}

SCHEMA = """
create table if not exists person (
    his_patient_id text primary key, name text not null, id_number text not null unique, birth_date text not null,
    sex text not null, phone text not null);
create table if not exists card (
    card_id text primary key, card_no text not null, kind text not null, card_kind text not null,
    his_patient_id text not null, used integer not null, unique (kind, card_no));
create table if not exists outpatient_visit (
    record_id text primary key, his_patient_id text not null, department text not null, visited_on text not null,
    diagnosis text);
create table if not exists stock (drug_code text primary key, on_hand integer not null);
create table if not exists settlement (
    settlement_id text primary key, prescription_id text not null unique, visit_id text not null,
    amount_fen integer not null, legs text not null, settled_at text not null);
create table if not exists outbox (
    position integer primary key autoincrement, topic text not null, key text not null, event_id text not null unique,
    body blob not null, published integer not null default 0);
create index if not exists outbox_waiting on outbox (position) where not published;
create table if not exists heard (
    position integer primary key autoincrement, source text not null, event_id text not null, visit_id text not null,
    type text not null, time text not null, sequence text not null default '', ids text not null default '{}',
    unique (source, event_id));
create index if not exists heard_visit on heard (visit_id);
create table if not exists unreadable (
    topic text not null, partition integer not null, offset integer not null, reason text not null,
    primary key (topic, partition, offset));
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """One event about a visit. `sequence` orders a stream's events; `ids` are what else it names, by field."""

    source: str
    event_id: str
    visit_id: str
    type: str
    time: datetime | None
    sequence: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)


class Book:
    def __init__(self, path: Path, clock: Clock) -> None:
        self.books = Books(path, SCHEMA)
        self._now = clock.now
        self._widen_heard()

    def today(self) -> date:
        return shanghai_day(self._now())

    # --- people, as the sandbox makes them

    def add_person(self, wanted: Row) -> Row:
        """`wanted`: {name?, id_number? | birth_date? | age?, sex?, phone?, cards?: [{card_kind, card_no?, used?}],
        visits?: [{department?, visited_on? | days_ago?, diagnosis?}]}. What is left out is made up: an adult with a
        used Beijing insurance card and a visit a month ago. With `document` (a passport, a permit) id_number,
        birth_date and sex are taken as given. -> person with cards and visits. Raises Refused."""
        with self.books.write() as db:
            n = self._count("person")
            number = wanted.get("id_number") or self._free_number(n, wanted)
            try:
                if wanted.get("document", "resident_id") == "resident_id":
                    birth_date, sex = read_id_number(number)
                else:
                    birth_date, sex = _day(wanted.get("birth_date", "")), wanted["sex"]
            except KeyError as error:
                raise Refused(400, "bad_request", "sex is needed") from error
            except ValueError as error:
                raise Refused(400, "bad_id_number", str(error)) from error
            if self.books.row("select 1 from person where id_number = ?", number):
                raise Refused(409, "id_number_known", "somebody with this ID number is on file")
            his_patient_id = f"P{n + 1:08d}"
            db.execute(
                "insert into person values (?,?,?,?,?,?)",
                (
                    his_patient_id,
                    wanted.get("name") or name(n),
                    number,
                    birth_date.isoformat(),
                    sex,
                    wanted.get("phone") or phone(n),
                ),
            )
            for card in wanted.get("cards", [{"card_kind": "beijing_insured"}]):
                self.add_card(his_patient_id, card)
            for visit in wanted.get("visits", [{"days_ago": 30}]):
                self.add_visit(his_patient_id, visit)
            return self.person(his_patient_id)

    def _free_number(self, n: int, wanted: Row) -> str:
        sex = wanted.get("sex") or ("female", "male")[n % 2]
        if sex not in ("female", "male"):
            raise Refused(400, "bad_request", "sex is female or male")
        if "birth_date" in wanted:
            born = _day(wanted["birth_date"])
        elif "age" in wanted:
            born = born_for_age(int(wanted["age"]), self.today())
        else:
            born = date(1958, 3, 1) + timedelta(days=37 * (n % 400))
        for order in range(500):
            number = id_number(born, sex, order)
            if not self.books.row("select 1 from person where id_number = ?", number):
                return number
        raise Refused(409, "day_is_full", "all ID numbers of that birth date and sex are taken")

    def add_card(self, his_patient_id: str, wanted: Row) -> Row:
        """`wanted`: {card_kind, card_no?, used?}. A card used at this hospital (the default) is told to others."""
        card_kind, used = wanted.get("card_kind", ""), bool(wanted.get("used", True))
        if card_kind not in CARD_KINDS:
            raise Refused(400, "bad_request", f"card_kind is one of {', '.join(CARD_KINDS)}")
        kind = CARD_KINDS[card_kind]
        with self.books.write() as db:
            self._known(his_patient_id)
            n = self._count("card") + 1
            card_id = f"C{n:08d}"
            card_no = wanted.get("card_no") or f"{'10' if kind == 'insurance_card' else '80'}{n:08d}"
            if self.books.row("select 1 from card where kind = ? and card_no = ?", kind, card_no):
                raise Refused(409, "card_known", "this card is on file")
            db.execute(
                "insert into card values (?,?,?,?,?,?)", (card_id, card_no, kind, card_kind, his_patient_id, int(used))
            )
            if used:
                facts = {"card_id": card_id, "card_kind": card_kind, "his_patient_id": his_patient_id}
                facts["used_at"] = rfc3339(self._now())
                self._tell("his.card.v1", "CardUsed", f"his-card-{card_id}", card_id, facts, key=card_id)
            return self.books.row("select * from card where card_id = ?", card_id) or {}

    def add_visit(self, his_patient_id: str, wanted: Row) -> Row:
        visited_on = (
            _day(wanted["visited_on"])
            if "visited_on" in wanted
            else self.today() - timedelta(days=int(wanted.get("days_ago", 0)))
        )
        department = wanted.get("department") or "脾胃病科"
        with self.books.write() as db:
            self._known(his_patient_id)
            record_id = f"R{self._count('outpatient_visit') + 1:08d}"
            db.execute(
                "insert into outpatient_visit values (?,?,?,?,?)",
                (record_id, his_patient_id, department, visited_on.isoformat(), wanted.get("diagnosis")),
            )
            facts = {"record_id": record_id, "his_patient_id": his_patient_id, "department": department}
            facts["visited_on"] = visited_on.isoformat()
            stream = f"his-visit-{record_id}"
            self._tell(
                "his.outpatient-visit.v1", "OutpatientVisitRecorded", stream, record_id, facts, key=his_patient_id
            )
            return self.books.row("select * from outpatient_visit where record_id = ?", record_id) or {}

    def set_stock(self, drug_code: str, on_hand: int) -> None:
        with self.books.write() as db:
            db.execute("insert or replace into stock values (?,?)", (drug_code, on_hand))

    # --- what the hospital is asked

    def person(self, his_patient_id: str) -> Row:
        self._known(his_patient_id)
        person = self.books.row("select * from person where his_patient_id = ?", his_patient_id) or {}
        cards = self.books.rows("select * from card where his_patient_id = ? order by card_id", his_patient_id)
        return {**person, "cards": cards, "visits": self.visits(his_patient_id, date.min)}

    def people(self) -> list[Row]:
        return [
            self.person(row["his_patient_id"])
            for row in self.books.rows("select his_patient_id from person order by his_patient_id")
        ]

    def match(self, name: str, id_number: str) -> Row:
        """Real-name matching (§7): name and ID number together; people change phones, so a phone decides nothing."""
        found = self.books.row(
            "select his_patient_id, birth_date, sex from person where name = ? and id_number = ?",
            name,
            id_number.upper(),
        )
        if found is None:
            raise Refused(404, "no_match", "nobody on file has this name with this ID number")
        return found

    def check_card(self, card_no: str, kind: str, his_patient_id: str) -> Row:
        """§8: known as used at this hospital, by this very person. Of other people's cards nothing more is told."""
        card = self.books.row("select * from card where kind = ? and card_no = ? and used", kind, card_no)
        if card is None:
            return {"known": False, "belongs": False}
        if card["his_patient_id"] != his_patient_id:
            return {"known": True, "belongs": False}
        return {"known": True, "belongs": True, "card_id": card["card_id"], "card_kind": card["card_kind"]}

    def visits(self, his_patient_id: str, since: date) -> list[Row]:
        """Offline outpatient visits on or after `since`, the newest first (§2)."""
        self._known(his_patient_id)
        return self.books.rows(
            "select record_id, department, visited_on, diagnosis from outpatient_visit"
            " where his_patient_id = ? and visited_on >= ? order by visited_on desc, record_id desc",
            his_patient_id,
            since.isoformat(),
        )

    def stock(self, drug_codes: list[str]) -> list[Row]:
        """All drugs when none is named; a drug the hospital does not keep is left out."""
        rows = self.books.rows("select drug_code, on_hand from stock order by drug_code")
        return [row for row in rows if not drug_codes or row["drug_code"] in drug_codes]

    # --- the cashier's desk

    def settlement_of(self, prescription_id: str) -> Row | None:
        found = self.books.row("select * from settlement where prescription_id = ?", prescription_id)
        return {**found, "legs": json.loads(found["legs"])} if found else None

    def settle(self, settlement_id: str, prescription_id: str, visit_id: str, amount_fen: int, legs: list[Row]) -> Row:
        """A prescription is settled once; the same again is answered with the first, anything else is refused."""
        with self.books.write() as db:
            if before := self.settlement_of(prescription_id):
                if (before["visit_id"], before["amount_fen"], before["legs"]) != (visit_id, amount_fen, legs):
                    raise Refused(409, "settled_already", "this prescription was settled with other figures")
                return before
            settled_at = rfc3339(self._now())
            db.execute(
                "insert into settlement values (?,?,?,?,?,?)",
                (settlement_id, prescription_id, visit_id, amount_fen, json.dumps(legs), settled_at),
            )
            facts: Row = {"settlement_id": settlement_id, "prescription_id": prescription_id, "visit_id": visit_id}
            facts |= {"amount_fen": amount_fen, "legs": legs, "settled_at": settled_at}
            stream = f"his-settlement-{settlement_id}"
            self._tell("his.settlement.v1", "PrescriptionSettled", stream, settlement_id, facts, key=visit_id)
            return facts

    # --- messages out and in

    def _tell(self, topic: str, event: str, stream: str, subject: str, data: dict[str, Any], key: str) -> None:
        """Each of these streams has one event; ids only, no names (§31)."""
        envelope = Envelope(
            id=f"{stream}/1",
            source="/partners/his",
            type=f"org.fuzhen.his.{event}.v1",
            subject=subject,
            time=rfc3339(self._now()),
            partitionkey=key,
            sequence=sequence(1),
            data=data,
        )
        with self.books.write() as db:
            db.execute(
                "insert into outbox (topic, key, event_id, body) values (?,?,?,?)",
                (topic, key, envelope.id, envelope.to_bytes()),
            )

    def unpublished(self, limit: int) -> list[Row]:
        return self.books.rows("select * from outbox where not published order by position limit ?", limit)

    def published(self, rows: list[Row]) -> None:
        with self.books.write() as db:
            db.executemany("update outbox set published = 1 where position = ?", [(row["position"],) for row in rows])

    def hear(self, heard: Heard) -> None:
        """The same event twice is heard once."""
        time = rfc3339(heard.time) if heard.time else ""
        ids = json.dumps(dict(heard.ids), sort_keys=True)
        with self.books.write() as db:
            db.execute(
                "insert or ignore into heard (source, event_id, visit_id, type, time, sequence, ids)"
                " values (?,?,?,?,?,?,?)",
                (heard.source, heard.event_id, heard.visit_id, heard.type, time, heard.sequence, ids),
            )

    def could_not_read(self, topic: str, partition: int, offset: int, reason: str) -> None:
        with self.books.write() as db:
            db.execute("insert or ignore into unreadable values (?,?,?,?)", (topic, partition, offset, reason))

    def heard_of(self, visit_id: str) -> list[Row]:
        """A visit's history by the tellers' clocks; of one instant, each stream in its own order. Topics have no order
        between them, so a replay may bring events in another order and must not tell another story."""
        rows = self.books.rows(
            "select type, source, event_id as id, time, ids from heard where visit_id = ?"
            " order by time, sequence, source, event_id",
            visit_id,
        )
        return [{**row, "ids": json.loads(row["ids"])} for row in rows]

    def totals(self) -> Row:
        names = ("person", "card", "outpatient_visit", "settlement", "heard", "unreadable")
        settlements = self.books.rows("select * from settlement order by rowid")
        return {
            "counts": {table: self._count(table) for table in names},
            "settled_fen": sum(row["amount_fen"] for row in settlements),
            "settlements": [{**row, "legs": json.loads(row["legs"])} for row in settlements],
            "outbox": self.books.row("select count(*) as told, coalesce(sum(not published), 0) as waiting from outbox"),
        }

    def _widen_heard(self) -> None:
        """Books begun before ids were kept get the columns; what they heard then stays without."""
        has = {row["name"] for row in self.books.rows("pragma table_info(heard)")}
        for column, default in (("sequence", ""), ("ids", "{}")):
            if column not in has:
                with self.books.write() as db:
                    db.execute(f"alter table heard add column {column} text not null default '{default}'")

    def _known(self, his_patient_id: str) -> None:
        if not self.books.row("select 1 from person where his_patient_id = ?", his_patient_id):
            raise Refused(404, "no_such_patient")

    def _count(self, table: str) -> int:
        row = self.books.row(f"select count(*) as n from {table}")
        return int(row["n"]) if row else 0


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise Refused(400, "bad_request", "a day is YYYY-MM-DD") from error
