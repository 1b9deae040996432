"""The pharmacy's HTTP interface: who sees what, what is refused in which words, and the courier's signature."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from marshmallow import Schema
from pymongo.errors import AutoReconnect
from werkzeug.test import TestResponse

from eventkit.signing import signature
from services.pharmacy import schemas
from services.pharmacy.problems import CATALOGUE
from tests.unit.pharmacy.world import NOTICE_KEY, SIGNED_AT, Stage, World

PATIENT, DOCTOR, PHARMACIST = "patient:a1", "doctor:d1", "pharmacist:ph1"
STRANGER, OTHER_DOCTOR, HIS, SERVICE = "patient:a2", "doctor:d2", "his:service:his", "service:service:consult"
DOSING = {"amount": "3", "unit": "粒", "times_per_day": 3, "days": 5}
LINE: dict[str, Any] = {"drug_code": "W007", "quantity": 2, "dose": "3粒", "usage": "口服", "dosing": DOSING}
SHEET = {"kind": "western", "diagnosis": "咳嗽", "lines": [LINE]}
ADDRESS = {"courier": "anda", "recipient": "张秀英", "phone": "19900000001", "address": "北京市海淀区某路1号"}
OPEN = ("/couriers", "/drugs")
NOTICE = {
    "notice_id": "FZ1/1", "number": 1, "tracking_no": "FZ1", "client_order_no": "rx1", "status": "collected",
    "occurred_at": "2026-11-24T04:00:00.000Z", "something_new": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture
def world(stage: Stage) -> World:
    stage.world = World()
    return stage.world


@pytest.fixture
def client(stage: Stage, world: World) -> FlaskClient:
    return stage.app.test_client()


def get(client: FlaskClient, who: str, path: str) -> TestResponse:
    return client.get(f"/api/pharmacy{path}", headers={"Authorization": f"Bearer {who}"})


def post(client: FlaskClient, who: str, path: str, body: Any, key: str = "k1") -> TestResponse:
    headers = {"Authorization": f"Bearer {who}", "Idempotency-Key": key}
    return client.post(f"/api/pharmacy{path}", json=body, headers=headers)


def notice(client: FlaskClient, body: Any = NOTICE, key: bytes = NOTICE_KEY, age: int = 0) -> TestResponse:
    raw, timestamp, path = orjson.dumps(body), str(int(time.time()) - age), "/api/pharmacy/notices/courier"
    headers = {
        "X-Signature-Timestamp": timestamp,
        "X-Signature": signature(key, "POST", path, timestamp, raw),
        "Content-Type": "application/json",
    }
    return client.post(path, data=raw, headers=headers)


@pytest.mark.parametrize(
    ("path", "seen_by"),
    [
        ("/visits/v1/prescriptions", {PATIENT, DOCTOR, PHARMACIST}),
        ("/prescriptions/rx1", {PATIENT, DOCTOR, PHARMACIST}),
        ("/prescriptions/rx1/parcel", {PATIENT, DOCTOR, PHARMACIST}),
        ("/prescriptions/rx1/evidence", {PATIENT, DOCTOR, PHARMACIST}),
        ("/internal/prescriptions/rx1", {HIS, SERVICE}),
        ("/review-queue", {PHARMACIST}),
        ("/couriers", {PATIENT, STRANGER, PHARMACIST}),
        ("/drugs", {PATIENT, STRANGER, DOCTOR, OTHER_DOCTOR, PHARMACIST}),
    ],
)
def test_who_sees_what(world: World, client: FlaskClient, path: str, seen_by: set[str]) -> None:  # §31
    world.hand_over()
    namesakes = {"doctor:a1", "patient:d1", "cashier:a1"}  # an id counts only with its role
    everybody = {PATIENT, DOCTOR, PHARMACIST, STRANGER, OTHER_DOCTOR, HIS, SERVICE, *namesakes}
    found = {who: get(client, who, path).status_code for who in everybody}
    assert {who for who, status in found.items() if status == 200} - (namesakes if path in OPEN else set()) == seen_by
    assert set(found.values()) <= {200, 403, 404}
    assert get(client, "nobody", path).status_code == 401


def test_foreign_and_absent_look_the_same(world: World, client: FlaskClient) -> None:  # §31
    world.hand_over()
    for path in ("/prescriptions/{}", "/prescriptions/{}/parcel", "/visits/{}/prescriptions"):
        foreign = get(client, STRANGER, path.format("v1" if "visits" in path else "rx1")).json
        absent = get(client, STRANGER, path.format("nothing")).json
        assert foreign is not None
        assert absent is not None
        assert {**foreign, "instance": ""} == {**absent, "instance": ""}
        assert foreign["status"] == 404
    assert post(client, STRANGER, "/prescriptions/rx1/delivery", ADDRESS).status_code == 404


def test_a_doctor_signs_and_the_review_puts_it_in_effect(world: World, client: FlaskClient) -> None:  # §20, §24
    world.book()
    assert post(client, DOCTOR, "/visits/v1/prescriptions", SHEET).json["code"] == "consult_not_accepted"  # type: ignore[index]
    world.accept()
    made = post(client, DOCTOR, "/visits/v1/prescriptions", {**SHEET}, key="k2")
    assert made.status_code == 201
    assert made.json is not None
    assert made.json["amount_fen"] == 10520
    assert post(client, DOCTOR, "/visits/v1/prescriptions", SHEET, key="k2").json == made.json
    rx = made.json["prescription_id"]

    before = get(client, PATIENT, f"/prescriptions/{rx}").json
    assert before is not None
    assert before["state"] == "in_review"
    assert not {"lines", "diagnosis", "signature"} & set(before)
    assert get(client, HIS, f"/internal/prescriptions/{rx}").status_code == 404

    assert post(client, DOCTOR, f"/prescriptions/{rx}/review", {"outcome": "pass"}).status_code == 403
    assert post(client, PHARMACIST, f"/prescriptions/{rx}/review", {"outcome": "pass"}).json == {
        "prescription_id": rx, "state": "issued",
    }  # fmt: skip
    after = get(client, PATIENT, f"/prescriptions/{rx}").json
    assert after is not None
    assert [(line["name"], line["amount_fen"]) for line in after["lines"]] == [("苏黄止咳胶囊 0.45g×24粒", 10520)]
    desk = get(client, HIS, f"/internal/prescriptions/{rx}").json
    assert desk is not None
    assert (desk["visit_id"], desk["amount_fen"], desk["may_settle"]) == ("v1", 10520, True)


def test_a_returned_prescription_is_signed_again(world: World, client: FlaskClient) -> None:  # §24
    world.book()
    world.accept()
    world.sign()
    assert post(client, PHARMACIST, "/prescriptions/rx1/review", {"outcome": "return"}).json["code"] == "reason_missing"  # type: ignore[index]
    post(client, PHARMACIST, "/prescriptions/rx1/review", {"outcome": "return", "reason": "剂量"}, key="k2")
    shown = {who: get(client, who, "/prescriptions/rx1").json for who in (PATIENT, DOCTOR)}
    assert shown[DOCTOR]["review_reason"] == "剂量"  # type: ignore[index]
    assert "review_reason" not in shown[PATIENT]  # type: ignore[operator]
    line = {**LINE, "drug_code": "W004", "quantity": 1, "dosing": {**DOSING, "amount": "1"}}
    again = {"diagnosis": "咳嗽", "lines": [line]}
    assert post(client, OTHER_DOCTOR, "/prescriptions/rx1/signature", again).status_code == 404
    answer = post(client, DOCTOR, "/prescriptions/rx1/signature", again)
    assert (answer.status_code, answer.json["amount_fen"]) == (201, 1990)  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lines": []}, "invalid_input"),
        ({"kind": "magic"}, "invalid_input"),
        ({"price_fen": 1}, "invalid_input"),
        ({"lines": [{**LINE, "quantity": 0}]}, "invalid_input"),
        ({"lines": [{**LINE, "price_fen": 1}]}, "invalid_input"),
        ({"lines": [{**LINE, "drug_code": "W901"}]}, "special_drug"),
        ({"kind": "herbal"}, "mixed_kinds"),
    ],
)
def test_a_sheet_that_cannot_be_signed(
    world: World, client: FlaskClient, change: dict[str, Any], code: str
) -> None:  # §25
    world.book()
    world.accept()
    refused = post(client, DOCTOR, "/visits/v1/prescriptions", {**SHEET, **change})
    assert (refused.status_code, refused.json["code"]) == (422, code)  # type: ignore[index]
    assert refused.content_type == "application/problem+json"


def test_a_patient_chooses_and_follows_the_parcel(world: World, client: FlaskClient) -> None:  # §21
    world.issue()
    assert get(client, PATIENT, "/couriers?to=北京市").json["couriers"][0]["estimated_fee_fen"] == 1200  # type: ignore[index]
    world.courier.fee = None
    assert get(client, PATIENT, "/couriers").json["couriers"][0]["estimated_fee_fen"] is None  # type: ignore[index]
    chosen = post(client, PATIENT, "/prescriptions/rx1/delivery", ADDRESS)
    assert chosen.status_code == 200
    assert not {"phone", "address", "recipient"} & set(chosen.json or {})
    assert get(client, PATIENT, "/prescriptions/rx1/parcel").status_code == 404
    world.capture()
    world.due_for_courier()
    assert get(client, PATIENT, "/prescriptions/rx1/parcel").json["state"] == "preparing"  # type: ignore[index]
    assert notice(client).json["code"] == "not_handed_over"  # type: ignore[index]
    world.run_due("hand_over")
    assert [notice(client).status_code for _ in range(2)] == [204, 204]
    delivered = {**NOTICE, "notice_id": "FZ1/4", "status": "delivered", "courier_fee_fen": 1200}
    delivered["occurred_at"] = "2026-11-24T09:00:00.000Z"
    assert notice(client, delivered).status_code == 204
    assert get(client, PATIENT, "/prescriptions/rx1/parcel").json == {
        "parcel_id": "rx1", "courier": "anda", "state": "delivered", "tracking_no": "FZ1", "courier_fee_fen": 1200,
        "history": [
            {"status": "collected", "at": "2026-11-24T04:00:00.000Z"},
            {"status": "delivered", "at": "2026-11-24T09:00:00.000Z"},
        ],
    }  # fmt: skip
    sheet = get(client, PATIENT, "/prescriptions/rx1").json
    assert sheet is not None
    assert (sheet["state"], sheet["way"], sheet["amount_fen"]) == ("dispensed", "courier", 10520)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"key": b"guess"}, 401, "bad_signature"),
        ({"key": b"guess", "body": "nonsense"}, 401, "bad_signature"),
        ({"age": 301}, 401, "bad_signature"),
        ({"body": {**NOTICE, "client_order_no": "rx9"}}, 404, "not_found"),
        ({"body": {**NOTICE, "tracking_no": "FZ2"}}, 404, "not_found"),
        ({"body": {**NOTICE, "occurred_at": "2026-11-24T04:00:00"}}, 422, "invalid_input"),
        ({"body": []}, 422, "invalid_input"),
    ],
)
def test_notices_that_are_refused(
    world: World, client: FlaskClient, sent: dict[str, Any], status: int, code: str
) -> None:
    world.hand_over()
    answer = notice(client, **sent)
    assert (answer.status_code, answer.json["code"]) == (status, code)  # type: ignore[index]
    assert world.stream("parcel-rx1") == ["ParcelOpened", "ParcelHandedOver"]


def test_a_notice_of_unknown_kind_is_taken_and_passed_over(world: World, client: FlaskClient) -> None:
    world.hand_over()
    assert notice(client, {**NOTICE, "status": "weighed"}).status_code == 204
    assert world.stream("parcel-rx1") == ["ParcelOpened", "ParcelHandedOver"]


@pytest.mark.parametrize("phone", ["", "abc", "1990000000x", "19900000001\n", "1"])
def test_an_address_nobody_can_call(world: World, client: FlaskClient, phone: str) -> None:
    world.issue()
    refused = post(client, PATIENT, "/prescriptions/rx1/delivery", {**ADDRESS, "phone": phone})
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_input")  # type: ignore[index]


def test_the_desk_may_not_take_money_twice(world: World, client: FlaskClient) -> None:  # §22, §23
    world.issue()
    world.capture()
    assert get(client, HIS, "/internal/prescriptions/rx1").json["may_settle"] is False  # type: ignore[index]
    world.sign("rx2")
    world.review(rx="rx2")
    for passed, may_settle in ((timedelta(hours=71), True), (timedelta(hours=1), False)):
        world.clock.advance(passed)
        assert get(client, HIS, "/internal/prescriptions/rx2").json["may_settle"] is may_settle  # type: ignore[index]


def test_the_desk_sees_no_address(world: World, client: FlaskClient) -> None:  # §31
    world.hand_over()
    shown = get(client, HIS, "/internal/prescriptions/rx1").text
    assert "海淀" not in shown
    assert "苏黄" in shown


def test_a_database_that_does_not_answer_is_no_error_of_ours(world: World, client: FlaskClient) -> None:
    def silent(now: Any) -> Any:
        raise AutoReconnect("no primary")

    world.counter.queue.waiting = silent  # type: ignore[method-assign]
    refused = get(client, PHARMACIST, "/review-queue")
    assert (refused.status_code, refused.json["code"]) == (503, "unavailable")  # type: ignore[index]


def test_special_drugs_are_not_offered(client: FlaskClient) -> None:  # §25
    offered = get(client, DOCTOR, "/drugs?kind=herbal").json
    assert offered is not None
    assert offered["sample"] is True
    assert {drug["kind"] for drug in offered["drugs"]} == {"herbal"}
    assert "H901" not in {drug["drug_code"] for drug in offered["drugs"]}


def test_the_queue_is_what_waits_by_the_business_clock(client: FlaskClient) -> None:
    waiting = {"prescription_id": f"waiting at {SIGNED_AT}"}
    assert get(client, PHARMACIST, "/review-queue").json == {"prescriptions": [waiting]}


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        (schemas.DrugsSchema, schemas.DRUGS),
        (schemas.SignSchema, {"kind": "western", **schemas.WANTED}),
        (schemas.SignedSchema, schemas.SIGNED),
        (schemas.SummariesSchema, {"prescriptions": [schemas.SUMMARY]}),
        (schemas.DeskSheetSchema, {**schemas.SHEET, "may_settle": True}),
        (schemas.QueueSchema, schemas.WAITING),
        (schemas.CouriersSchema, schemas.COURIERS),
        (schemas.DeliveryAnswerSchema, schemas.CHOSEN),
        (schemas.ParcelSchema, schemas.PARCEL),
    ],
)
def test_examples_are_what_their_schema_takes(schema: type[Schema], example: dict[str, Any]) -> None:
    assert schema().validate(example) == {}


def test_every_operation_says_what_it_refuses_and_all_of_it_is_in_the_catalogue(client: FlaskClient) -> None:
    paths = client.get("/api/pharmacy/openapi.json").json["paths"]  # type: ignore[index]
    assert len(paths) == 16
    for path, operations in paths.items():
        for method in ("get", "post"):
            if method not in operations:
                continue
            responses = operations[method]["responses"]
            codes = [
                code
                for response in responses.values()
                for content in response.get("content", {}).values()
                for code in content.get("examples", {})
            ]
            assert all(code in CATALOGUE for code in codes), path
            assert operations[method]["summary"], path
            for response in [responses[status] for status in ("200", "201") if status in responses]:
                assert "application/pdf" in response["content"] or response["content"]["application/json"]["example"]
            if "/notices/" not in path:
                assert "token_missing" in codes, path


def test_a_second_signature_over_http(world: World, client: FlaskClient) -> None:  # §25
    world.book()
    world.accept()
    line = {**LINE, "dosing": {**DOSING, "times_per_day": 4}}
    refused = post(client, DOCTOR, "/visits/v1/prescriptions", {**SHEET, "lines": [line]}).json
    assert refused is not None
    assert (refused["status"], refused["code"]) == (422, "second_signature_needed")
    assert [found["key"] for found in refused["failed"]] == ["overdose:W007"]
    assert "12粒" in refused["detail"]
    second = {"reason": "既往耐受,分次服用", "findings": ["overdose:W007"]}
    body = {**SHEET, "lines": [line], "second_signature": second, "allergies": ["海鲜"]}
    made = post(client, DOCTOR, "/visits/v1/prescriptions", body, key="k2").json
    assert made is not None
    assert made["stock_checked"] is True
    shown = get(client, DOCTOR, f"/prescriptions/{made['prescription_id']}").json
    assert shown is not None
    assert (shown["second"]["reason"], shown["allergies"]) == ("既往耐受,分次服用", ["海鲜"])
    assert shown["lines"][0]["dosing"]["times_per_day"] == 4


def test_a_herbal_prescription_over_http(world: World, client: FlaskClient) -> None:  # §25
    world.book()
    world.accept()
    body = {
        "kind": "herbal", "diagnosis": "气虚证", "lines": [{"drug_code": "H001", "quantity": 15}],
        "herbal": {"doses": 7, "decoction": "hospital", "usage": "水煎服,一日1剂"},
    }  # fmt: skip
    made = post(client, DOCTOR, "/visits/v1/prescriptions", body).json
    assert made is not None
    assert made["amount_fen"] == 15 * 18 * 7
    shown = get(client, DOCTOR, f"/prescriptions/{made['prescription_id']}").json
    assert shown is not None
    assert (shown["herbal"]["doses"], shown["lines"][0]["dose"]) == (7, "每剂15克")


def test_the_stock_is_asked_and_a_silent_hospital_refuses_nothing(world: World, client: FlaskClient) -> None:
    world.book()
    world.accept()
    world.shelf = {"W007": 1}
    assert post(client, DOCTOR, "/visits/v1/prescriptions", SHEET).json["code"] == "out_of_stock"  # type: ignore[index]
    world.shelf = {"W007": 2}
    made = post(client, DOCTOR, "/visits/v1/prescriptions", SHEET, key="k2").json
    world.shelf = {}
    assert post(client, DOCTOR, "/visits/v1/prescriptions", SHEET, key="k2").json == made
    world.shelf = None
    unchecked = post(client, DOCTOR, "/visits/v1/prescriptions", SHEET, key="k3").json
    assert unchecked is not None
    assert unchecked["stock_checked"] is False
    assert get(client, PHARMACIST, f"/prescriptions/{unchecked['prescription_id']}").json["stock_checked"] is False  # type: ignore[index]


def test_antibiotics_by_the_title_of_the_visit(world: World, client: FlaskClient) -> None:  # §25
    world.book()
    world.accept()
    line = {"drug_code": "W149", "quantity": 1, "dosing": {"amount": "1", "unit": "粒", "times_per_day": 2, "days": 5}}
    body = {**SHEET, "lines": [line]}
    assert post(client, DOCTOR, "/visits/v1/prescriptions", body).json["code"] == "antibiotic_right"  # type: ignore[index]
    world.hear(
        "registration.VisitRequested", visit_id="v1", patient_id="p1", account_id="a1", doctor_id="d1",
        department_id="de1", session_id="s1", slot_id="sl1", day="2026-11-24", starts_at="2026-11-24T01:00:00Z",
        entrance="app", card_id="c1", card_kind="uninsured", title="chief", fee_fen=5000, assessment_id="as1",
        hold_until="2026-11-23T02:30:00Z",
    )  # fmt: skip
    assert post(client, DOCTOR, "/visits/v1/prescriptions", body, key="k2").status_code == 201
