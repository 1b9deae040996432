"""Tokens: ES256, fifteen minutes of wall time; the public key is a JWKS that the gateway and every service read."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import msgspec
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey

from eventkit.auth import AUDIENCE
from eventkit.events import Refusal
from eventkit.ids import new_id

ALGORITHM = "ES256"
LIFETIME_SECONDS = 900


class TokenIssuer:
    def __init__(self, key: EllipticCurvePrivateKey, issuer: str) -> None:
        public: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
        # RFC 7638: the key's own thumbprint is its name, so that a new key has a new one.
        thumbprint = orjson.dumps({name: public[name] for name in ("crv", "kty", "x", "y")})
        self._key_id = hashlib.sha256(thumbprint).hexdigest()[:32]
        self._public = {**public, "kid": self._key_id, "use": "sig", "alg": ALGORITHM}
        self._verifying = jwt.PyJWK(self._public)
        self._key = key
        self._issuer = issuer

    def issue(self, subject: str, roles: list[str], device_id: str = "") -> str:
        """`device_id` stands before the token's own id, so that a revoked device's tokens are known by it."""
        now = int(time.time())
        claims = {
            "iss": self._issuer, "aud": AUDIENCE, "sub": subject, "roles": roles, "iat": now,
            "exp": now + LIFETIME_SECONDS, "jti": f"{device_id}.{new_id()}" if device_id else new_id(),
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._key_id})

    def get_signing_key_from_jwt(self, token: str | bytes) -> jwt.PyJWK:
        """`eventkit.auth.Keys` for this very service: fetching its own JWKS could wait for itself under load."""
        return self._verifying

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self._public]}

    def headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        """For registration's own calls to its peers: asking itself for a token could wait for itself, too."""
        return {"Authorization": f"Bearer {self.issue('service:registration', ['service'])}"}


class Client(msgspec.Struct, frozen=True):
    """`sha256` is the hex digest of the secret: 256 random bits, which nobody guesses from it."""

    sha256: str
    roles: list[str]


class Clients:
    """Who may log in by secret: services and the HIS."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file of another shape."""
        self._clients = msgspec.json.decode(path.read_bytes(), type=dict[str, Client])

    def roles(self, client_id: str, secret: str) -> list[str]:
        """Raises Refusal("client_unknown")."""
        client = self._clients.get(client_id)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        if client is None or not hmac.compare_digest(client.sha256, digest):
            raise Refusal("client_unknown")
        return client.roles


def read_key(path: Path) -> EllipticCurvePrivateKey:
    """Raises ValueError for anything but a P-256 private key in PEM."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    match key:
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            return key
    raise ValueError(f"{path} is not a P-256 private key")
