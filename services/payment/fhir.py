"""Orders and their money as the hospital's own system reads them: FHIR R4, read only, for the role his (docs/adr/0009).

Amounts are CNY with two decimals, made from fen without floats. FHIR R4 ties neither resource to an Encounter, so an
extension does. Refusals stay problems (RFC 9457), like everywhere in this API.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from flask import Response
from flask.views import MethodView

from eventkit.audit import Audit
from eventkit.clock import rfc3339, shanghai_day
from eventkit.fhir import CONTENT_TYPE, IDS, EncounterQuery, Resource, reference, searchset, searchset_example, written
from eventkit.problems import Catalogue
from eventkit.web import Routes
from services.payment.domain.order import Order
from services.payment.domain.refund import BACK, Refund
from services.payment.events import Legs
from services.payment.handlers import Handlers, fee_order_id, refund_id_of
from services.payment.problems import PROBLEMS
from services.payment.read_model import ReadModel

OF_ENCOUNTER = "https://fuzhen.example/fhir/StructureDefinition/encounter"
PAYMENT_TYPES = "http://terminology.hl7.org/CodeSystem/payment-type"
INVOICE_STATUS = {
    "opening": "draft", "awaiting_payment": "issued", "confirming": "issued", "paid": "balanced",
    "settled_offline": "balanced", "expired": "cancelled",
}  # fmt: skip


def money(fen: int) -> Resource:
    return {"value": Decimal(fen).scaleb(-2), "currency": "CNY"}


def invoice(order_id: str, order: Order) -> Resource:
    """Invoice, R4, of an order that was opened; its legs (fund, account, cash) are informational components (§13)."""
    opened = order.opened
    assert opened is not None  # the caller leaves out what was never opened
    return {
        "resourceType": "Invoice",
        "id": order_id,
        "extension": [_of(opened.visit_id)],
        "identifier": [{"system": f"{IDS}order", "value": order_id}],
        "status": INVOICE_STATUS[order.status],
        "subject": reference("Patient", "patient", opened.patient_id),
        "lineItem": [{
            "chargeItemCodeableConcept": {"coding": [{"system": f"{IDS}order-kind", "code": opened.kind}]},
            "priceComponent": [
                {"type": "base", "amount": money(opened.amount_fen)},
                *(
                    {
                        "type": "informational",
                        "code": {"coding": [{"system": f"{IDS}leg", "code": leg.leg}]},
                        "amount": money(leg.amount_fen),
                    }
                    for leg in order.legs
                ),
            ],
        }],
        "totalNet": money(opened.amount_fen),
        "totalGross": money(opened.amount_fen),
    }


def payment_reconciliations(order_id: str, order: Order, refund: Refund) -> list[Resource]:
    """PaymentReconciliation, R4: what was paid online, leg by leg, with what of it went back (§16) as negative
    adjustments; and what the desk took (§22). None of an order that nobody paid."""
    found: list[Resource] = []
    if (paid := order.captured) is not None:
        back = [(leg.leg, -leg.amount_fen) for leg in refund.legs if leg.status in BACK]
        found.append(_reconciliation(order_id, paid.visit_id, paid.captured_at, paid.legs, order_id, back))
    if (settled := order.settled_offline) is not None:
        found.append(_reconciliation(
            settled.settlement_id, settled.visit_id, settled.settled_at, settled.legs, order_id
        ))
    return found


def _reconciliation(
    id_: str, visit_id: str, at: datetime, legs: Legs, order_id: str, back: Iterable[tuple[str, int]] = ()
) -> Resource:
    moved = [("payment", leg.leg, leg.amount_fen) for leg in legs]
    moved += [("adjustment", leg, fen) for leg, fen in back]
    return {
        "resourceType": "PaymentReconciliation",
        "id": id_,
        "extension": [_of(visit_id)],
        "status": "active",
        "created": rfc3339(at),
        "paymentDate": shanghai_day(at).isoformat(),
        "paymentAmount": money(sum(fen for _, _, fen in moved)),
        "detail": [
            {
                "identifier": {"system": f"{IDS}leg", "value": leg},
                "type": {"coding": [{"system": PAYMENT_TYPES, "code": kind}]},
                "request": reference("Invoice", "order", order_id),
                "amount": money(fen),
            }
            for kind, leg, fen in moved
        ],
    }


def _of(visit_id: str) -> Resource:
    return {"url": OF_ENCOUNTER, "valueReference": reference("Encounter", "visit", visit_id)}


_YUAN_50 = {"value": 50.00, "currency": "CNY"}
INVOICES_EXAMPLE = searchset_example("payment", {
    "resourceType": "Invoice", "id": "fee-6f1c", "status": "balanced", "extension": [_of("6f1c")],
    "identifier": [{"system": f"{IDS}order", "value": "fee-6f1c"}],
    "subject": reference("Patient", "patient", "p1a2b3c4d5"),
    "lineItem": [{
        "chargeItemCodeableConcept": {"coding": [{"system": f"{IDS}order-kind", "code": "visit_fee"}]},
        "priceComponent": [{"type": "base", "amount": _YUAN_50}],
    }],
    "totalNet": _YUAN_50, "totalGross": _YUAN_50,
})
RECONCILIATIONS_EXAMPLE = searchset_example("payment", {
    "resourceType": "PaymentReconciliation", "id": "fee-6f1c", "status": "active", "extension": [_of("6f1c")],
    "created": "2026-11-24T01:10:00.000Z", "paymentDate": "2026-11-24", "paymentAmount": _YUAN_50,
    "detail": [{
        "identifier": {"system": f"{IDS}leg", "value": "cash"},
        "type": {"coding": [{"system": PAYMENT_TYPES, "code": "payment"}]},
        "request": reference("Invoice", "order", "fee-6f1c"),
        "amount": _YUAN_50,
    }],
})


def make_routes(handlers: Handlers, read_model: ReadModel, audit: Audit) -> Routes:
    routes = Routes("payment/fhir", Catalogue(PROBLEMS), "Orders as FHIR R4, for the hospital's own system.")

    def orders(query: dict[str, str]) -> dict[str, Order]:
        """Of a visit, each with a line about who looked (§31)."""
        visit_id = query["encounter"].removeprefix("Encounter/")
        ids = sorted({fee_order_id(visit_id), *read_model.orders_of(visit_id)})
        found: dict[str, Order] = {}
        for order_id in ids:
            order = handlers.order(order_id)
            if order.opened is not None:
                audit.read("order", order_id, order.opened)
                found[order_id] = order
        return found

    @routes.route("/Invoice")
    class Invoices(MethodView):
        @routes.access("his")
        @routes.arguments(EncounterQuery, location="query")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=INVOICES_EXAMPLE)
        @routes.refuses("invalid_input", "unavailable")
        def get(self, query: dict[str, str]) -> Response:
            """What is to be paid for a visit, and what was, as FHIR R4 Invoices"""
            return written(searchset(invoice(order_id, order) for order_id, order in orders(query).items()))

    @routes.route("/PaymentReconciliation")
    class PaymentReconciliations(MethodView):
        @routes.access("his")
        @routes.arguments(EncounterQuery, location="query")
        @routes.response(200, {"type": "object"}, content_type=CONTENT_TYPE, example=RECONCILIATIONS_EXAMPLE)
        @routes.refuses("invalid_input", "unavailable")
        def get(self, query: dict[str, str]) -> Response:
            """What was paid for a visit and what went back, as FHIR R4 PaymentReconciliations"""
            return written(searchset(
                each
                for order_id, order in orders(query).items()
                for each in payment_reconciliations(order_id, order, handlers.refund(refund_id_of(order_id)))
            ))

    return routes

