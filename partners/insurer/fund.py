"""What the insurer decides: how one fee is split, what is really claimed, what is taken back. On its own books, in fen.

No public specification of the Beijing interface is complete; this is a plausible one of the same three steps:
pre-settlement (分解, moves nothing), settlement (结算, claims the fund leg), reversal (冲正, gives all back once).
"""

from datetime import date, datetime, time, timedelta

from eventkit.clock import SHANGHAI, Clock, rfc3339, shanghai_day
from eventkit.ids import derived_id
from partners.front import Refused
from partners.kit import Books, Row

SCHEMA = """
create table if not exists card (card_id text primary key, state text not null, account_fen integer not null);
create table if not exists decomposition (
    trade_no text primary key, decomposition_id text not null unique, request text not null, card_id text not null,
    amount_fen integer not null, fund_fen integer not null, account_fen integer not null, self_fen integer not null,
    rule text not null, decomposed_at text not null);
create table if not exists settlement (
    trade_no text primary key, settlement_id text not null unique, settled_at text not null);
create table if not exists reversal (
    reversal_no text primary key, settlement_id text not null unique, reversed_at text not null);
"""

ITEM = "medical_service_fee"
CARD_STATES = ("valid", "invalid", "not_designated")

# §12: from this day the fund pays a fixed part of the medical service fee by the doctor's title (医药分开综合改革);
# of an ordinary 50.00 it is 40.00. A title that is not listed is paid as an ordinary one. Newest rule first.
RULES: tuple[tuple[date, str, dict[str, int]], ...] = (
    (date(2017, 4, 8), "ordinary", {"ordinary": 4000, "associate_chief": 4000, "chief": 4000, "renowned": 4000}),
)

_SETTLED = """
select settlement.*, decomposition_id, card_id, amount_fen, fund_fen, account_fen, self_fen, reversal_no, reversed_at
from settlement join decomposition using (trade_no) left join reversal using (settlement_id)
"""


