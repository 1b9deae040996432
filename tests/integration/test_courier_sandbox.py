"""The courier as our pharmacy meets it: orders, parcels that move, signed notices, fees taken at the door (§21)."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from partners.courier.road import price_fen, steps
from partners.front import signature
from tests.integration.partner_process import wait_for
from tests.integration.signed_partner import SECRET, Partner, running

ORDER = {
    "client_order_no": "parcel-1",
    "sender": "西苑医院药房",
    "recipient": "林复安",
    "phone": "19900000001",
    "address": "北京市海淀区某路1号",
    "pay_on_delivery": True,
}


class Receiver:
    """Where the notices go: keeps what was well signed, and answers as told."""

    def __init__(self) -> None:
        self.got: list[dict[str, object]] = []
        self.badly_signed = 0
        self.refuse_next = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                timestamp = self.headers["X-Signature-Timestamp"]
                if signature(SECRET.encode(), "POST", self.path, timestamp, body) != self.headers["X-Signature"]:
                    receiver.badly_signed += 1
                receiver.refuse_next -= 1
                refused = receiver.refuse_next >= 0
                if not refused:
                    receiver.got.append(json.loads(body))
                self.send_response(503 if refused else 204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def statuses(self) -> list[object]:
        return [notice["status"] for notice in sorted(self.got, key=lambda notice: str(notice["notice_id"]))]


@pytest.fixture
def pharmacy() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def courier(tmp_path: Path, pharmacy: Receiver) -> Iterator[Partner]:
    with running("courier", tmp_path, FUZHEN_PUBLIC_URL=pharmacy.url) as partner:
        yield partner


def take(courier: Partner, **changes: object) -> str:
    number: str = courier.signed("POST", "/orders", {**ORDER, **changes}).json()["tracking_no"]
    return number


def test_a_parcel_goes_to_the_door_and_the_recipient_pays_the_courier(courier: Partner, pharmacy: Receiver) -> None:
    tracking_no = take(courier)
    for status in ("collected", "in_transit", "out_for_delivery", "delivered"):
        assert courier.hand("POST", f"/orders/{tracking_no}/advance")["status"] == status

    wait_for(lambda: len(pharmacy.got) == 4)
    assert pharmacy.statuses == ["collected", "in_transit", "out_for_delivery", "delivered"]
    assert pharmacy.badly_signed == 0
    last = next(notice for notice in pharmacy.got if notice["status"] == "delivered")
    assert (last["client_order_no"], last["number"], last["courier_fee_fen"]) == ("parcel-1", 4, 1200)
    assert courier.hand("GET", "/books") == {"parcels": 1, "fees_collected_fen": 1200, "by_status": {"delivered": 1}}
    assert courier.signed("GET", f"/orders/{tracking_no}").json()["collected_fen"] == 1200
    assert requests.post(f"{courier.url}/sandbox/orders/{tracking_no}/advance", timeout=5).status_code == 409


def test_a_refused_parcel_goes_back_and_nobody_pays(courier: Partner, pharmacy: Receiver) -> None:
    tracking_no = take(courier)
    courier.hand("POST", f"/orders/{tracking_no}/advance", {"to": "returned"})

    wait_for(lambda: len(pharmacy.got) == 5)
    assert pharmacy.statuses == ["collected", "in_transit", "out_for_delivery", "refused", "returned"]
    assert all("courier_fee_fen" not in notice for notice in pharmacy.got)
    assert courier.hand("GET", "/books")["fees_collected_fen"] == 0


def test_the_same_order_again_is_the_same_parcel(courier: Partner) -> None:
    first, again = courier.signed("POST", "/orders", ORDER), courier.signed("POST", "/orders", ORDER)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["tracking_no"] == again.json()["tracking_no"]
    assert courier.signed("POST", "/orders", {**ORDER, "address": "上海市"}).status_code == 409
    assert len(courier.hand("GET", "/orders?client_order_no=parcel-1")["orders"]) == 1


def test_an_order_whose_answer_was_lost_is_found_again(courier: Partner) -> None:
    courier.hand("POST", "/misbehave", {"kind": "timeout_after_effect", "target": "/orders"})
    with pytest.raises(requests.ConnectionError):
        courier.signed("POST", "/orders", ORDER)
    assert courier.signed("POST", "/orders", ORDER).status_code == 200
    assert courier.hand("GET", "/books")["parcels"] == 1


def test_a_notice_is_told_until_it_is_taken_and_survives_kill_9(courier: Partner, pharmacy: Receiver) -> None:
    tracking_no = take(courier)
    pharmacy.refuse_next = 10
    courier.hand("POST", f"/orders/{tracking_no}/advance")
    wait_for(lambda: pharmacy.refuse_next < 10)
    courier.kill()
    pharmacy.refuse_next = 0
    courier.start()
    wait_for(lambda: pharmacy.statuses == ["collected"])


def test_notices_come_double_late_and_out_of_order_as_scripted(courier: Partner, pharmacy: Receiver) -> None:
    tracking_no = take(courier)
    courier.hand("POST", "/misbehave", {"kind": "reorder_notices", "target": "collected"})
    courier.hand("POST", "/misbehave", {"kind": "double_notice", "target": "in_transit"})
    courier.hand("POST", "/misbehave", {"kind": "drop_notice", "target": "out_for_delivery"})
    courier.hand("POST", f"/orders/{tracking_no}/advance", {"to": "out_for_delivery"})

    wait_for(lambda: len(pharmacy.got) == 3)
    assert pharmacy.got[0]["status"] == "in_transit"
    assert pharmacy.statuses == ["collected", "in_transit", "in_transit"]
    assert len({notice["notice_id"] for notice in pharmacy.got}) == 2


@pytest.mark.parametrize("wrong", [{"pay_on_delivery": False}, {"address": ""}, {"phone": 1}, {"weight_g": "heavy"}])
def test_bad_input_is_refused(courier: Partner, wrong: dict[str, object]) -> None:
    assert courier.signed("POST", "/orders", {**ORDER, **wrong}).status_code == 400


def test_prices_and_unknown_parcels(courier: Partner) -> None:
    assert courier.signed("GET", "/price", to="北京市", weight_g="2500").json() == {"courier_fee_fen": 1600}
    assert courier.signed("GET", "/price", to="广东省", weight_g="0").status_code == 400
    assert courier.signed("GET", "/orders/FZ0").status_code == 404
    assert requests.get(f"{courier.url}/price", timeout=5).status_code == 401


def test_the_road() -> None:
    assert steps("accepted", None) == ["collected"]
    assert steps("in_transit", "refused") == ["out_for_delivery", "refused"]
    assert steps("delivered", "refused") == [] == steps("delivered", None)
    assert [price_fen("上海市", grams) for grams in (1, 1000, 1001)] == [1800, 1800, 2600]
