"""Families with a real visit that has everything (photo, messages, prescription, order, parcel, record); whose every
personal value occurs nowhere else: found elsewhere, it has leaked (§31)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from devstack.story import scenes
from devstack.story.cast import Session, at_the_hospital, log_in, log_in_as, new_phone, sign_up, tongue_photo
from devstack.story.scenes import Visit
from devstack.story.stage import Api, Stage, instant
from tests.e2e.doors import Operation


@dataclass(frozen=True)
class Family:
    """`ids`: by the names that paths use; the session is one of the doctor's that nobody has booked. `values`: what is
    personal, by what it is; every text has the tag in it."""

    api: Api
    doctor: Api
    doctor_id: str
    session: Session
    ids: dict[str, str]
    values: dict[str, str]
    tag: str


def a_family(stage: Stage, tag: str, doctor: int, ends: bool = True) -> Family:
    """`ends`: paid, delivered and finished; otherwise the visit goes on, with a prescription not paid yet."""
    values = {
        "name": f"欧阳{tag}",
        "card_no": f"10{new_phone()[3:]}",
        "phone": new_phone(),
        "complaint": f"慢性胃炎复诊,饭后{tag}样胃胀",
        "illness": f"服药一月,{tag}痛减轻,夜眠安",
        "history": f"{tag}胃炎三年",
        "allergies": f"对{tag}羽过敏",
        "draft": f"再诊,{tag}样嗳气",
        "patient_text": f"医生您好,{tag}痛好多了",
        "doctor_text": f"最近{tag}食欲怎样?",
        "diagnosis": f"慢性{tag}胃炎",
        "usage": f"{tag}汤送服,一日三次",
        "recipient": f"司徒{tag}",
        "delivery_phone": new_phone(),
        "address": f"北京市海淀区{tag}巷7号",
        "record": f"{tag}胃胀较前减轻",
        "advice": f"{tag}饮食,一月后线下复查",
    }
    cards = [{"card_kind": "beijing_insured", "card_no": values["card_no"]}]
    known = at_the_hospital(stage, name=values["name"], cards=cards)
    values["id_number"] = known["id_number"]
    patient = sign_up(stage, log_in(stage, values["phone"]), known, values["phone"])
    api = patient.api
    session = scenes.a_session(stage, doctor)

    photo_id = stage.asked(
        "patient", "uploads a tongue photo (§10)",
        api.post(f"/api/registration/patients/{patient.patient_id}/photos", data=tongue_photo(), kind="image/jpeg"),
        201,
    )["photo_id"]
    held = stage.asked(
        "patient", "books (§10)",
        api.post("/api/registration/visits", {
            "patient_id": patient.patient_id,
            "card_id": patient.card_id,
            "session_id": session.session_id,
            "slot_id": session.slots[0],
            "entrance": "mini_program",
            "notice_version": api.get("/api/registration/notice").json()["version"],
            "condition": {
                "chief_complaint": values["complaint"], "present_illness": values["illness"],
                "past_history": values["history"], "allergies": values["allergies"],
                "follow_up": True, "stable": True, "emergency": False,
            },
            "photo_ids": [photo_id],
        }),
        201,
    )  # fmt: skip
    visit_id = held["visit_id"]
    visit = Visit(patient, session, visit_id, session.slots[0])
    stage.heard(visit_id, "PaymentRequested")
    scenes.pays(stage, visit, "visit_fee")
    stage.heard(visit_id, "VisitBooked", "ConsultScheduled")
    scenes.accepts(stage, visit)
    for who, text in ((api, values["patient_text"]), (session.doctor, values["doctor_text"])):
        said = who.post(f"/api/consult/visits/{visit_id}/messages", {"kind": "text", "text": text})
        stage.asked("both", "talk (§17)", said, 201)
    media = f"/api/consult/visits/{visit_id}/media"
    picture = api.post(media, data=tongue_photo(), kind="application/octet-stream")
    sent = stage.asked("patient", "uploads a picture (§17)", picture, 201)
    shown = api.post(f"/api/consult/visits/{visit_id}/messages", {"kind": "picture", "media_id": sent["media_id"]})
    stage.asked("patient", "sends it", shown, 201)

    drug = scenes.doctor_picks(stage, visit)
    dosing = {"amount": f"{drug['max_single'] / 2:g}", "unit": drug["limit_unit"], "times_per_day": 1, "days": 28}
    line = {"drug_code": drug["drug_code"], "quantity": 2, "usage": values["usage"], "dosing": dosing}
    sheet = {"kind": drug["kind"], "lines": [line], "diagnosis": values["diagnosis"]}
    signing = f"/api/pharmacy/visits/{visit_id}/prescriptions"
    signed = stage.until(
        "the pharmacy knows that the doctor accepted",
        lambda: (answer := session.doctor.post(signing, sheet)).status_code not in (404, 409) and answer,
    )
    prescription_id = stage.asked("doctor", "signs (§24)", signed, 201)["prescription_id"]
    review = f"/api/pharmacy/prescriptions/{prescription_id}/review"
    stage.asked("pharmacist", "passes (§24)", log_in_as(stage, "pharmacist").post(review, {"outcome": "pass"}), 200)
    stage.heard_of(visit_id, "PaymentRequested", f"rx-{prescription_id}")
    delivery = {
        "courier": api.get("/api/pharmacy/couriers").json()["couriers"][0]["courier"],
        "recipient": values["recipient"], "phone": values["delivery_phone"], "address": values["address"],
    }  # fmt: skip
    chosen = api.post(f"/api/pharmacy/prescriptions/{prescription_id}/delivery", delivery)
    stage.asked("patient", "gives the address (§21)", chosen, 200)
    draft = {"patient_id": patient.patient_id, "condition": {"chief_complaint": values["draft"]}}
    begun = stage.asked("patient", "begins a draft (§10)", api.post("/api/registration/drafts", draft), 201)
    if ends:
        _to_the_end(stage, visit, values)
    ids = {
        "patient_id": patient.patient_id,
        "card_id": patient.card_id,
        "photo_id": photo_id,
        "visit_id": visit_id,
        "prescription_id": prescription_id,
        "order_id": f"fee-{visit_id}",
        "refund_id": f"rf-fee-{visit_id}",
        "draft_id": begun["draft_id"],
        "media_id": sent["media_id"],
        "session_id": _another_session(stage, session),
    }
    return Family(api, session.doctor, session.doctor_id, session, ids, values, tag)


def fitting_body(operation: Operation, ids: dict[str, str], family: Family) -> Any:
    """A body that is taken as one, speaking of `ids` where a patient names their own; and never a second visit."""
    body = operation.example
    if str(operation) == "POST /api/registration/visits":
        body = {
            **body, "patient_id": ids["patient_id"], "card_id": ids["card_id"], "photo_ids": [],
            "session_id": family.session.session_id, "slot_id": family.session.slots[0],  # which is taken
            "notice_version": family.api.get("/api/registration/notice").json()["version"],
        }  # fmt: skip
    if str(operation) in ("POST /api/registration/drafts", "POST /api/registration/sessions/{session_id}/waiting"):
        body = {**body, "patient_id": ids["patient_id"]}
    if str(operation) == "POST /api/registration/sessions":
        body = {**body, "starts_at": "2026-01-05T08:00:00+08:00", "ends_at": "2026-01-05T12:00:00+08:00"}
    return body


def is_led_to_by_an_id(operation: Operation) -> bool:
    """Not so: a sheet is verified by its own hash, and of whom nobody has read there are no readings."""
    return not operation.path.endswith(("/verification", "/readings"))


def speaks_of_somebody(operation: Operation) -> bool:
    return bool(operation.names) or str(operation) in ("POST /api/registration/visits", "POST /api/registration/drafts")


def _another_session(stage: Stage, session: Session) -> str:
    starts = stage.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=5)
    opened = session.doctor.post("/api/registration/sessions", {
        "doctor_id": session.doctor_id, "department_id": session.department_id, "starts_at": instant(starts),
        "ends_at": instant(starts + timedelta(minutes=20)), "slot_minutes": 10,
    })  # fmt: skip
    return str(stage.asked("doctor", "opens another session", opened, 201)["session_id"])


def _to_the_end(stage: Stage, visit: Visit, values: dict[str, str]) -> None:
    scenes.pays(stage, visit, "prescription")
    handed = stage.heard(visit.visit_id, "ParcelHandedOver", "PrescriptionDispensed")[0]
    advance = f"/sandbox/orders/{handed.data['tracking_no']}/advance"
    stage.asked("courier", "delivers", stage.partner("courier").post(advance, {"to": "delivered"}), 200)
    stage.heard(visit.visit_id, "ParcelDelivered")
    record = {
        "complaint": values["complaint"], "present_illness": values["record"], "diagnosis": values["diagnosis"],
        "advice": values["advice"], "icd10": "K29.5",
    }  # fmt: skip
    finished = visit.session.doctor.post(f"/api/consult/visits/{visit.visit_id}/finish", record)
    stage.asked("doctor", "finishes (§28)", finished, 200)
    stage.heard(visit.visit_id, "ConsultFinished")
