"""What several stories have in common: booking, paying, accepting, prescribing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from devstack.story.cast import (
    CONDITION,
    Patient,
    Session,
    at_the_hospital,
    doctors,
    log_in,
    new_phone,
    open_session,
    sign_up,
    tongue_photo,
)
from devstack.story.stage import Stage, StoryFailed, yuan
from eventkit.clock import SHANGHAI, day_end, shanghai_day


@dataclass
class Visit:
    patient: Patient
    session: Session
    visit_id: str
    slot_id: str


def a_new_morning(stage: Stage) -> None:
    """Each story begins at eight in the morning of a day of its own."""
    today = shanghai_day(stage.clock.now())
    eight = datetime(today.year, today.month, today.day, 8, tzinfo=SHANGHAI) + timedelta(days=1)
    stage.move_clock(eight, "a new morning")


def a_patient(stage: Stage, **person: Any) -> Patient:
    known = at_the_hospital(stage, **person)
    phone = new_phone()
    api = log_in(stage, phone)
    patient = sign_up(stage, api, known, phone)
    stage.tell("patient", "signs up, adds a real-name patient, binds the card the hospital knows (§7, §8)",
               f"→ {known['cards'][0]['card_kind']}")
    return patient


def a_session(stage: Stage, doctor: int = 0) -> Session:
    session = open_session(stage, doctors()[doctor])
    stage.tell("doctor", f"opens a session of {len(session.slots)} slots (§9)", f"→ {doctors()[doctor]['title']}")
    return session


def booking(stage: Stage, patient: Patient, session: Session, slot: int = 0, photos: list[str] | None = None) -> Any:
    notice = patient.api.get("/api/registration/notice").json()
    return patient.api.post("/api/registration/visits", {
        "patient_id": patient.patient_id,
        "card_id": patient.card_id,
        "session_id": session.session_id,
        "slot_id": session.slots[slot],
        "entrance": "mini_program",
        "notice_version": notice["version"],
        "condition": CONDITION,
        "photo_ids": photos or [],
    })


def books(stage: Stage, patient: Patient, session: Session, slot: int = 0) -> Visit:
    photo = stage.asked(
        "patient", "uploads a tongue photo (§10)",
        patient.api.post(
            f"/api/registration/patients/{patient.patient_id}/photos", data=tongue_photo(), kind="image/jpeg"
        ),
        201, "stored, sealed",
    )
    held = stage.asked(
        "patient", "picks a slot, confirms the notice, describes the condition (§4, §9, §10)",
        booking(stage, patient, session, slot, [photo["photo_id"]]), 201, "the slot is held",
    )
    stage.heard(held["visit_id"], "EligibilityGranted", "VisitRequested", "PaymentRequested")
    return Visit(patient, session, held["visit_id"], session.slots[slot])


def order_of(stage: Stage, visit: Visit, kind: str, state: str | None = None) -> dict[str, Any]:
    """The visit's order of a kind, once it is there (and in a state)."""

    def look() -> Any:
        response = visit.patient.api.get(f"/api/payment/visits/{visit.visit_id}/orders")
        orders = response.json().get("orders", []) if response.status_code == 200 else []
        return next((o for o in orders if o["kind"] == kind and state in (None, o["state"])), None)

    found: dict[str, Any] = stage.until(f"the {kind} order {state or ''}", look)
    return found


def pays(stage: Stage, visit: Visit, kind: str) -> dict[str, Any]:
    """Prepay through our API, then the phone pays at WeChat Pay; the notice and the insurer do the rest (§11, §13)."""
    order = order_of(stage, visit, kind)
    legs = " + ".join(f"{yuan(leg['amount_fen'])} {leg['leg']}" for leg in order["legs"])
    prepay = stage.asked(
        "patient", f"pays {yuan(order['amount_fen'])} = {legs} (§12, §13)" if kind == "visit_fee"
        else f"pays {yuan(order['amount_fen'])} for the drugs (§21)",
        visit.patient.api.post(f"/api/payment/orders/{order['order_id']}/prepay", {"channel": "jsapi"}), 200, "prepay",
    )
    stage.asked(
        "patient", "confirms on the phone, at WeChat Pay",
        stage.partner("wechatpay").post("/sandbox/pay", {"prepay_id": prepay["prepay_id"]}), 200, "charged",
    )
    stage.heard_of(visit.visit_id, "PaymentCaptured", order["order_id"])
    return order_of(stage, visit, kind, "paid")


