"""The people of the stories. Nobody here exists: the HIS sandbox makes them up, with ID numbers of no district."""

from __future__ import annotations

import io
import json
import random
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from PIL import Image, ImageDraw

from devstack.places import REPO
from devstack.story.stage import Api, Stage, instant
from eventkit.clock import shanghai_day

DIRECTORY = REPO / "services" / "registration" / "sample" / "directory.json"
CONDITION = {
    "chief_complaint": "慢性胃炎复诊,饭后胃胀",
    "present_illness": "服中药一月,胃胀减轻,纳可,夜眠安",
    "past_history": "慢性非萎缩性胃炎三年",
    "allergies": "无",
    "follow_up": True,
    "stable": True,
    "emergency": False,
}


@dataclass
class Patient:
    """A patient with the account that manages them and the card they pay with."""

    api: Api
    patient_id: str
    card_id: str
    name: str
    phone: str


@dataclass
class Session:
    """A half-day that a doctor opened."""

    doctor: Api
    doctor_id: str
    department_id: str
    session_id: str
    slots: list[str]


_phones = random.SystemRandom()
_lock = threading.Lock()


def new_phone() -> str:
    with _lock:
        return f"199{_phones.randrange(10**8):08d}"


def log_in(stage: Stage, phone: str) -> Api:
    """By phone and one-time code; the code is read off the phone, that is: from the SMS sandbox (§7). Who has logged in
    stays so: codes are limited, and a run is shorter than a token's life."""
    if phone in stage.tokens:
        return stage.api(stage.tokens[phone])
    api = stage.api()
    sms = stage.partner("sms")
    before = len(sms.get("/sandbox/messages", phone=phone).json()["messages"])
    answer = api.post("/api/registration/login-codes", {"phone": phone})
    assert answer.status_code in (200, 202, 204), answer.text
    messages = stage.until(
        "the code arrives by SMS",
        lambda: sms.get("/sandbox/messages", phone=phone).json()["messages"][before:],
    )
    code = messages[-1]["params"]["code"]
    token = api.post("/api/registration/tokens", {"grant": "code", "phone": phone, "code": code})
    assert token.status_code in (200, 201), token.text
    api.token = stage.tokens[phone] = token.json()["access_token"]
    return api


def at_the_hospital(stage: Stage, **person: Any) -> dict[str, Any]:
    """Somebody the hospital has treated: known to the HIS, with a card, and by default a visit 30 days ago."""
    answer = stage.partner("his").post("/sandbox/people", person)
    assert answer.status_code == 201, answer.text
    known: dict[str, Any] = answer.json()
    return known


def sign_up(stage: Stage, api: Api, person: dict[str, Any], phone: str, guardian: Any = None) -> Patient:
    """Add a real-name patient and bind the card that the hospital knows (§7, §8)."""
    body = {"name": person["name"], "id_number": person["id_number"], "phone": phone, "relation": "self"}
    if guardian:
        body |= {"relation": "child", "guardian": guardian}
    added = api.post("/api/registration/patients", body)
    assert added.status_code == 201, added.text
    patient_id = added.json()["patient_id"]
    card = person["cards"][0]
    bound = api.post(
        f"/api/registration/patients/{patient_id}/cards", {"card_no": card["card_no"], "kind": card_form(card)}
    )
    assert bound.status_code == 201, bound.text
    return Patient(api, patient_id, bound.json()["card_id"], person["name"], phone)


def card_form(card: dict[str, Any]) -> str:
    return str(card.get("kind") or ("visit_card" if card["card_kind"] == "uninsured" else "insurance_card"))


def doctors() -> list[dict[str, Any]]:
    return list(json.loads(DIRECTORY.read_text(encoding="utf-8"))["doctors"])


def log_in_as(stage: Stage, role: str) -> Api:
    """A pharmacist, cashier or operator of the sample directory."""
    members = json.loads(DIRECTORY.read_text(encoding="utf-8"))["staff"]
    return log_in(stage, next(member["phone"] for member in members if member["role"] == role))


def open_session(stage: Stage, doctor: dict[str, Any], slots: int = 6) -> Session:
    """The doctor opens this day's session, ten minutes a slot, from an hour ahead."""
    api = log_in(stage, doctor["phone"])
    starts = stage.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    opened = api.post("/api/registration/sessions", {
        "doctor_id": doctor["doctor_id"],
        "department_id": doctor["department_ids"][0],
        "starts_at": instant(starts),
        "ends_at": instant(starts + timedelta(minutes=10 * slots)),
        "slot_minutes": 10,
    })
    assert opened.status_code == 201, opened.text
    session_id = opened.json()["session_id"]
    shown = stage.until(
        "the session is on sale",
        lambda: (r := api.get(f"/api/registration/sessions/{session_id}")).status_code == 200 and r.json(),
    )
    return Session(
        api, doctor["doctor_id"], doctor["department_ids"][0], session_id, [slot["slot_id"] for slot in shown["slots"]]
    )


def tongue_photo() -> bytes:
    """A real JPEG of a drawn tongue (§10)."""
    image = Image.new("RGB", (640, 480), (92, 48, 44))
    draw = ImageDraw.Draw(image)
    draw.ellipse((180, 60, 460, 440), fill=(201, 112, 116))
    draw.ellipse((230, 110, 410, 380), fill=(224, 205, 192))
    draw.line((320, 120, 320, 400), fill=(170, 90, 94), width=4)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=88)
    return content.getvalue()


def today(stage: Stage) -> str:
    return shanghai_day(stage.clock.now()).isoformat()
