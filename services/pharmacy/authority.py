"""The sample authority whose certificates the hospital's staff sign with.

`python -m services.pharmacy.authority DIR` makes `ca_key.pem` and `ca_cert.pem` once. A hospital takes its certificates
from a licensed authority (电子认证服务机构), whose key is nowhere near this service: that replaces this file.
Certificates live in wall time, like TLS: who moves the business clock must not revive one.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

ORGANISATION = "复诊互联网医院(样例)"
_CA_YEARS, _STAFF_YEARS = 20, 5
_SKEW = timedelta(minutes=5)


class Authority:
    def __init__(self, folder: Path) -> None:
        """Raises OSError, ValueError or TypeError when the folder does not hold an authority."""
        self.certificate = x509.load_pem_x509_certificate((folder / "ca_cert.pem").read_bytes())
        key = load_pem_private_key((folder / "ca_key.pem").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the authority's key is not an elliptic-curve key")
        self._key = key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, role: str, subject: str, public: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """For one person of the staff: OU is the role, serialNumber and CN the id that the tokens carry."""
        now = datetime.now(UTC)
        name = _name(
            (NameOID.ORGANIZATIONAL_UNIT_NAME, role), (NameOID.SERIAL_NUMBER, subject), (NameOID.COMMON_NAME, subject)
        )
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + timedelta(days=365 * _STAFF_YEARS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


def make(folder: Path) -> None:
    """Makes an authority, unless there is one."""
    if (folder / "ca_cert.pem").exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = _name((NameOID.COMMON_NAME, "Fuzhen sample signature authority"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca_key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _write(folder / "ca_cert.pem", certificate.public_bytes(Encoding.PEM))


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
        *(x509.NameAttribute(oid, value) for oid, value in parts),
    ])


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign, content_commitment=sign, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=not sign, crl_sign=not sign, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
