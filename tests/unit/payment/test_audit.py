"""§31 in payment: who looks at a patient's orders leaves a line, and gets no answer without it."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from tests.unit.payment.test_http import Shop, shop

__all__ = ["shop"]


@pytest.mark.parametrize("path", ["/visits/v1/orders", "/visits/v1/refunds", "/orders/fee-v1"])
def test_31_every_read_is_audited_or_not_answered(shop: Shop, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    shop.world.visit()
    assert shop.get(path, "cashier:c1").status_code == 200
    [line] = shop.trail.lines
    assert line["who"] == {"subject": "c1", "roles": ["cashier"]}
    assert (line["account_id"], line["what"]["kind"], line["what"]["id"]) == ("acc1", "order", "fee-v1")

    def broken(lines: Any) -> None:
        raise AutoReconnect("no primary")

    monkeypatch.setattr(shop.trail, "insert", broken)
    assert shop.get(path, "cashier:c1").status_code == 503


def test_31_the_account_sees_who_read(shop: Shop) -> None:
    shop.world.visit()
    shop.get("/orders/fee-v1", "cashier:c1")
    path = f"/patients/{shop.trail.lines[0]['patient_id']}/readings"
    assert [reading["subject"] for reading in shop.get(path).json["readings"]] == ["c1"]
    assert shop.get(path, "patient:acc2").status_code == 404
