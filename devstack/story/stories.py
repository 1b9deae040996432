"""The seven stories, each from the guide, each playable alone."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from devstack import ports
from devstack.story import scenes
from devstack.story.cast import at_the_hospital, log_in, log_in_as, new_phone, sign_up
from devstack.story.scenes import Visit
from devstack.story.stage import Stage, StoryFailed, yuan

Story = Callable[[Stage], None]


def booked_and_delivered(stage: Stage) -> None:
    """From «may I book online?» to «the parcel arrived»."""
    visit = scenes.booked(stage)
    stage.asked(
        "patient", "writes before the doctor comes (§17)",
        visit.patient.api.post(
            f"/api/consult/visits/{visit.visit_id}/messages", {"kind": "text", "text": "医生您好,胃胀好多了"}
        ),
        201, "posted",
    )
    scenes.accepts(stage, visit)
    asyncio.run(_talk(stage, visit))
    pharmacist = log_in_as(stage, "pharmacist")
    sheet = scenes.prescribes(stage, visit, pharmacist)
    couriers = visit.patient.api.get("/api/pharmacy/couriers").json()["couriers"]
    stage.asked(
        "patient", f"chooses {couriers[0]['name']}, gives address and phone (§21)",
        visit.patient.api.post(
            f"/api/pharmacy/prescriptions/{sheet['prescription_id']}/delivery",
            {
                "courier": couriers[0]["courier"], "recipient": visit.patient.name, "phone": new_phone(),
                "address": "北京市海淀区某路1号",
            },
        ),
        200, "the fee is the courier's, paid on receipt",
    )
    stage.heard(visit.visit_id, "DeliveryChosen")
    order = scenes.pays(stage, visit, "prescription")
    handed = stage.heard(visit.visit_id, "CourierDispatchDue", "ParcelHandedOver", "PrescriptionDispensed")[1]
    tracking = handed.data["tracking_no"]
    courier = stage.partner("courier")
    stage.asked(
        "courier", "takes the parcel on its way",
        courier.post(f"/sandbox/orders/{tracking}/advance", {"to": "in_transit"}), 200, "in transit",
    )
    stage.heard(visit.visit_id, "ParcelMoved")
    stage.asked(
        "courier", "brings it to the door, and collects the courier's fee there (§21)",
        courier.post(f"/sandbox/orders/{tracking}/advance", {"to": "delivered"}), 200, "delivered",
    )
    [delivered] = stage.heard(visit.visit_id, "ParcelDelivered")
    with stage.checking("the courier collected its own fee, which is in no order of ours (§21)"):
        assert delivered.data["courier_fee_fen"] > 0
        assert order["amount_fen"] == sheet["amount_fen"]
    parcel = visit.patient.api.get(f"/api/pharmacy/prescriptions/{sheet['prescription_id']}/parcel").json()
    with stage.checking("the patient sees the parcel delivered"):
        assert parcel["state"] == "delivered", parcel
    stage.asked(
        "doctor", "finishes the visit, with its record (§28)",
        visit.session.doctor.post(
            f"/api/consult/visits/{visit.visit_id}/finish",
            {
                "complaint": "胃胀复诊", "present_illness": "较前减轻", "diagnosis": "慢性胃炎",
                "advice": "清淡饮食,一月后线下复查",
            },
        ),
        200, "finished",
    )
    stage.heard(visit.visit_id, "ConsultFinished", "FeeDecomposed")


async def _talk(stage: Stage, visit: Visit) -> None:
    """Both ways, live through the gateway (§17); then by HTTP, the same."""
    url = f"ws://{ports.HOST}:{ports.port('gateway', stage.base)}/api/consult/visits/{visit.visit_id}/live?after=0"
    patient = {"Authorization": f"Bearer {visit.patient.api.token}"}
    doctor = {"Authorization": f"Bearer {visit.session.doctor.token}"}
    async with (
        connect(url, additional_headers=patient, proxy=None) as at_home,
        connect(url, additional_headers=doctor, proxy=None) as in_practice,
    ):
        async with asyncio.timeout(20):
            await _say(in_practice, at_home, "您好,最近食欲怎样?")
            await _say(at_home, in_practice, "食欲好转,夜里不痛了")
    stage.tell("both", "talk live over WebSocket through the gateway (§17)", "→ each hears the other")
    page = stage.asked(
        "patient", "reads the message page by HTTP",
        visit.patient.api.get(f"/api/consult/visits/{visit.visit_id}/messages", after=0), 200, "the same messages",
    )
    with stage.checking("messages are numbered without a gap"):
        assert [message["number"] for message in page["messages"]] == list(range(1, len(page["messages"]) + 1))
        assert len(page["messages"]) >= 3
    stage.heard(visit.visit_id, "MessagePosted")


async def _say(speaker: ClientConnection, listener: ClientConnection, text: str) -> None:
    await speaker.send(json.dumps({"kind": "text", "text": text, "key": uuid.uuid4().hex}))
    async for frame in speaker:
        answer = json.loads(frame)
        if answer["type"] == "problem":
            raise StoryFailed(f"a message was refused: {answer}")
        if answer["type"] == "ack":
            break
    async for frame in listener:
        if json.loads(frame).get("text") == text:
            return


def missed(stage: Stage) -> None:
    """The day ends without acceptance: withdrawn and refunded by the system, unasked (§18)."""
    visit = scenes.booked(stage)
    scenes.the_day_ends(stage)
    stage.heard(visit.visit_id, "ConsultMissed", "VisitWithdrawn")
    scenes.refunded(stage, visit, "missed")
    stage.heard(visit.visit_id, "DecompositionReversed")
    scenes.slot_is_back(stage, visit)
    _told(stage, visit, "withdrawn")


def declined(stage: Stage) -> None:
    """The doctor judges the condition unsuitable for online care: withdrawn and refunded (§19)."""
    visit = scenes.booked(stage, doctor=1)
    scenes.accepts(stage, visit)
    stage.asked(
        "doctor", "declines: unsuitable for online care (§19)",
        visit.session.doctor.post(
            f"/api/consult/visits/{visit.visit_id}/decline", {"reason": "unsuitable", "note": "需面诊触诊"}
        ),
        200, "declined",
    )
    stage.heard(visit.visit_id, "ConsultDeclined", "VisitWithdrawn")
    scenes.refunded(stage, visit, "declined")
    _told(stage, visit, "withdrawn")


def expired(stage: Stage) -> None:
    """A prescription not paid for three days; the payment that arrives all the same is refunded (§16, §23)."""
    visit = scenes.booked(stage)
    scenes.accepts(stage, visit)
    sheet = scenes.prescribes(stage, visit, log_in_as(stage, "pharmacist"))
    order = scenes.order_of(stage, visit, "prescription")
    stage.asked(
        "patient", "opens the payment and puts the phone away",
        visit.patient.api.post(f"/api/payment/orders/{order['order_id']}/prepay", {"channel": "jsapi"}), 200, "prepay",
    )
    wechat = stage.partner("wechatpay")
    trade = wechat.get("/sandbox/books").json()["trades"][-1]["out_trade_no"]
    stage.move_clock(
        datetime.fromisoformat(sheet["valid_until"]) + timedelta(milliseconds=1), "three days pass unpaid"
    )
    stage.heard(visit.visit_id, "PaymentExpired", "PrescriptionExpired")
    again = visit.patient.api.post(f"/api/payment/orders/{order['order_id']}/prepay", {"channel": "jsapi"})
    stage.asked("patient", "wants to pay after all (§23)", again, 409, code="payment_expired")
    wechat.post("/sandbox/misbehave", {"kind": "capture_after_close", "target": trade})
    stage.asked(
        "wechatpay", "charges an order that was closed: it happens",
        wechat.post("/sandbox/pay", {"out_trade_no": trade}), 200, "late capture",
    )
    scenes.refunded(stage, visit, "expired", order["order_id"])
    stage.never_heard(visit.visit_id, "CourierDispatchDue", "PrescriptionDispensed")
    stage.tell("check", "nothing was dispensed", "✔")


def offline(stage: Stage) -> None:
    """Settled at the hospital's desk, where insurance applies; the HIS reports it on its topic (§15, §22)."""
    visit = scenes.booked(stage)
    scenes.accepts(stage, visit)
    sheet = scenes.prescribes(stage, visit, log_in_as(stage, "pharmacist"))
    stage.heard(visit.visit_id, "OfflineSettlementOpened")
    fund = sheet["amount_fen"] * 7 // 10
    settled = stage.until(
        "the desk settles",
        lambda: (
            r := stage.partner("his").post("/sandbox/desk/settlements", {
                "prescription_id": sheet["prescription_id"],
                "visit_id": visit.visit_id,
                "amount_fen": sheet["amount_fen"],
                "legs": [
                    {"leg": "fund", "amount_fen": fund},
                    {"leg": "cash", "amount_fen": sheet["amount_fen"] - fund},
                ],
            })
        ).status_code
        < 500
        and r,
    )
    stage.asked(
        "desk", "prints the prescription, settles with insurance (§22)", settled, 201, f"{yuan(fund)} by the fund"
    )
    stage.heard(
        visit.visit_id, "PrescriptionSettled", "OrderSettledOffline", "OfflineSettlementClosed", "PrescriptionDispensed"
    )
    order = scenes.order_of(stage, visit, "prescription")
    stage.asked(
        "patient", "tries to pay online as well: both ways at once are impossible (§23)",
        visit.patient.api.post(f"/api/payment/orders/{order['order_id']}/prepay", {"channel": "jsapi"}),
        409, code="settled_offline",
    )


