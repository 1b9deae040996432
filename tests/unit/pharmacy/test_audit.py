"""§31 in the pharmacy: each way to a prescription leaves a line, and none answers without it."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.errors import AutoReconnect

from tests.unit.pharmacy.test_http import DOCTOR, HIS, PATIENT, PHARMACIST, STRANGER, client, get, stage, world
from tests.unit.pharmacy.world import World

__all__ = ["client", "stage", "world"]


@pytest.mark.parametrize(("path", "who", "kind"), [
    ("/visits/v1/prescriptions", DOCTOR, "prescriptions"),
    ("/prescriptions/rx1", PHARMACIST, "prescription"),
    ("/prescriptions/rx1/evidence", DOCTOR, "prescription"),
    ("/prescriptions/rx1/parcel", PATIENT, "prescription"),
    ("/prescriptions/rx1/sheet.pdf", HIS, "prescription"),
    ("/internal/prescriptions/rx1", HIS, "prescription"),
])  # fmt: skip
def test_31_every_read_is_audited_or_not_answered(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, who: str, kind: str
) -> None:
    world.hand_over()
    assert get(client, who, path).status_code == 200
    [line] = world.trail.lines
    role, _, subject = who.partition(":")
    assert line["who"] == {"subject": subject, "roles": [role]}
    assert (line["patient_id"], line["account_id"], line["what"]["kind"]) == ("p1", "a1", kind)

    def broken(lines: Any) -> None:
        raise AutoReconnect("no primary")

    monkeypatch.setattr(world.trail, "insert", broken)
    assert get(client, who, path).status_code == 503


def test_31_the_account_sees_who_read(world: World, client: FlaskClient) -> None:
    world.hand_over()
    get(client, PHARMACIST, "/prescriptions/rx1")
    assert get(client, STRANGER, "/prescriptions/rx1").status_code == 404
    [reading] = get(client, PATIENT, "/patients/p1/readings").json["readings"]  # type: ignore[index]
    assert (reading["roles"], reading["record_id"]) == (["pharmacist"], "rx1")
    assert get(client, STRANGER, "/patients/p1/readings").status_code == 404