class Fund:
    def __init__(self, books: Books, clock: Clock) -> None:
        self._books, self._clock = books, clock

    def decompose(self, trade_no: str, content: str, fee: Row) -> Row:
        """-> {decomposition_id, trade_no, amount_fen, fund_fen, account_fen, self_fen, rule, decomposed_at}, the same
        for the same trade_no. Refuses card_invalid, not_designated, not_covered, trade_no_reused."""
        with self._books.write() as db:
            known = self._books.row("select * from decomposition where trade_no = ?", trade_no)
            if known is not None:
                if known["request"] != content:
                    raise Refused(409, "trade_no_reused", "this trade_no was decomposed with other values")
                return _decomposition(known)
            card = self._card(fee["card_id"])
            if card["state"] != "valid":
                code = "not_designated" if card["state"] == "not_designated" else "card_invalid"
                raise Refused(422, code, "the card cannot be used at this hospital")
            if fee["card_kind"] != "beijing_insured" or fee["item"] != ITEM:
                raise Refused(422, "not_covered", "online only the medical service fee of Beijing-insured is covered")
            rule, fund = self._fund_part(fee["title"], fee["amount_fen"])
            account = min(card["account_fen"], fee["amount_fen"] - fund)
            row = (
                trade_no,
                derived_id("decomposition", trade_no),
                content,
                fee["card_id"],
                fee["amount_fen"],
                fund,
                account,
                fee["amount_fen"] - fund - account,
                rule,
                rfc3339(self._clock.now()),
            )
            db.execute("insert into decomposition values (?,?,?,?,?,?,?,?,?,?)", row)
            return _decomposition(self._books.row("select * from decomposition where trade_no = ?", trade_no) or {})

    def settle(self, decomposition_id: str) -> Row:
        """The fund leg is really claimed and the personal account charged, once a decomposition. Refuses not_found,
        already_reversed, account_short."""
        with self._books.write() as db:
            split = self._books.row("select * from decomposition where decomposition_id = ?", decomposition_id)
            if split is None:
                raise Refused(404, "not_found", "no such decomposition")
            known = self._settled("trade_no", split["trade_no"])
            if known is not None:
                if known["reversal_no"]:
                    raise Refused(409, "already_reversed", "this settlement was reversed")
                return _settlement(known)
            if self._card(split["card_id"])["account_fen"] < split["account_fen"]:
                raise Refused(422, "account_short", "the personal account no longer covers its leg")
            self._charge(split["card_id"], split["account_fen"])
            settlement_id = derived_id("settlement", split["trade_no"])
            db.execute(
                "insert into settlement values (?,?,?)", (split["trade_no"], settlement_id, rfc3339(self._clock.now()))
            )
            return self.settlement(split["trade_no"])

    def settlement(self, trade_no: str) -> Row:
        found = self._settled("trade_no", trade_no)
        if found is None:
            raise Refused(404, "not_found", "nothing was settled for this trade_no")
        return _settlement(found)

    def reverse(self, reversal_no: str, settlement_id: str) -> Row:
        """冲正: both insurance legs go back where they came from, once a settlement. Refuses not_found,
        already_reversed (by another number), reversal_no_reused."""
        with self._books.write() as db:
            known = self._books.row("select * from reversal where reversal_no = ?", reversal_no)
            if known is not None and known["settlement_id"] != settlement_id:
                raise Refused(409, "reversal_no_reused", "this reversal_no was used for another settlement")
            if known is None:
                settled = self._settled("settlement_id", settlement_id)
                if settled is None:
                    raise Refused(404, "not_found", "no such settlement")
                if settled["reversal_no"]:
                    raise Refused(409, "already_reversed", f"reversed by {settled['reversal_no']}")
                self._charge(settled["card_id"], -settled["account_fen"])
                db.execute(
                    "insert into reversal values (?,?,?)", (reversal_no, settlement_id, rfc3339(self._clock.now()))
                )
            return self.reversal(reversal_no)

    def reversal(self, reversal_no: str) -> Row:
        found = self._settled("reversal_no", reversal_no)
        if found is None:
            raise Refused(404, "not_found", "no such reversal")
        keys = ("reversal_no", "settlement_id", "trade_no", "fund_fen", "account_fen", "reversed_at")
        return {key: found[key] for key in keys}

    def statement(self, day: date) -> Row:
        """-> {day, settlements, reversals, totals}: what was claimed and given back on this Shanghai day. Refuses
        statement_not_ready before six in the next morning."""
        if self._clock.now() < datetime.combine(day + timedelta(days=1), time(6), SHANGHAI):
            raise Refused(409, "statement_not_ready", "a day's statement is made at six in the next morning")
        rows = self._books.rows(f"{_SETTLED} order by settled_at")
        settled = [row for row in rows if _day(row["settled_at"]) == day]
        given_back = [row for row in rows if row["reversed_at"] and _day(row["reversed_at"]) == day]
        totals = {
            f"{what}_{leg}": sum(row[leg] for row in of)
            for what, of in (("claimed", settled), ("reversed", given_back))
            for leg in ("fund_fen", "account_fen")
        }
        return {
            "day": str(day),
            "settlements": [_settlement(row) for row in settled],
            "reversals": [self.reversal(row["reversal_no"]) for row in given_back],
            "totals": totals,
        }

    def set_card(self, card_id: str, state: str, account_fen: int) -> None:
        """The sandbox's hand; a card never set is valid with an empty personal account."""
        if state not in CARD_STATES or account_fen < 0:
            raise Refused(400, "bad_request", f"state is one of {', '.join(CARD_STATES)}; account_fen is not negative")
        with self._books.write() as db:
            db.execute("insert or replace into card values (?,?,?)", (card_id, state, account_fen))

    def books(self) -> Row:
        """{decompositions, settlements, reversals, totals: {claimed_*, reversed_*, fund_fen, account_fen}}: the last
        two are what the insurer owes the hospital now."""
        splits = self._books.rows("select * from decomposition order by decomposed_at")
        settled = self._books.rows(f"{_SETTLED} order by settled_at")
        given_back = [row for row in settled if row["reversal_no"]]
        totals = {}
        for leg in ("fund_fen", "account_fen"):
            totals[f"claimed_{leg}"] = sum(row[leg] for row in settled)
            totals[f"reversed_{leg}"] = sum(row[leg] for row in given_back)
            totals[leg] = totals[f"claimed_{leg}"] - totals[f"reversed_{leg}"]
        return {
            "decompositions": [_decomposition(row) for row in splits],
            "settlements": [_settlement(row) for row in settled],
            "reversals": [self.reversal(row["reversal_no"]) for row in given_back],
            "totals": totals,
        }

    def _card(self, card_id: str) -> Row:
        known = self._books.row("select * from card where card_id = ?", card_id)
        return known or {"card_id": card_id, "state": "valid", "account_fen": 0}

    def _charge(self, card_id: str, fen: int) -> None:
        if fen:
            with self._books.write() as db:
                db.execute("update card set account_fen = account_fen - ? where card_id = ?", (fen, card_id))

    def _fund_part(self, title: str, amount_fen: int) -> tuple[str, int]:
        today = shanghai_day(self._clock.now())
        for valid_from, ordinary, parts in RULES:
            if valid_from <= today:
                return f"{valid_from}/{title}", min(parts.get(title, parts[ordinary]), amount_fen)
        raise Refused(422, "not_covered", "no rule is in force on this day")

    def _settled(self, column: str, value: str) -> Row | None:
        return self._books.row(f"{_SETTLED} where {column} = ?", value)


def _day(at: str) -> date:
    return shanghai_day(datetime.fromisoformat(at))


def _decomposition(row: Row) -> Row:
    keys = ("decomposition_id", "trade_no", "amount_fen", "fund_fen", "account_fen", "self_fen", "rule")
    return {key: row[key] for key in (*keys, "decomposed_at")}


def _settlement(row: Row) -> Row:
    keys = ("settlement_id", "decomposition_id", "trade_no", "amount_fen", "fund_fen", "account_fen", "self_fen")
    state = "reversed" if row["reversal_no"] else "settled"
    return {key: row[key] for key in keys} | {"state": state, "settled_at": row["settled_at"]}