def refused(stage: Stage) -> None:
    """Who may not book is told why, and what to do instead (§1, §2, §5); an unpaid hold ends (§10)."""
    session = scenes.a_session(stage)
    guardian = at_the_hospital(stage)
    for who, person, code in (
        ("child of 5", {"age": 5}, "too_young"),
        ("long away", {"visits": [{"days_ago": 215}]}, "no_recent_visit"),
    ):
        known = at_the_hospital(stage, **person)
        phone = new_phone()
        mother = {
            "name": guardian["name"], "id_number": guardian["id_number"], "phone": phone, "relation": "parent",
            "consents": True,
        }
        patient = sign_up(stage, log_in(stage, phone), known, phone, guardian=mother if "age" in person else None)
        answer = stage.asked(
            who, "wants to book (§1, §2, §5)", scenes.booking(stage, patient, session), 422, code="not_eligible"
        )
        with stage.checking(f"the refusal names the rule ({code}), a sentence and the next step (§5)"):
            [failed] = answer["failed"]
            assert failed["code"] == code, failed
            assert failed["detail"]
            assert failed["next"]
    visit = scenes.books(stage, scenes.a_patient(stage), session)
    order = scenes.order_of(stage, visit, "visit_fee")
    stage.move_clock(
        datetime.fromisoformat(order["expires_at"]) + timedelta(milliseconds=1), "the hold ends unpaid (§10)"
    )
    stage.heard(visit.visit_id, "PaymentExpired", "VisitLapsed")
    stage.asked(
        "patient", "pays too late",
        visit.patient.api.post(f"/api/payment/orders/{order['order_id']}/prepay", {"channel": "jsapi"}),
        409, code="payment_expired",
    )
    scenes.slot_is_back(stage, visit)


