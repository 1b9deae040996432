"""Tokens: what verifies them, and who gets one by secret."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from eventkit.auth import InvalidToken, Verifier
from eventkit.events import Refusal
from services.registration.tokens import Clients, TokenIssuer, read_key
from tests.unit.registration.world import KEY

ISSUER = "https://fuzhen.example"


def test_a_token_verifies_with_the_published_key() -> None:
    issuer = TokenIssuer(KEY, ISSUER)
    token = issuer.issue("a1", ["patient"])
    [published] = jwt.PyJWKSet.from_dict(issuer.jwks()).keys
    assert "d" not in issuer.jwks()["keys"][0]
    assert jwt.get_unverified_header(token)["kid"] == published.key_id
    claims = jwt.decode(token, published.key, algorithms=["ES256"], audience="fuzhen", issuer=ISSUER)
    assert (claims["sub"], claims["roles"], claims["exp"] - claims["iat"]) == ("a1", ["patient"], 900)


def test_another_key_verifies_nothing() -> None:
    other = TokenIssuer(ec.generate_private_key(ec.SECP256R1()), ISSUER)
    with pytest.raises(InvalidToken):
        Verifier(TokenIssuer(KEY, ISSUER), ISSUER).verify(other.issue("a1", ["patient"]))


def test_clients_are_known_by_the_hash_of_their_secret(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    known = {"payment": {"sha256": hashlib.sha256(b"right").hexdigest(), "roles": ["service"]}}
    file.write_bytes(orjson.dumps(known))
    clients = Clients(file)
    assert clients.roles("payment", "right") == ["service"]
    for client_id, secret in (("payment", "wrong"), ("nobody", "right")):
        with pytest.raises(Refusal, match="client_unknown"):
            clients.roles(client_id, secret)


def test_only_a_p256_key_signs(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        file.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
        with pytest.raises(ValueError, match="P-256"):
            read_key(file)
