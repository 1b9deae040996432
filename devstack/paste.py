"""After `make up`: where things are, and a `curl` that books a visit when pasted into a terminal.

The patient, the doctor's session and the login that it needs are made here; the token in it holds for 15 minutes.
"""

import json
import shlex
import sys
from datetime import timedelta

import requests

from devstack import places, ports
from devstack.story.cast import CONDITION, at_the_hospital, doctors, log_in, new_phone, open_session, sign_up
from devstack.story.stage import Stage, StoryFailed
from eventkit.clock import rfc3339, shanghai_day
from eventkit.ids import new_id


def main() -> int:
    stage = Stage.of(places.home(), ports.base())
    try:
        command = booking(stage)
    except (StoryFailed, AssertionError, requests.RequestException) as error:
        print(f"✘ no patient could be made: {error}", file=sys.stderr)
        return 1
    print(f"""
  gateway            {ports.url("gateway")}/api/…
  OpenAPI            {ports.url("gateway")}/api/registration/openapi.json (and eligibility, consult, pharmacy, payment)
  Kafka, MongoDB     {ports.HOST}:{ports.port("kafka")}, {ports.HOST}:{ports.port("mongo")}
  text messages      {ports.url("sms")}/sandbox/messages
  logs, state, end   make logs s=payment, make status, make down

Book a visit (a patient and a doctor's session are ready; the token holds for 15 minutes):

{command}
""")
    return 0


def booking(stage: Stage) -> str:
    phone = new_phone()
    patient_api = log_in(stage, phone)
    patient = sign_up(stage, patient_api, at_the_hospital(stage), phone)
    session_id, slot_id = open_slot(stage)
    body = {
        "patient_id": patient.patient_id,
        "card_id": patient.card_id,
        "session_id": session_id,
        "slot_id": slot_id,
        "entrance": "mini_program",
        "notice_version": patient_api.get("/api/registration/notice").json()["version"],
        "condition": CONDITION,
        "photo_ids": [],
    }
    lines = [
        f"curl -i {ports.url('gateway')}/api/registration/visits",
        f"-H 'Authorization: Bearer {patient_api.token}'",
        f"-H 'Idempotency-Key: {new_id()}'",
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
    ]
    return " \\\n  ".join(lines)


def open_slot(stage: Stage) -> tuple[str, str]:
    """A slot on sale from an earlier `make up`, or the first one of a session opened now: (session id, slot id)."""
    doctor, now = doctors()[0], stage.clock.now()
    for day in (now, now + timedelta(days=1)):
        wanted = {"doctor_id": doctor["doctor_id"], "day": shanghai_day(day).isoformat()}
        for session in stage.api().get("/api/registration/sessions", **wanted).json()["sessions"]:
            for slot in session["slots"]:
                if slot["state"] == "open" and slot["starts_at"] > rfc3339(now + timedelta(minutes=5)):
                    return session["session_id"], slot["slot_id"]
    opened = open_session(stage, doctor)
    return opened.session_id, opened.slots[0]


if __name__ == "__main__":
    sys.exit(main())
