"""The API as a client meets it: who may see what, which problems come back, and what is never kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from eventkit.audit import Audit, MemoryTrail
from eventkit.auth import Caller
from eventkit.web import create_app
from services.payment.http import Parts, routes_for
from services.payment.ports import ProviderRefused, RefundChanged, Trade, TradePaid
from services.payment.problems import PROBLEMS
from tests.unit.payment.world import CARD, World


class AnyToken:
    """The token says who it is: `<role>:<subject>`."""

    def verify(self, token: str) -> Caller:
        role, _, subject = token.partition(":")
        return Caller(subject, frozenset({role}), "j")


class Shop:
    def __init__(self) -> None:
        self.world = World()
        self.notice: Any = None
        self.world.provider.notice = self._notice  # type: ignore[method-assign, assignment]
        self.trail = MemoryTrail()
        audit = Audit(self.trail, self.world.clock)
        parts = Parts(self.world.handlers, self.world.checkout, self.world.provider, self.world.views, audit)  # type: ignore[arg-type]
        app = create_app("payment", [routes_for(parts)], AnyToken(), lambda: (True, {}), str)  # type: ignore[arg-type]
        self.client: FlaskClient = app.test_client()

    def _notice(self, headers: Mapping[str, str], body: bytes) -> Any:
        if body != b"signed":
            raise ProviderRefused("not_authentic")
        return self.notice

    def get(self, path: str, who: str = "patient:acc1") -> Any:
        return self.client.get(f"/api/payment{path}", headers={"Authorization": f"Bearer {who}"})

    def post(self, path: str, body: Any, who: str = "patient:acc1", key: str = "k1") -> Any:
        headers = {"Authorization": f"Bearer {who}", "Idempotency-Key": key}
        return self.client.post(f"/api/payment{path}", json=body, headers=headers)

    def tell(self, notice: Any, body: bytes = b"signed") -> Any:
        self.notice = notice
        answer = self.client.post("/api/payment/notices/wechatpay", data=body)
        self.world.settle_down()
        return answer


@pytest.fixture
def shop() -> Shop:
    return Shop()


def paid(shop: Shop, order_id: str) -> TradePaid:
    trade = shop.world.provider.trades[order_id]
    return TradePaid(order_id, Trade("paid", trade["amount"], trade["transaction"], trade["paid_at"]))


def test_a_patient_pays_over_http(shop: Shop) -> None:
    fee = shop.world.visit()
    assert shop.get("/visits/v1/orders").json["orders"][0]["state"] == "opening"
    assert shop.post(f"/orders/{fee}/prepay", {"channel": "jsapi"}).json["code"] == "not_ready"
    shop.world.run_until_quiet()
    answer = shop.post(f"/orders/{fee}/prepay", {"channel": "jsapi"})
    assert (answer.status_code, answer.json["state"]) == (200, "awaiting_payment")
    assert answer.json["prepay_id"] == f"wx-{fee}"
    assert answer.json["phone"]["package"] == f"prepay_id=wx-{fee}"
    shop.world.provider.pay(fee)
    for _ in range(2):
        assert shop.tell(paid(shop, fee)).json == {"code": "SUCCESS"}
    shop.world.run_until_quiet()
    order = shop.get(f"/orders/{fee}").json
    assert (order["state"], order["late"], order["captured_fen"]) == ("paid", False, 5000)
    assert order["legs"] == [{"leg": "fund", "amount_fen": 4000}, {"leg": "cash", "amount_fen": 1000}]
    assert shop.get("/visits/v1/refunds").json == {"refunds": []}
    shop.world.withdraw()
    shop.world.run_until_quiet()
    [refund] = shop.get("/visits/v1/refunds").json["refunds"]
    assert (refund["state"], refund["reason"], refund["amount_fen"]) == ("succeeded", "missed", 5000)


@pytest.mark.parametrize("path", ["/visits/v1/orders", "/visits/v1/refunds", "/orders/fee-v1", "/visits/v9/orders"])
def test_foreign_looks_like_absent(shop: Shop, path: str) -> None:
    """§31"""
    shop.world.visit()
    answer = shop.get(path, "patient:acc2")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_staff_see_every_order(shop: Shop) -> None:
    fee = shop.world.visit()
    assert shop.get(f"/orders/{fee}", "cashier:c1").json["order_id"] == fee


@pytest.mark.parametrize("path", ["/ledger", "/stuck-refunds", "/reconciliations"])
def test_the_books_are_the_cashiers(shop: Shop, path: str) -> None:
    assert shop.get(path).json["code"] == "forbidden"
    assert shop.get(path, "cashier:c1").status_code == 200


def test_a_notice_that_proves_nothing_is_refused(shop: Shop) -> None:
    fee = shop.world.visit()
    shop.world.pay(fee)
    assert shop.tell(None, b"forged").status_code == 401
    unknown = TradePaid("fee-unknown", Trade("paid", 1, "t", shop.world.clock.now()))
    assert (shop.tell(unknown).status_code, shop.tell(unknown).json["code"]) == (404, "not_found")
    other = TradePaid(fee, Trade("paid", 1000, "t-other", shop.world.clock.now()))
    assert shop.tell(other).json["code"] == "capture_mismatch"
    assert shop.tell(RefundChanged(f"rf-{fee}", "succeeded", 1000)).json["code"] == "not_found"
    assert shop.tell(None).status_code == 200  # a kind of notice that is none of our business


def test_a_failed_refund_is_retried_by_the_cashier_and_the_card_is_kept_nowhere(shop: Shop) -> None:
    fee = shop.world.visit()
    shop.world.pay(fee)
    shop.world.provider.fate = "abnormal"
    shop.world.withdraw()
    shop.world.run_until_quiet()
    path, card = f"/refunds/rf-{fee}/retry", {name: getattr(CARD, name) for name in CARD.__slots__}
    assert shop.post(path, {}).json["code"] == "forbidden"
    assert shop.post(path, {}, "cashier:c1").json["code"] == "bank_card_needed"
    assert shop.post(path, {"bank_card": {**card, "bank_account": "x"}}, "cashier:c1").json["code"] == "invalid_input"
    first = shop.post(path, {"bank_card": card}, "cashier:c1", "k2")
    again = shop.post(path, {"bank_card": {**card, "bank_account": "6222999999999999"}}, "cashier:c1", "k2")
    assert (first.status_code, again.json) == (200, first.json)
    # A failed notice changes nothing: it may be the one of before the retry.
    assert shop.tell(RefundChanged(f"rf-{fee}", "abnormal", 1000)).status_code == 200
    assert shop.get("/visits/v1/refunds").json["refunds"][0]["state"] == "requested"
    assert shop.tell(RefundChanged(f"rf-{fee}", "succeeded", 1000)).status_code == 200
    assert shop.get("/visits/v1/refunds").json["refunds"][0]["state"] == "succeeded"


def test_a_hopeless_refund_is_ended_by_the_cashier(shop: Shop) -> None:
    """§16: the leg that failed, alone; it counts as given back, once, and who did it is on record."""
    fee = shop.world.visit()
    shop.world.pay(fee)
    shop.world.provider.fate = "abnormal"
    shop.world.withdraw()
    shop.world.run_until_quiet()
    path, body = f"/refunds/rf-{fee}/resolve", {"leg": "cash", "reason": "paid_by_hand", "note": "receipt 7"}
    assert shop.post(path, body).json["code"] == "forbidden"
    assert shop.post(path, {**body, "note": ""}, "cashier:c1").json["code"] == "invalid_input"
    assert shop.post(path, {**body, "leg": "fund"}, "cashier:c1").json["code"] == "nothing_to_retry"
    answer = shop.post(path, body, "cashier:c1", "k2")
    assert (answer.json["state"], answer.json["legs"][1]["state"]) == ("succeeded", "resolved")
    assert shop.post(path, body, "cashier:c1", "k2").json == answer.json
    assert shop.post(path, body, "cashier:c1", "k3").json["code"] == "nothing_to_retry"
    shop.world.settle_down()
    assert (shop.world.totals(), shop.world.views.stuck()) == ((5000, 5000, 0, 0), [])
    logged = [event for commit in shop.world.backend.commits for event in commit.events]
    [audited] = [event.data for event in logged if ".RefundLegResolved." in event.type]
    assert (audited["cashier"], audited["reason"], audited["note"]) == ("c1", "paid_by_hand", "receipt 7")


def test_a_dispute_is_decided_by_the_cashier(shop: Shop) -> None:
    """§23: paid online and at the desk; ours goes back."""
    rx = shop.world.prescription()
    shop.world.pay(rx)
    shop.world.desk_settles()
    path, body = f"/orders/{rx}/disputes/h1/resolve", {"decision": "online_goes_back", "note": "took the drugs there"}
    assert shop.post(path, body).json["code"] == "forbidden"
    assert shop.post(path.replace("h1", "h2"), body, "cashier:c1").json["code"] == "not_found"
    answer = shop.post(path, body, "cashier:c1", "k2")
    assert answer.json == {"order_id": rx, "settlement_id": "h1", "decision": "online_goes_back"}
    assert shop.post(path, body, "cashier:c1", "k2").json == answer.json
    assert shop.post(path, body, "cashier:c1", "k3").json["code"] == "already_resolved"
    shop.world.run_until_quiet()
    assert shop.world.totals() == (8000, 8000, 0, 0)
    assert shop.world.views.documents["disputes"]["h1"]["decision"] == "online_goes_back"


def test_a_dispute_about_money_that_never_came(shop: Shop) -> None:
    """§23: settled after the three days. There is nothing of ours to give back: the desk gives its own back."""
    rx = shop.world.prescription()
    shop.world.advance(days=3)
    shop.world.run_until_quiet()
    shop.world.desk_settles()
    path = f"/orders/{rx}/disputes/h1/resolve"
    body = {"decision": "online_goes_back", "note": "n"}
    assert shop.post(path, body, "cashier:c1").json["code"] == "nothing_captured"
    assert shop.post(path, {**body, "decision": "desk_gives_back"}, "cashier:c1", "k2").status_code == 200
    shop.world.run_until_quiet()
    assert (shop.world.state(rx), shop.world.totals()) == ("expired", (0, 0, 0, 0))


def test_the_daily_comparison_is_read_and_its_differences_are_resolved(shop: Shop) -> None:
    """§16"""
    fee = shop.world.visit()
    shop.world.pay(fee)
    shop.world.provider.misprint = lambda lines: [replace(line, amount_fen=999) for line in lines]
    shop.world.advance(days=1, hours=2)
    shop.world.run_until_quiet()
    [day] = shop.get("/reconciliations?day=2026-11-24", "cashier:c1").json["reconciliations"]
    assert (day["open"], day["cured"], day["agreed"]) == (1, 0, 1)
    assert shop.get("/reconciliations?day=x", "cashier:c1").json["code"] == "invalid_input"
    assert shop.get("/reconciliations?day=2026-11-23", "cashier:c1").json == {"reconciliations": []}
    assert shop.get("/reconciliations/2026-11-23", "cashier:c1").json["code"] == "not_found"
    [difference] = shop.get("/reconciliations/2026-11-24", "cashier:c1").json["differences"]
    assert (difference["kind"], difference["ours_fen"], difference["theirs_fen"]) == ("amount_differs", 1000, 999)
    path = f"/reconciliations/2026-11-24/differences/{difference['difference_id']}/resolve"
    assert shop.post(path, {"note": "n"}).json["code"] == "forbidden"
    other = path.replace(difference["difference_id"], "x")
    assert shop.post(other, {"note": "n"}, "cashier:c1").json["code"] == "not_found"
    answer = shop.post(path, {"note": "their clerk corrected it"}, "cashier:c1", "k2")
    assert (answer.json["state"], answer.json["cashier"], answer.json["note"]) == (
        "resolved", "c1", "their clerk corrected it"
    )
    assert shop.post(path, {"note": "n"}, "cashier:c1", "k3").json["code"] == "already_resolved"


def test_the_api_says_what_it_refuses() -> None:
    """Every problem of the catalogue is documented at some operation, with an example."""
    shop = Shop()
    spec = shop.client.get("/api/payment/openapi.json").text
    assert [problem.code for problem in PROBLEMS if f'"{problem.code}"' not in spec] == []
