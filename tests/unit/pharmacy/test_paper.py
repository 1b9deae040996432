"""The sheet on paper (§20, §22): what stands on it, who gets it, and where its QR code leads."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace
from datetime import date, timedelta

import pytest
import segno
from flask.testing import FlaskClient

from services.pharmacy.domain.prescription import Confirmation
from services.pharmacy.events import PrescriptionSigned
from services.pharmacy.paper import Person, pdf, verification_url
from tests.unit.pharmacy.given import issued, prescription, voided
from tests.unit.pharmacy.test_http import DOCTOR, HIS, OTHER_DOCTOR, PATIENT, PHARMACIST, STRANGER, get
from tests.unit.pharmacy.test_safety import ASPIRIN, BOTH, WARFARIN, piece, tablet, write
from tests.unit.pharmacy.world import Stage, World

ZHANG = Person("张秀英", "female", date(1968, 11, 24))
PUBLIC = "https://fuzhen.example"


def words(content: bytes) -> str:
    """All text of a PDF of ours: its Chinese font is written as UTF-16."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        page = zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))
        for shown in re.findall(rb"\(((?:\\.|[^\\)])*)\) Tj", page, re.DOTALL):
            raw = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), shown)
            raw = re.sub(rb"\\(.)", rb"\1", raw, flags=re.DOTALL)
            found.append(raw.decode("utf-16-be", "replace"))
    return "".join(found)


def paper(signed: PrescriptionSigned, *after: object, person: Person = ZHANG) -> str:
    content = pdf(prescription(signed, *after), person, "沈怀远", PUBLIC)
    assert content.startswith(b"%PDF-")
    return words(content)


def test_a_western_sheet_says_everything_that_was_signed() -> None:  # §20, §25
    made = write(
        tablet(WARFARIN), tablet(ASPIRIN, "400", "mg"), second=Confirmation("机械瓣术后", BOTH), allergies=["海鲜"]
    )
    text = paper(made, issued)
    for word in (
        "西药、中成药", "张秀英", "女", "58岁", "咳嗽", "海鲜", "华法林钠片", "每次400mg", "超过上限300mg",
        "出血风险增加", "机械瓣术后", "沈怀远", f"{made.amount_fen / 100:.2f}", "2026-11-24 09:50", "2026-11-27 09:50",
        made.content_sha256,
    ):  # fmt: skip
        assert word.replace(" ", "") in text.replace(" ", ""), word
    assert "不得调配" not in text


def test_a_herbal_sheet_says_doses_decoction_and_how_each_piece_is_boiled() -> None:  # §25
    text = paper(write(piece("黄芪", 15), piece("附子", 9), kind="herbal"), issued)
    for word in ("中药饮片", "黄芪15g", "附子9g(先煎)", "共7剂", "自煎", "水煎服"):
        assert word in text.replace(" ", ""), word


@pytest.mark.parametrize(("after", "stamp"), [((), "未经药师审核"), ((voided,), "已作废"), ((issued,), None)])
def test_what_is_not_in_effect_says_so(after: tuple[object, ...], stamp: str | None) -> None:  # §24
    text = paper(write(tablet("W001")), *after)
    assert (stamp or "沈怀远") in text


@pytest.mark.parametrize(("born", "age"), [(date(1968, 11, 24), "58岁"), (date(1968, 11, 25), "57岁"), (None, "—")])
def test_the_age_is_that_of_the_day_of_signing(born: date | None, age: str) -> None:
    assert f"年龄:{age}" in paper(write(tablet("W001")), issued, person=Person("张秀英", None, born))


def test_who_was_erased_has_no_name_on_it_and_no_sheet_without_its_medical_part() -> None:  # §31
    assert "(已删除)" in paper(write(tablet("W001")), issued, person=Person(None))
    with pytest.raises(ValueError, match="nothing is left"):
        pdf(prescription(replace(write(tablet("W001")), sheet=None)), ZHANG, None, PUBLIC)


def test_markup_in_what_people_type_is_text() -> None:
    text = paper(write(tablet("W001"), diagnosis="<b>咳嗽</b> & <img src=x>"), issued)
    assert "<img src=x>" in text


def test_the_code_holds_the_way_to_verify_and_names_nobody() -> None:  # §31
    made = write(tablet("W001"))
    url = verification_url(PUBLIC + "/", made)
    assert url == f"{PUBLIC}/api/pharmacy/prescriptions/rx1/verification?content_sha256={made.content_sha256}"
    assert segno.make(url, error="m", micro=False).version <= 15  # still read from 26 mm of paper


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.world = World()
    return made


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    return stage.app.test_client()


def test_who_may_print_it(stage: Stage, client: FlaskClient) -> None:  # §22, §24, §31
    world = stage.world
    world.book()
    world.accept()
    world.sign()
    path = "/prescriptions/rx1/sheet.pdf"
    before = {who: get(client, who, path).status_code for who in (PATIENT, DOCTOR, PHARMACIST, HIS, STRANGER)}
    assert before == {PATIENT: 409, DOCTOR: 200, PHARMACIST: 200, HIS: 404, STRANGER: 404}
    world.review()
    for who in (PATIENT, DOCTOR, PHARMACIST, HIS):
        answer = get(client, who, path)
        assert (answer.status_code, answer.mimetype) == (200, "application/pdf")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "张秀英" in words(answer.data)
    assert {get(client, who, path).status_code for who in (STRANGER, OTHER_DOCTOR)} == {404}


def test_the_paper_is_verified_by_its_hash_alone(stage: Stage, client: FlaskClient) -> None:  # §24, §31
    world = stage.world
    world.issue()
    sha = world.handlers.prescription("rx1").facts.content_sha256
    found = get(client, STRANGER, f"/prescriptions/rx1/verification?content_sha256={sha}").json
    assert found is not None
    assert (found["state"], found["signature_holds"]) == ("issued", True)
    assert set(found) == {
        "prescription_id", "state", "content_sha256", "signature_holds", "signed_at", "valid_until",
    }  # fmt: skip
    other = "0" * 64
    assert get(client, STRANGER, f"/prescriptions/rx1/verification?content_sha256={other}").status_code == 404
    assert get(client, STRANGER, f"/prescriptions/rx9/verification?content_sha256={sha}").status_code == 404
    assert get(client, STRANGER, "/prescriptions/rx1/verification").status_code == 422
    world.clock.advance(timedelta(days=3))
    world.unpaid()
    again = get(client, STRANGER, f"/prescriptions/rx1/verification?content_sha256={sha}").json
    assert again is not None
    assert again["state"] == "expired"
