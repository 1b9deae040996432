"""What is asked across orders: which belong to a visit, what waits for a person, and where every fen is.

The ledger keeps facts, not sums: for each order what was paid and given back by leg, and three flags. Sums are made of
them when asked, so no event can be counted twice and no order of arrival matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING
from pymongo.database import Database

from eventkit.clock import rfc3339
from eventkit.envelope import Envelope
from eventkit.events import Recorded
from eventkit.views import apply_once
from services.payment.domain.order import Order
from services.payment.domain.refund import Refund
from services.payment.events import (
    CashCollected,
    Legs,
    OfflineSettlementDisputed,
    OrderOpened,
    OrderSettledOffline,
    PaymentCaptured,
    RefundFailed,
    RefundLegRetried,
    RefundLegSucceeded,
    RefundRequested,
)

LEGS = ("fund", "account", "cash")
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
            return [Change("ledger", event.order_id, {"$set": {"paid.cash": event.amount_fen}})]
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
            ]
        case RefundFailed():
            failed = {"code": event.code, "since": rfc3339(recorded.time)}
            return [Change("refunds", event.refund_id, {"$set": {f"failed.{event.leg}": failed}})]
        case RefundLegRetried():
            return [Change("refunds", event.refund_id, {"$unset": {f"failed.{event.leg}": ""}})]
        case _:
            return []


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
                for row in self._database["disputes"].find()
            ],
        }

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
