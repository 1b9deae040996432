"""What is asked across orders: which belong to a visit, what waits for a person, and where every fen is.

The ledger keeps facts, not sums: for each order what was paid and given back by leg, and three flags. Sums are made of
them when asked, so no event can be counted twice and no order of arrival matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, ReplaceOne
from pymongo.database import Database

from eventkit.clock import rfc3339
from eventkit.envelope import Envelope
from eventkit.events import Recorded
from eventkit.views import apply_once
from services.payment.domain.order import Order
from services.payment.domain.reconciliation import Followed, Key, Report, cure_of, key
from services.payment.domain.refund import Refund
from services.payment.events import (
    CashCollected,
    DayReconciled,
    DifferenceCured,
    DifferenceFound,
    DifferenceResolved,
    DisputeResolved,
    InsuranceSettled,
    Legs,
    Movement,
    OfflineSettlementDisputed,
    OrderOpened,
    OrderSettledOffline,
    PaymentCaptured,
    RefundFailed,
    RefundLegResolved,
    RefundLegRetried,
    RefundLegSucceeded,
    RefundRequested,
)

LEGS = ("fund", "account", "cash")
REPORTS_SHOWN = 31
# What a person does about a difference that no question cures.
ADVICE = {
    "only_ours": ("对方账单没有这笔，请持单号与对方核对。", "Their statement lacks it: ask them about the number."),
    "only_theirs": ("我方没有这笔记录，请核对是否应退回。", "We know nothing of it: find out whether it must go back."),
    "amount_differs": ("双方金额不一致，请逐笔核对后调账。", "The amounts differ: have one of the books corrected."),
    "state_differs": ("双方状态不一致，请核对款项实际去向。", "The ends differ: find out where the money really is."),
}
BUCKETS = ("paid_fen", "refunded_fen", "earned_fen", "held_fen")
Row = dict[str, Any]


# --- one aggregate, as it is shown


def order_view(order_id: str, order: Order) -> Row:
    """Of an order that was opened."""
    opened = order.opened
    assert opened is not None
    shown: Row = {
        "order_id": order_id,
        "visit_id": opened.visit_id,
        "kind": opened.kind,
        "prescription_id": opened.prescription_id,
        "state": order.status,
        "amount_fen": opened.amount_fen,
        "legs": legs_view(order.legs),
        "expires_at": rfc3339(opened.expires_at),
    }
    if order.captured is not None:
        paid = order.captured
        shown |= {"captured_at": rfc3339(paid.captured_at), "captured_fen": paid.amount_fen, "late": paid.late}
    return {name: value for name, value in shown.items() if value is not None}


def refund_view(refund: Refund) -> Row:
    """Of a refund that was requested."""
    requested = refund.requested
    assert requested is not None
    return {
        "refund_id": requested.refund_id,
        "order_id": requested.order_id,
        "visit_id": requested.visit_id,
        "kind": requested.kind,
        "reason": requested.reason,
        "state": refund.status,
        "amount_fen": requested.amount_fen,
        "legs": [
            {"leg": leg.leg, "amount_fen": leg.amount_fen, "state": leg.status, "code": leg.code} for leg in refund.legs
        ],
    }


def report_view(day: str, report: Report) -> Row:
    """Of a day that was compared."""
    reconciled = report.reconciled
    assert reconciled is not None
    return {
        "day": day,
        "stated": [asdict(total) for total in reconciled.stated],
        "agreed": reconciled.agreed,
        "differences": [difference_view(followed) for followed in report.differences.values()],
    }


def difference_view(followed: Followed) -> Row:
    found = followed.found
    shown: Row = {name: value for name, value in asdict(found).items() if name != "day" and value not in (None, "")}
    shown |= {"cure": cure_of(found), "state": followed.state}
    if followed.state == "open":
        shown["next"], shown["next_en"] = ADVICE[found.kind]
    more = {"how": followed.how, "cashier": followed.cashier, "note": followed.note}
    return shown | {name: value for name, value in more.items() if value}


def legs_view(legs: Legs) -> list[Row]:
    return [{"leg": leg.leg, "amount_fen": leg.amount_fen} for leg in legs]


# --- own events into documents


@dataclass(frozen=True, slots=True)
class Change:
    collection: str
    id: str
    update: Mapping[str, Mapping[str, Any]]


def changes(recorded: Recorded) -> list[Change]:
    """What one own event changes. Setting only: a repeat sets the same."""
    event = recorded.event
    facts: Row
    match event:
        case OrderOpened():
            facts = {"visit_id": event.visit_id, "kind": event.kind}
            return [Change(collection, event.order_id, {"$set": facts}) for collection in ("orders", "ledger")]
        case CashCollected():
            return [
                Change("ledger", event.order_id, {"$set": {"paid.cash": event.amount_fen}}),
                _moved(event.order_id, "payment", ["cash"], event.collected_at),
            ]
        case InsuranceSettled():
            return [_moved(event.order_id, "payment", ["fund", "account"], recorded.time)]
        case PaymentCaptured():
            paid: Row = {f"paid.{leg.leg}": leg.amount_fen for leg in event.legs}
            return [Change("ledger", event.order_id, {"$set": {**paid, "late": event.late}})]
        case OrderSettledOffline():
            facts = {"visit_id": event.visit_id, "kind": "prescription", "settled_offline_fen": event.amount_fen}
            return [Change("ledger", event.order_id, {"$set": facts})]
        case OfflineSettlementDisputed():
            facts = {
                "order_id": event.order_id,
                "visit_id": event.visit_id,
                "prescription_id": event.prescription_id,
                "amount_fen": event.amount_fen,
                "settled_at": rfc3339(event.settled_at),
            }
            return [Change("disputes", event.settlement_id, {"$set": facts})]
        case DisputeResolved():
            return [Change("disputes", event.settlement_id, {"$set": {"decision": event.decision}})]
        case RefundRequested():
            facts = {
                "order_id": event.order_id,
                "visit_id": event.visit_id,
                "kind": event.kind,
                "reason": event.reason,
                "amount_fen": event.amount_fen,
            }
            return [
                Change("refunds", event.refund_id, {"$set": facts}),
                Change("ledger", event.order_id, {"$set": {"refunding": True}}),
            ]
        case RefundLegSucceeded():
            return [
                Change("refunds", event.refund_id, {"$unset": {f"failed.{event.leg}": ""}}),
                Change("ledger", event.order_id, {"$set": {f"refunded.{event.leg}": event.amount_fen}}),
                _moved(event.order_id, "refund", [event.leg], recorded.time),
            ]
        case RefundLegResolved():
            return [
                Change("refunds", event.refund_id, {"$unset": {f"failed.{event.leg}": ""}}),
                Change("ledger", event.order_id, {"$set": {f"refunded.{event.leg}": event.amount_fen}}),
            ]
        case RefundFailed():
            failed = {"code": event.code, "since": rfc3339(recorded.time)}
            return [Change("refunds", event.refund_id, {"$set": {f"failed.{event.leg}": failed}})]
        case RefundLegRetried():
            return [Change("refunds", event.refund_id, {"$unset": {f"failed.{event.leg}": ""}})]
        case DayReconciled():
            facts = {"stated": [asdict(total) for total in event.stated], "agreed": event.agreed}
            return [Change("reconciliations", event.day, {"$set": facts})]
        case DifferenceFound():
            return [_difference(event.day, event.difference_id, "open")]
        case DifferenceCured():
            return [_difference(event.day, event.difference_id, "cured")]
        case DifferenceResolved():
            return [_difference(event.day, event.difference_id, "resolved")]
        case _:
            return []


def _moved(order_id: str, what: str, legs: Sequence[str], at: datetime) -> Change:
    facts = {"order_id": order_id, "what": what, "legs": list(legs), "at": at}
    return Change("movements", f"{order_id}:{what}:{legs[0]}", {"$set": facts})


def _difference(day: str, difference_id: str, state: str) -> Change:
    return Change("reconciliations", day, {"$set": {f"differences.{difference_id}": state}})


def summary_of(day: str, row: Mapping[str, Any]) -> Row:
    """{day, stated, agreed, open, cured, resolved} of a document of `reconciliations`."""
    states = list(row.get("differences", {}).values())
    counts = {state: states.count(state) for state in ("open", "cured", "resolved")}
    return {"day": day, "stated": row["stated"], "agreed": row["agreed"], **counts}


# --- sums


def buckets(paid_fen: int, refunded_fen: int, *, earned: bool) -> dict[str, int]:
    """paid = refunded + earned + held, always. What is being refunded is held until it is back."""
    earned_fen = paid_fen if earned else 0
    return {
        "paid_fen": paid_fen,
        "refunded_fen": refunded_fen,
        "earned_fen": earned_fen,
        "held_fen": paid_fen - refunded_fen - earned_fen,
    }


def ledger_of(groups: Iterable[Mapping[str, Any]]) -> Row:
    """Sum groups of {kind, earned, paid: {leg: fen}, refunded: {leg: fen}, settled_offline_fen}."""
    lines: dict[tuple[str, str], dict[str, int]] = {}
    offline = 0
    for group in groups:
        offline += group.get("settled_offline_fen", 0)
        for leg in LEGS:
            paid, refunded = group["paid"].get(leg, 0), group["refunded"].get(leg, 0)
            line = lines.setdefault((group["kind"], leg), dict.fromkeys(BUCKETS, 0))
            for bucket, fen in buckets(paid, refunded, earned=group["earned"]).items():
                line[bucket] += fen

    def total(of: Iterable[dict[str, int]]) -> dict[str, int]:
        found = list(of)
        return {bucket: sum(line[bucket] for line in found) for bucket in BUCKETS}

    moved = sorted((of, line) for of, line in lines.items() if any(line.values()))
    return {
        "totals": total(lines.values()),
        "by_leg": {leg: total(line for (_, of), line in lines.items() if of == leg) for leg in LEGS},
        "lines": [{"kind": kind, "leg": leg, **line} for (kind, leg), line in moved],
        "settled_offline_fen": offline,
    }


class ReadModel:
    def __init__(self, database: Database[Row]) -> None:
        self._database = database

    def ensure_indexes(self) -> None:
        self._database["orders"].create_index([("visit_id", ASCENDING)])
        self._database["ledger"].create_index([("visit_id", ASCENDING)])
        self._database["refunds"].create_index([("visit_id", ASCENDING)])
        self._database["movements"].create_index([("at", ASCENDING)])
        for leg in LEGS:
            self._database["refunds"].create_index([(f"failed.{leg}", ASCENDING)], sparse=True)

    def project(self, recorded: Recorded) -> None:
        for change in changes(recorded):
            collection = self._database[change.collection]
            apply_once(collection, change.id, recorded.stream, recorded.version, change.update)

    def earn(self, order_id: str, kind: str, cause: Envelope) -> None:
        """The visit was finished, or the drugs left the pharmacy."""
        facts = {"visit_id": cause.data["visit_id"], "kind": kind, "earned": True}
        apply_once(self._database["ledger"], order_id, cause.stream, cause.version, {"$set": facts})

    def orders_of(self, visit_id: str) -> list[str]:
        return sorted(row["_id"] for row in self._database["orders"].find({"visit_id": visit_id}, {"_id": 1}))

    def stuck(self) -> Row:
        """{refunds: legs that wait for a person, disputes: what the desk took although it was paid online}."""
        refunds = self._database["refunds"].find({"$or": [{f"failed.{leg}": {"$exists": True}} for leg in LEGS]})
        return {
            "refunds": [
                {
                    "refund_id": row["_id"],
                    **{name: row[name] for name in ("order_id", "visit_id", "kind", "reason", "amount_fen")},
                    "failed": [{"leg": leg, **row["failed"][leg]} for leg in LEGS if leg in row["failed"]],
                }
                for row in refunds
            ],
            "disputes": [
                {"settlement_id": row.pop("_id"), **{k: v for k, v in row.items() if k != "seq"}}
                for row in self._database["disputes"].find({"decision": {"$exists": False}})
            ],
        }

    def moved(self, since: datetime, until: datetime) -> set[tuple[str, str, str]]:
        rows = self._database["movements"].find({"at": {"$gte": since, "$lt": until}})
        return {(row["order_id"], row["what"], leg) for row in rows for leg in row["legs"]}

    def keep_statement(self, day: str, lines: Sequence[Movement]) -> None:
        documents = ({"_id": ":".join(key(line)), "day": day, **asdict(line)} for line in lines)
        writes = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents]
        if writes:
            self._database["statement_lines"].bulk_write(writes, ordered=False)

    def stated(self, keys: Iterable[Key]) -> list[Movement]:
        rows = self._database["statement_lines"].find({"_id": {"$in": [":".join(each) for each in keys]}})
        return [Movement(**{k: v for k, v in row.items() if k not in ("_id", "day")}) for row in rows]

    def reconciliations(self, day: str | None = None) -> list[Row]:
        """Of one day, or the last days that were compared."""
        match = {"stated": {"$exists": True}} | ({"_id": day} if day else {})
        rows = self._database["reconciliations"].find(match).sort("_id", DESCENDING).limit(REPORTS_SHOWN)
        return [summary_of(row["_id"], row) for row in rows]

    def ledger(self, visit_id: str | None = None) -> Row:
        """All orders, or those of one visit. An order is earned when the care was given, its money came in time, and
        nothing of it goes back."""
        match = {"kind": {"$exists": True}} | ({"visit_id": visit_id} if visit_id else {})
        earned = {"$and": [
            {"$eq": ["$earned", True]}, {"$ne": ["$late", True]}, {"$ne": ["$refunding", True]},
        ]}
        sums = {f"{side}_{leg}": {"$sum": f"${side}.{leg}"} for side in ("paid", "refunded") for leg in LEGS}
        group = {"_id": {"kind": "$kind", "earned": earned}, **sums, "offline": {"$sum": "$settled_offline_fen"}}
        return ledger_of(
            {
                "kind": row["_id"]["kind"],
                "earned": row["_id"]["earned"],
                "paid": {leg: row[f"paid_{leg}"] for leg in LEGS},
                "refunded": {leg: row[f"refunded_{leg}"] for leg in LEGS},
                "settled_offline_fen": row["offline"],
            }
            for row in self._database["ledger"].aggregate([{"$match": match}, {"$group": group}])
        )
