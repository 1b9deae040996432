"""Signatures that hold without us (§24, §25): made here, verified by openssl, and broken in every way by hand."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from services.pharmacy import authority, cms, evidence
from services.pharmacy.authority import Authority
from services.pharmacy.domain import prescription as prescriptions
from services.pharmacy.domain.prescription import ReviewPrescription, canonical, canonical_review, canonical_second
from services.pharmacy.events import Finding, PrescriptionSigned, SecondSignature, Sheet
from services.pharmacy.signatures import holds, pen
from tests.unit.pharmacy.given import DOCTOR, PHARMACIST, SOON, booked, prescription, signed

FOUND = Finding("overdose:W007", "overdose", "超量", "too much")
CONTENT = '{"diagnosis":"咳嗽"}'.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ca")
    authority.make(made)
    return made


@pytest.fixture(scope="module")
def ca(folder: Path) -> Authority:
    return Authority(folder)


def staff(ca: Authority, role: str, subject: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return ca.issue(role, subject, key.public_key()), key


def sealed(ca: Authority, role: str = "doctor", subject: str = DOCTOR) -> PrescriptionSigned:
    """A prescription with something to confirm, signed twice."""
    sheet = Sheet("咳嗽", (), second=SecondSignature("既往耐受", (FOUND,)))
    bare = replace(signed, sheet=sheet)
    bare = replace(bare, content_sha256=hashlib.sha256(canonical(bare)).hexdigest())
    write = pen(*staff(ca, role, subject))
    return replace(bare, signature=write(canonical(bare)), second_signature=write(canonical_second(bare) or b""))


def openssl(folder: Path, tmp_path: Path, content: bytes, signature: bytes) -> subprocess.CompletedProcess[str]:
    (tmp_path / "content").write_bytes(content)
    (tmp_path / "signature.p7s").write_bytes(signature)
    return subprocess.run(
        ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", tmp_path / "signature.p7s", "-content",
         tmp_path / "content", "-CAfile", folder / "ca_cert.pem", "-purpose", "any", "-out", tmp_path / "out"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_openssl_verifies_signing_second_signing_and_review_offline(
    ca: Authority, folder: Path, tmp_path: Path
) -> None:  # §24, §25
    made = sealed(ca)
    state = prescription(made)
    command = ReviewPrescription(PHARMACIST, "pass", "", holds(made, ca.certificate))
    reviewed, issued = prescriptions.review(command, state, booked, SOON)
    write = pen(*staff(ca, "pharmacist", PHARMACIST))
    reviewed = replace(reviewed, signature=write(canonical_review(reviewed, made)))
    found = evidence.documents(prescription(made, reviewed, issued))
    assert [(each["document"], each["signer"]) for each in found] == [
        ("prescription", DOCTOR), ("second_signature", DOCTOR), ("review", PHARMACIST),
    ]  # fmt: skip
    for each in found:
        content, signature = each["content"].encode(), base64.b64decode(each["signature"])
        verified = openssl(folder, tmp_path, content, signature)
        assert verified.returncode == 0, verified.stderr
        assert openssl(folder, tmp_path, content.replace(b"rx1", b"rx2"), signature).returncode != 0


def test_a_signature_says_who_signed_and_when(ca: Authority) -> None:  # §24
    certificate, key = staff(ca, "doctor", DOCTOR)
    seal = cms.verify(cms.sign(CONTENT, certificate, key), CONTENT, ca.certificate)
    assert (seal.role, seal.subject) == ("doctor", DOCTOR)
    assert abs(datetime.now(UTC) - seal.signed_at) < timedelta(minutes=1)
    assert seal.certificate == certificate


def test_any_flipped_byte_breaks_it_or_changes_nothing_that_is_signed(ca: Authority) -> None:  # §24
    certificate, key = staff(ca, "doctor", DOCTOR)
    whole = cms.sign(CONTENT, certificate, key)
    held = []
    for at in range(len(whole)):
        try:
            seal = cms.verify(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], CONTENT, ca.certificate)
        except cms.Broken:
            continue
        held.append((at, seal.subject, seal.role))
    assert {(subject, role) for _, subject, role in held} <= {(DOCTOR, "doctor")}
    assert len(held) < 100  # versions and algorithm names outside what is signed
    for end in range(0, len(whole), 7):
        with pytest.raises(cms.Broken):
            cms.verify(whole[:end], CONTENT, ca.certificate)


def test_another_authority_is_not_believed(ca: Authority, tmp_path: Path) -> None:  # §24
    authority.make(tmp_path)
    forged = cms.sign(CONTENT, *staff(Authority(tmp_path), "doctor", DOCTOR))
    with pytest.raises(cms.Broken):
        cms.verify(forged, CONTENT, ca.certificate)


def test_a_key_without_its_certificate_is_not_believed(ca: Authority) -> None:  # §24
    certificate, _ = staff(ca, "doctor", DOCTOR)
    _, other = staff(ca, "doctor", "d2")
    with pytest.raises((cms.Broken, ValueError)):
        cms.verify(cms.sign(CONTENT, certificate, other), CONTENT, ca.certificate)


def test_what_the_review_asks_of_a_signature(ca: Authority) -> None:  # §24, §25
    made = sealed(ca)
    assert holds(made, ca.certificate)
    assert made.sheet is not None
    broken = {
        "another amount": replace(made, amount_fen=1),
        "another hash": replace(made, content_sha256="0" * 64),
        "no signature": replace(made, signature=None),
        "no second signature": replace(made, second_signature=None),
        "the second signature twice": replace(made, signature=made.second_signature),
        "the second reason changed": replace(
            made, sheet=replace(made.sheet, second=SecondSignature("别的理由", (FOUND,)))
        ),
        "what was confirmed is gone": replace(made, sheet=replace(made.sheet, second=None)),
        "another doctor": sealed(ca, subject="d2"),
        "a pharmacist of the same id": sealed(ca, role="pharmacist"),
    }
    assert [why for why, event in broken.items() if holds(event, ca.certificate)] == []


def test_the_authority_is_made_once_and_kept_from_others(folder: Path) -> None:
    before = (folder / "ca_cert.pem").read_bytes()
    authority.make(folder)
    assert (folder / "ca_cert.pem").read_bytes() == before
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_review_of_an_earlier_content_is_no_evidence_of_the_next(ca: Authority) -> None:  # §24
    made = sealed(ca)
    returned, after = prescriptions.review(ReviewPrescription(PHARMACIST, "return", "剂量", True), prescription(made),
                                           booked, SOON)  # fmt: skip
    state = prescription(made, replace(returned, signature=made.signature), after, made)
    assert [each["document"] for each in evidence.documents(state)] == ["prescription", "second_signature"]
