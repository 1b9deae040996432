"""Who is calling: every service verifies the token itself and trusts no header about identity (§31).

Tokens are JWTs signed with ES256 by registration; `exp` and `iat` are wall time, not the movable clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jwt
from jwt import PyJWK, PyJWKClient

AUDIENCE = "fuzhen"
ALGORITHMS = ["ES256"]


class InvalidToken(Exception):
    """The token proves nothing."""


class KeysUnavailable(Exception):
    """The issuer's keys could not be read; whether the token is good is unknown."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`subject` is an account id for patients, a doctor id for doctors, `service:<name>` for services."""

    subject: str
    roles: frozenset[str]
    token_id: str = ""

    def has(self, *roles: str) -> bool:
        return not self.roles.isdisjoint(roles)


class Keys(Protocol):
    """Finds the key that a token names; raises what PyJWKClient raises."""

    def get_signing_key_from_jwt(self, token: str | bytes) -> PyJWK: ...


def published_keys(jwks_url: str) -> Keys:
    """The keys at `jwks_url`. A key once seen is kept and never fetched again (restart after revoking one), because
    registration waits for eligibility when a visit is booked, and eligibility must not wait for registration then."""
    return PyJWKClient(jwks_url, cache_keys=True, timeout=3)


class Verifier:
    """Verifies tokens with the issuer's keys."""

    def __init__(self, keys: Keys, issuer: str) -> None:
        self._keys = keys
        self._issuer = issuer

    def verify(self, token: str) -> Caller:
        """Raises InvalidToken, KeysUnavailable."""
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key.key,
                algorithms=ALGORITHMS,
                audience=AUDIENCE,
                issuer=self._issuer,
                options={"require": ["exp", "iat", "sub", "jti"]},
                leeway=30,
            )
        except jwt.PyJWKClientConnectionError as error:
            raise KeysUnavailable(str(error)) from error
        except (jwt.PyJWTError, ValueError) as error:
            raise InvalidToken(type(error).__name__) from error
        roles = claims.get("roles")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise InvalidToken("roles")
        return Caller(claims["sub"], frozenset(roles), claims["jti"])