def booked(stage: Stage, doctor: int = 0) -> Visit:
    """A visit that is paid and waits for its doctor."""
    session = a_session(stage, doctor)
    visit = books(stage, a_patient(stage), session)
    pays(stage, visit, "visit_fee")
    stage.heard(visit.visit_id, "VisitBooked", "ConsultScheduled")
    return visit


def accepts(stage: Stage, visit: Visit) -> None:
    doctor = visit.session.doctor
    stage.until(
        "the visit is in the doctor's queue",
        lambda: doctor.get(f"/api/consult/visits/{visit.visit_id}").status_code == 200,
    )
    stage.asked(
        "doctor", "accepts the visit on its day (§18)",
        doctor.post(f"/api/consult/visits/{visit.visit_id}/acceptance"), 200, "accepted",
    )
    stage.heard(visit.visit_id, "ConsultAccepted")


def prescribes(stage: Stage, visit: Visit, pharmacist: Any) -> dict[str, Any]:
    """The doctor signs, the pharmacist passes: the prescription is in effect (§20, §24)."""
    drug = doctor_picks(stage, visit)
    dosing = {"amount": f"{drug['max_single'] / 2:g}", "unit": drug["limit_unit"], "times_per_day": 1, "days": 28}
    lines = [{"drug_code": drug["drug_code"], "quantity": 2, "usage": "口服", "dosing": dosing}]
    signed = stage.until(
        "the pharmacy knows that the doctor accepted",
        lambda: (
            r := visit.session.doctor.post(
                f"/api/pharmacy/visits/{visit.visit_id}/prescriptions",
                {"kind": drug["kind"], "lines": lines, "diagnosis": "慢性胃炎"},
            )
        ).status_code
        not in (404, 409)
        and r,
    )
    sheet: dict[str, Any] = stage.asked("doctor", "signs a prescription (§24)", signed, 201, "signed")
    stage.heard(visit.visit_id, "PrescriptionSigned")
    stage.asked(
        "pharmacist", "reviews it (§24)",
        pharmacist.post(f"/api/pharmacy/prescriptions/{sheet['prescription_id']}/review", {"outcome": "pass"}),
        200, "passed",
    )
    stage.heard(visit.visit_id, "PrescriptionIssued")
    stage.heard_of(visit.visit_id, "PaymentRequested", f"rx-{sheet['prescription_id']}")
    return sheet


def doctor_picks(stage: Stage, visit: Visit) -> dict[str, Any]:
    drugs = visit.session.doctor.get("/api/pharmacy/drugs").json()["drugs"]
    picked: dict[str, Any] = next(drug for drug in drugs if drug["kind"] == "western")
    return picked


def refunded(stage: Stage, visit: Visit, reason: str, order_id: str | None = None) -> None:
    """Derived, requested, and back leg by leg (§16): exactly what was captured."""
    order_id = order_id or f"fee-{visit.visit_id}"
    captured = stage.heard_of(visit.visit_id, "PaymentCaptured", order_id)
    due = stage.heard_of(visit.visit_id, "RefundDue", order_id)
    stage.heard_of(visit.visit_id, "RefundRequested", order_id)
    done = stage.heard_of(visit.visit_id, "RefundSucceeded", order_id)
    legs = [sorted(map(str, event.data["legs"])) for event in (captured, due, done)]
    if due.data["reason"] != reason or not legs[0] == legs[1] == legs[2]:
        raise StoryFailed(f"{order_id}: due for {due.data['reason']}; captured, due and refunded: {legs}")
    shown = " + ".join(f"{yuan(leg['amount_fen'])} {leg['leg']}" for leg in done.data["legs"])
    stage.tell("system", "refunded exactly what was paid, leg by leg (§16)", shown)


def slot_is_back(stage: Stage, visit: Visit) -> None:
    def state() -> Any:
        shown = visit.patient.api.get(f"/api/registration/sessions/{visit.session.session_id}").json()
        return next(s["state"] for s in shown["slots"] if s["slot_id"] == visit.slot_id) == "open"

    stage.until("the slot is back on sale", state)
    stage.tell("check", "the slot is back on sale", "✔")


def the_day_ends(stage: Stage) -> None:
    stage.move_clock(day_end(shanghai_day(stage.clock.now())) + timedelta(milliseconds=1), "the day ends")
