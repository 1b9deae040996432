"""Detached CMS (PKCS#7) signatures over a content, as `openssl cms -verify -binary` reads them (RFC 5652).

`cryptography` makes them; it has no public function to verify one, so that is here: the few members of SignedData that
our own signatures have. Anything else is refused as broken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from cryptography.x509.oid import NameOID

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_SIGNING_TIME = bytes.fromhex("06092a864886f70d010905")
_SEQUENCE, _SET, _OPTIONAL_0 = 0x30, 0x31, 0xA0
_UNREADABLE = (
    InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, ValueError, TypeError,
    LookupError, StopIteration,
)  # fmt: skip
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


class Broken(Exception):
    """Not a signature of this content by somebody whom the authority knows."""


@dataclass(frozen=True, slots=True)
class Seal:
    """Who signed, and when by the signer's own wall clock."""

    role: str
    subject: str
    signed_at: datetime
    certificate: x509.Certificate


def sign(content: bytes, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER, with the certificate and the signing time in it, without the content."""
    builder = PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, hashes.SHA256())
    return builder.sign(
        Encoding.DER, [PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities]
    )


def verify(signature: bytes, content: bytes, authority: x509.Certificate) -> Seal:
    """Raises Broken."""
    try:
        return _verify(signature, content, authority)
    except _UNREADABLE as error:
        raise Broken(type(error).__name__) from error


def _verify(signature: bytes, content: bytes, authority: x509.Certificate) -> Seal:
    members = _inside(_one(signature, _SEQUENCE))
    if next(members).whole != _SIGNED_DATA:
        raise Broken("not SignedData")
    parts = list(_inside(_one(next(members).value, _SEQUENCE)))
    certificates = [x509.load_der_x509_certificate(each.whole) for each in _inside(_only(parts, _OPTIONAL_0))]
    signer = list(_inside(_one(parts[-1].value, _SEQUENCE)))  # one signer: version, who, digest, attributes, …
    attributes = _only(signer, _OPTIONAL_0)
    known = {attribute[0].whole: attribute[1].value for attribute in map(_pair, _inside(attributes))}
    if _first(known[_MESSAGE_DIGEST]).value != hashlib.sha256(content).digest():
        raise Broken("another content")
    who = list(_inside(signer[1]))
    issuer, serial = who[0].whole, int.from_bytes(who[1].value, "big")
    certificate = next(
        each for each in certificates if each.serial_number == serial and each.issuer.public_bytes() == issuer
    )
    public, at = certificate.public_key(), _instant(_first(known[_SIGNING_TIME]))
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Broken("not an elliptic-curve key")
    # RFC 5652 §5.4: what is signed is the attributes with the tag of a SET instead of the optional member's.
    public.verify(signer[-1].value, bytes([_SET]) + attributes.whole[1:], ec.ECDSA(hashes.SHA256()))
    certificate.verify_directly_issued_by(authority)
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise Broken("the certificate was not valid then")
    return Seal(
        _of(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME), _of(certificate, NameOID.SERIAL_NUMBER), at, certificate
    )


def _of(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    return str(certificate.subject.get_attributes_for_oid(oid)[0].value)


# --- as much DER as that takes ---


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    value: bytes
    whole: bytes


def _first(data: bytes) -> _Element:
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise Broken("cut off")
    return _Element(tag, data[start : start + length], data[: start + length])


def _one(data: bytes, tag: int) -> _Element:
    element = _first(data)
    if element.tag != tag or element.whole != data:
        raise Broken("another shape")
    return element


def _inside(element: _Element) -> Iterator[_Element]:
    rest = element.value
    while rest:
        member = _first(rest)
        yield member
        rest = rest[len(member.whole) :]


def _only(members: list[_Element], tag: int) -> _Element:
    (found,) = (member for member in members if member.tag == tag)
    return found


def _pair(attribute: _Element) -> tuple[_Element, _Element]:
    name, values = _inside(attribute)
    return name, values


def _instant(element: _Element) -> datetime:
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[element.tag]
    return datetime.strptime(element.value.decode("ascii"), form).replace(tzinfo=UTC)
