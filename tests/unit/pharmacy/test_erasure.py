"""§32: what is shown of a prescription once its patient is erased: that it was, not what it said."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.unit.pharmacy.test_http import DOCTOR, HIS, PATIENT, PHARMACIST, client, get, stage, world
from tests.unit.pharmacy.world import OpenSealer, World

__all__ = ["client", "stage", "world"]


@pytest.mark.parametrize(("path", "who", "status"), [
    ("/visits/v1/prescriptions", DOCTOR, 200),
    ("/prescriptions/rx1", PHARMACIST, 200),
    ("/prescriptions/rx1", PATIENT, 200),
    ("/prescriptions/rx1/evidence", PHARMACIST, 200),
    ("/prescriptions/rx1/parcel", PATIENT, 200),
    ("/prescriptions/rx1/sheet.pdf", PHARMACIST, 404),
    ("/internal/prescriptions/rx1", HIS, 200),
])  # fmt: skip
def test_32_an_erased_patients_prescription(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, who: str, status: int
) -> None:
    world.hand_over()

    def erased(*_: Any) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(OpenSealer, "open", erased)
    answer = get(client, who, path)
    assert answer.status_code == status
    assert not [word for word in ("咳嗽", "19900000001", "张秀英", "海淀区") if word in answer.text]
