"""After `make up`: where things are, and a `curl` that books a visit when pasted into a terminal.

The patient, the doctor's session and the login that it needs are made here; the token in it holds for 15 minutes.
"""

import json
import shlex
import sys

import requests

from devstack import places, ports
from devstack.story.cast import CONDITION, at_the_hospital, doctors, log_in, new_phone, open_session, sign_up
from devstack.story.stage import Stage, StoryFailed
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
    session = open_session(stage, doctors()[0])
    body = {
        "patient_id": patient.patient_id,
        "card_id": patient.card_id,
        "session_id": session.session_id,
        "slot_id": session.slots[0],
        "entrance": "wechat_mini_program",
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


if __name__ == "__main__":
    sys.exit(main())