def rush(stage: Stage, patients: int = 200, families: int = 20) -> None:
    """200 patients for one slot: one winner, 199 clear refusals, one visit (§9)."""
    session = scenes.a_session(stage)

    def family(number: int) -> list[Any]:
        phone = new_phone()
        api = log_in(stage, phone)
        return [sign_up(stage, api, at_the_hospital(stage), phone) for _ in range(patients // families)]

    with ThreadPoolExecutor(8) as pool:
        everybody = [patient for members in pool.map(family, range(families)) for patient in members]
    stage.tell(f"{len(everybody)} people", f"of {families} accounts sign up and wait for the same slot")
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda patient: scenes.booking(stage, patient, session, slot=0), everybody))
    outcomes = Counter((answer.status_code, answer.json().get("code")) for answer in answers)
    stage.tell("everybody", "books at once (§9)", ", ".join(f"{n} × {s} {c or ''}" for (s, c), n in outcomes.items()))
    with stage.checking("one winner, and everybody else a clear refusal"):
        assert outcomes == {(201, None): 1, (409, "slot_taken"): len(everybody) - 1}, outcomes
    winner = next(answer.json()["visit_id"] for answer in answers if answer.status_code == 201)
    stage.heard(winner, "VisitRequested")
    with stage.checking("one visit came of it"):
        visits = stage.listener.of(
            lambda h: h.envelope.name == "VisitRequested" and h.envelope.data["session_id"] == session.session_id
        )
        assert len({heard.envelope.id for heard in visits}) == 1


def _told(stage: Stage, visit: Visit, what: str) -> None:
    """The patient is told by SMS, without being told what for: no medical word in a text message (§31)."""
    sms = stage.partner("sms")
    phone = visit.patient.phone
    stage.until(
        f"the patient is told ({what})",
        lambda: [
            m for m in sms.get("/sandbox/messages", phone=phone).json()["messages"] if what in m["template"]
        ],
    )
    stage.tell("sms", "the patient is told", "✔")


STORIES: dict[str, Story] = {
    "booked-and-delivered": booked_and_delivered,
    "missed": missed,
    "declined": declined,
    "expired": expired,
    "offline": offline,
    "refused": refused,
    "rush": rush,
}
