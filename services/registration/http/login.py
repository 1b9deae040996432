"""One-time codes, tokens, and the keys to verify them (§7). No Idempotency-Key: a code works once, a token does not
last."""

from __future__ import annotations

from typing import Any

from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.web import correlation_id
from services.registration.handlers.accounts import Token
from services.registration.http.base import desk, routes
from services.registration.schemas import (
    CodeSentSchema,
    JwksSchema,
    LoginCodeSchema,
    TokenRequestSchema,
    TokenSchema,
)


@routes.route("/login-codes")
class LoginCodesView(MethodView):
    @routes.arguments(LoginCodeSchema, example={"phone": "19900000001"})
    @routes.response(202, CodeSentSchema, example={"expires_in": 300})
    @routes.refuses("invalid_input", "too_many_codes", "partner_unavailable")
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Send a one-time code to a phone, known or not."""
        return {"expires_in": desk().accounts.send_code(body["phone"])}


@routes.route("/tokens")
class TokensView(MethodView):
    @routes.arguments(TokenRequestSchema, examples={
        "code": {"value": {"grant": "code", "phone": "19900000001", "code": "246810"}},
        "client": {"value": {"grant": "client", "client_id": "payment", "client_secret": "…"}},
    })
    @routes.response(200, TokenSchema, example={
        "access_token": "eyJhbGciOiJFUzI1NiJ9…", "token_type": "Bearer", "expires_in": 900,
        "subject": "2f7c1b0a9d4e4c0f8e6d5a4b3c2d1e0f", "roles": ["patient"],
    })
    @routes.refuses("invalid_input", "login_code_wrong", "client_unknown", "unavailable")
    def post(self, body: dict[str, Any]) -> Token:
        """Trade a code or a client secret for a token. A phone's first login opens its account."""
        accounts = desk().accounts
        if body["grant"] == "client":
            return accounts.log_in_client(body["client_id"], body["client_secret"])
        return accounts.log_in(body["phone"], body["code"], correlation_id())


@routes.route("/.well-known/jwks.json")
class JwksView(MethodView):
    @routes.response(200, JwksSchema, example={
        "keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "…", "x": "…", "y": "…"}],
    })
    @routes.refuses("internal")
    def get(self) -> ResponseReturnValue:
        """The public keys that verify our tokens."""
        return desk().issuer.jwks()
