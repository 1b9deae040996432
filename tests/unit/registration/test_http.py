"""The HTTP interface: who may call what, what is refused in which words, and what every operation documents."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from eventkit.web import create_app
from services.registration.domain.people import HisPerson
from services.registration.http import routes
from services.registration.photos import MAX_UPLOAD_BYTES
from tests.unit.registration.story import BORN, DOCTOR, NOTICE, add
from tests.unit.registration.test_handlers import Story

CONDITION = {
    "chief_complaint": "胃脘隐痛复诊", "present_illness": "服药后减轻", "follow_up": True, "stable": True,
    "emergency": False,
}


verifying = Story().verifier


@pytest.fixture
def story(application: Any) -> Story:
    story = Story()
    routes.desk = story.desk
    verifying._devices = story.devices
    return story


@pytest.fixture(scope="module")
def application() -> Any:
    return create_app("registration", [routes], verifying, lambda: (True, {}), str)


@pytest.fixture
def client(application: Any, story: Story) -> FlaskClient:
    client: FlaskClient = application.test_client()
    return client


class Api:
    """Calls as somebody; each POST under a new key unless told."""

    def __init__(self, client: FlaskClient, story: Story) -> None:
        self._client, self._story, self._count = client, story, 0

    def headers(self, who: str, key: str | None) -> dict[str, str]:
        self._count += 1
        subject, _, role = who.partition("/")
        token = self._story.issuer.issue(subject, [role])
        return {"Authorization": f"Bearer {token}", "Idempotency-Key": key or f"http-{self._count}"}

    def get(self, path: str, who: str) -> Any:
        return self._client.get(f"/api/registration{path}", headers=self.headers(who, None))

    def post(self, path: str, who: str, body: Any = None, key: str | None = None, **more: Any) -> Any:
        if body is not None:
            more["json"] = body
        return self._client.post(f"/api/registration{path}", headers=self.headers(who, key), **more)


@pytest.fixture
def api(client: FlaskClient, story: Story) -> Api:
    return Api(client, story)


def booking(story: Story, **change: Any) -> dict[str, Any]:
    return {
        "patient_id": story.patient_id, "card_id": "C1", "session_id": story.session_id,
        "slot_id": f"{story.session_id}-01", "entrance": "app", "notice_version": NOTICE, "condition": CONDITION,
        **change,
    }


def test_a_booking_over_http(api: Api, story: Story) -> None:
    patient = f"{story.account}/patient"
    first = api.post("/visits", patient, booking(story), key="k")
    assert (first.status_code, first.json["state"], first.json["fee_fen"]) == (201, "held", 5000)
    assert api.post("/visits", patient, booking(story), key="k").json == first.json
    path = f"/visits/{first.json['visit_id']}"
    assert api.get(path, patient).json["state"] == "held"
    taken = api.post("/visits", patient, booking(story))
    assert (taken.status_code, taken.json["code"]) == (409, "slot_taken")
    condition = api.get(f"{path}/condition", patient).json
    assert condition["patient"] == {"name": "林复安", "sex": "female", "age": 58}
    assert api.post(f"{path}/withdrawal", patient).json["state"] == "withdrawn"


def test_s5_the_refusal_over_http_lists_the_failed_rules(api: Api, story: Story) -> None:
    story.eligibility.failed = ["too_young"]
    refused = api.post("/visits", f"{story.account}/patient", booking(story))
    assert (refused.status_code, refused.mimetype) == (422, "application/problem+json")
    assert [rule["code"] for rule in refused.json["failed"]] == ["too_young"]


@pytest.mark.parametrize(
    "change",
    [
        {"entrance": "fax"},  # §6
        {"notice_version": "short"},  # §4
        {"condition": {**CONDITION, "stable": None}},  # §3
        {"condition": {name: value for name, value in CONDITION.items() if name != "emergency"}},  # §3
        {"photo_ids": [str(number) for number in range(10)]},
        {"doctor_id": DOCTOR},
    ],
)
def test_what_is_no_booking(api: Api, story: Story, change: dict[str, Any]) -> None:
    refused = api.post("/visits", f"{story.account}/patient", booking(story, **change))
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_input")


@pytest.mark.parametrize(
    ("path", "seen_by"),
    [
        ("/visits/{visit}", {"account/patient", "doctor/doctor"}),
        ("/visits/{visit}/condition", {"account/patient", "doctor/doctor"}),
        ("/photos/{photo}", {"account/patient", "doctor/doctor"}),
        ("/patients/{patient}", {"account/patient"}),
        ("/internal/visits/{visit}", {"service", "his"}),
        ("/internal/patients/{patient}", {"service", "his"}),
    ],
)
def test_s31_who_sees_what(api: Api, story: Story, path: str, seen_by: set[str]) -> None:
    patient = f"{story.account}/patient"
    photo = api.post(f"/patients/{story.patient_id}/photos", patient, data=picture(), content_type="image/jpeg")
    visit = api.post("/visits", patient, booking(story, photo_ids=[photo.json["photo_id"]])).json["visit_id"]
    story.pay(visit)
    path = path.format(visit=visit, patient=story.patient_id, photo=photo.json["photo_id"])
    everybody = {
        "account/patient": patient, "doctor/doctor": f"{DOCTOR}/doctor", "stranger": "a9/patient",
        "other doctor": "doctor-bai/doctor", "service": "service:payment/service", "his": "service:his/his",
        "pharmacist": "pharmacist-lu/pharmacist", "operator": "operator-an/operator",
    }
    found = {who: api.get(path, token).status_code for who, token in everybody.items()}
    assert {who for who, status in found.items() if status == 200} == seen_by
    assert {status for who, status in found.items() if who not in seen_by} <= {403, 404}


def picture(side: int = 40) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("upload", "status", "code"),
    [
        ({"data": b"no picture", "content_type": "image/jpeg"}, 422, "photo_unreadable"),
        ({"data": b"x" * (MAX_UPLOAD_BYTES + 1), "content_type": "image/jpeg"}, 413, "too_large"),
        ({"data": {}, "content_type": "multipart/form-data"}, 422, "photo_unreadable"),
    ],
)
def test_s10_what_is_no_photo(api: Api, story: Story, upload: dict[str, Any], status: int, code: str) -> None:
    refused = api.post(f"/patients/{story.patient_id}/photos", f"{story.account}/patient", **upload)
    assert (refused.status_code, refused.json["code"]) == (status, code)


def test_s10_a_photo_may_be_larger_than_other_requests(api: Api, story: Story) -> None:
    file = io.BytesIO()
    Image.effect_noise((1400, 1400), 90).save(file, "PNG")
    assert len(file.getvalue()) > 1 << 20
    boundary, form = encode_multipart({"photo": FileStorage(io.BytesIO(file.getvalue()), "tongue.png")})
    kept = api.post(
        f"/patients/{story.patient_id}/photos", f"{story.account}/patient", data=form,
        content_type=f"multipart/form-data; boundary={boundary}",
    )
    assert kept.status_code == 201
    assert api.get(f"/photos/{kept.json['photo_id']}", f"{story.account}/patient").mimetype == "image/jpeg"


@pytest.mark.parametrize(
    ("who", "status"),
    [(f"{DOCTOR}/doctor", 201), ("operator-an/operator", 201), ("doctor-bai/doctor", 403), ("a1/patient", 403)],
)
def test_s9_who_opens_a_session(api: Api, who: str, status: int) -> None:
    body = {
        "doctor_id": DOCTOR, "department_id": "spleen-stomach", "starts_at": "2026-11-25T08:00:00+08:00",
        "ends_at": "2026-11-25T12:00:00+08:00", "slot_minutes": 15,
    }
    assert api.post("/sessions", who, body).status_code == status


def test_s7_a_patient_over_http_numbers_masked(api: Api, story: Story) -> None:
    command = add()
    body = {"name": command.name, "id_number": command.id_number.lower(), "phone": command.phone, "relation": "self"}
    assert api.post("/patients", "a9/patient", body).status_code == 201
    [patient] = api.get("/patients", "a9/patient").json["patients"]
    assert (patient["name"], patient["phone"]) == ("林复安", "199****0001")
    assert command.id_number not in str(patient)


def test_s7_login_over_http(client: FlaskClient, story: Story) -> None:
    assert client.post("/api/registration/login-codes", json={"phone": "19900000001"}).status_code == 202
    [(phone, template, params)] = story.sms.sent.values()
    assert (phone, template, params) == ("19900000001", "login_code", {"code": "246810", "minutes": "5"})
    grant = {"grant": "code", "phone": "19900000001", "code": "246810"}
    token = client.post("/api/registration/tokens", json=grant).json
    assert token is not None
    assert (token["subject"], token["roles"]) == (story.account, ["patient"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"grant": "code", "phone": "19900000001"}, 422),
        ({"grant": "client", "client_id": "payment"}, 422),
        ({"grant": "client", "client_id": "payment", "client_secret": "guess"}, 401),
        ({"grant": "password"}, 422),
        ({"grant": "refresh"}, 422),
        ({"grant": "refresh", "refresh_token": "guess"}, 401),
        ({"grant": "code", "phone": "19900000001", "code": "246810", "device": "x" * 61}, 422),
    ],
)
def test_what_gets_no_token(client: FlaskClient, body: dict[str, str], status: int) -> None:
    assert client.post("/api/registration/tokens", json=body).status_code == status


def test_every_operation_documents_its_answer_and_its_refusals(client: FlaskClient) -> None:
    paths = client.get("/api/registration/openapi.json").json
    assert paths is not None
    for path, operations in paths["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            where, answers = f"{method} {path}", operation["responses"]
            shown = [answer for status, answer in answers.items() if status.startswith("2")]
            assert len(shown) == 1, where
            for media, content in shown[0]["content"].items():
                assert media != "application/json" or "example" in content, where
            if "requestBody" in operation and "application/json" in operation["requestBody"]["content"]:
                content = operation["requestBody"]["content"]["application/json"]
                assert "example" in content or "examples" in content, where
            if "x-roles" in operation:
                assert {"401", "403"} <= set(answers), where
            assert operation["summary"], where


def test_s10_a_draft_over_http(api: Api, story: Story) -> None:
    patient = f"{story.account}/patient"
    whole = booking(story)
    begun = api.post("/drafts", patient, {"patient_id": story.patient_id, "condition": {"stable": True}})
    assert begun.status_code == 201
    path = f"/drafts/{begun.json['draft_id']}"
    assert api.get(path, patient).json["condition"] == {"stable": True}
    refused = api.post(f"{path}/submission", patient)
    assert (refused.status_code, refused.json["code"]) == (422, "draft_incomplete")
    assert "chief_complaint" in refused.json["errors"]
    del whole["patient_id"]
    assert api.post(f"{path}/parts", patient, whole).json["missing"] == []
    assert api.post(f"{path}/submission", patient).json["state"] == "held"
    assert api.get(path, "stranger/patient").status_code == 404


def test_s29_a_cancelled_session_over_http(api: Api, story: Story) -> None:
    path = f"/sessions/{story.session_id}"
    assert api.post(f"{path}/cancellation", f"{story.account}/patient").status_code == 403
    assert api.post(f"{path}/cancellation", f"{DOCTOR}/doctor").json["visits"] == 0
    shown = api.get(path, f"{story.account}/patient").json
    assert (shown["state"], {slot["state"] for slot in shown["slots"]}) == ("cancelled", {"closed"})


def log_in(client: FlaskClient, **grant: str) -> Any:
    grant = grant or {"grant": "code", "phone": "19900000001", "code": "246810", "device": "iPhone"}
    return client.post("/api/registration/tokens", json=grant)


def bearer(token: Any, key: str = "k") -> dict[str, str]:
    return {"Authorization": f"Bearer {token['access_token']}", "Idempotency-Key": key}


def test_s7_a_device_is_listed_refreshed_and_revoked(client: FlaskClient, story: Story) -> None:
    phone, tablet = log_in(client).json, log_in(client).json
    listed = client.get("/api/registration/devices", headers=bearer(phone)).json
    assert listed is not None
    assert {device["device_id"]: device["current"] for device in listed["devices"]}[phone["device_id"]] is True
    revocation = f"/api/registration/devices/{tablet['device_id']}/revocation"
    assert client.post(revocation, headers=bearer(phone)).status_code == 200
    gone = client.get("/api/registration/devices", headers=bearer(tablet))
    assert (gone.status_code, gone.json["code"] if gone.json else "") == (401, "token_invalid")
    assert client.get("/api/registration/devices", headers=bearer(phone)).status_code == 200
    over = log_in(client, grant="refresh", refresh_token=tablet["refresh_token"])
    assert (over.status_code, over.json["code"]) == (401, "login_over")
    renewed = log_in(client, grant="refresh", refresh_token=phone["refresh_token"]).json
    assert (renewed["subject"], renewed["device_id"]) == (story.account, phone["device_id"])


def test_s7_another_accounts_device_is_not_there(client: FlaskClient, api: Api) -> None:
    device = log_in(client).json["device_id"]
    assert api.post(f"/devices/{device}/revocation", "stranger/patient").status_code == 404


def test_s7_who_left_the_directory_is_logged_out(client: FlaskClient, story: Story) -> None:
    login = story.devices.open("doctor-gone", "doctor", "")
    assert log_in(client, grant="refresh", refresh_token=login.refresh_token).status_code == 401
    assert story.devices.revoked() == [login.device_id]


def test_s7_other_services_may_ask_which_devices_are_revoked(api: Api, story: Story) -> None:
    story.devices.revoke(story.account, story.devices.of(story.account)[0]["device_id"])
    assert api.get("/internal/revoked-devices", "service:consult/service").json["devices"] == ["device1"]
    assert api.get("/internal/revoked-devices", f"{story.account}/patient").status_code == 403


def test_s7_a_passport_over_http_masked_by_half(api: Api, story: Story) -> None:
    story.his.people["E12345678"] = HisPerson("P00000009", BORN, "female")
    body = {"name": "An Example", "document": "passport", "id_number": " e12345678", "phone": "19900000001",
            "relation": "self"}
    refused = api.post("/patients", "a9/patient", body)
    assert (refused.status_code, refused.json["code"]) == (422, "birth_date_needed")
    whole = {**body, "birth_date": "1968-03-02", "sex": "female"}
    added = api.post("/patients", "a9/patient", whole)
    assert added.status_code == 201
    [patient] = api.get("/patients", "a9/patient").json["patients"]
    assert (patient["document"], patient["id_number"]) == ("passport", "E1*****78")
    inside = api.get(f"/internal/patients/{added.json['patient_id']}", "service:his/his").json
    assert (inside["document"], inside["id_number"]) == ("passport", "E12345678")
    assert api.post("/patients", "a9/patient", {**whole, "document": "library card"}).status_code == 422


def test_s31_a_link_to_a_photo_works_for_minutes_and_for_this_photo(
    api: Api, client: FlaskClient, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = f"{story.account}/patient"
    first, other = (
        api.post(f"/patients/{story.patient_id}/photos", patient, data=picture(side), content_type="image/jpeg").json
        for side in (40, 50)
    )
    assert api.get(f"/photos/{first['photo_id']}/link", "stranger/patient").status_code == 404
    link = api.get(f"/photos/{first['photo_id']}/link", patient).json
    opened = client.get(link["url"])
    assert (opened.status_code, opened.mimetype, opened.headers["Cache-Control"]) == (200, "image/jpeg", "no-store")
    for wrong in (
        link["url"].replace(first["photo_id"], other["photo_id"]), link["url"] + "0", link["url"].replace("=1", "=2"),
    ):
        assert client.get(wrong).status_code == 404
    later = time.time() + link["expires_in"] + 1
    monkeypatch.setattr("services.registration.links.time.time", lambda: later)
    assert client.get(link["url"]).json["code"] == "link_over"


def test_s9_waiting_over_http(api: Api, story: Story) -> None:
    patient, path = f"{story.account}/patient", f"/sessions/{story.session_id}/waiting"
    left = api.post(path, patient, {"patient_id": story.patient_id})
    assert (left.status_code, left.json["code"]) == (409, "slots_left")
    others = [story.log_in("19900000008"), story.log_in("19900000009")]
    for number, account in enumerate(others, 1):
        their = story.patient(account, f"P0000001{number}")
        story.bind(account, their)
        story.book(f"v{number}", number, account_id=account, patient_id=their)
    assert api.post(path, patient, {"patient_id": their}).status_code == 404
    joined = api.post(path, patient, {"patient_id": story.patient_id})
    assert (joined.status_code, joined.json["position"]) == (201, 1)
    assert api.post("/visits/v1/withdrawal", f"{others[0]}/patient").status_code == 200
    [entry] = api.get(path, patient).json["entries"]
    assert entry["offer"] == {"slot_id": f"{story.session_id}-01", "until": "2026-11-23T08:10:00.000Z"}
    states = [slot["state"] for slot in api.get(f"/sessions/{story.session_id}", patient).json["slots"]]
    assert states == ["held", "held"], "nobody else sees it as open"
    assert api.post(f"{path}/{entry['entry_id']}/departure", patient).status_code == 200
    assert api.get(path, patient).json["entries"] == []
