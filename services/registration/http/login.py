"""One-time codes, tokens, and the keys to verify them (§7). No Idempotency-Key: a code works once, a token does not
last."""

from __future__ import annotations

from typing import Any

from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.web import caller, command_request, correlation_id
from services.registration.devices import REVOKED_FOR, device_of
from services.registration.handlers.accounts import Token
from services.registration.http.base import desk, routes
from services.registration.schemas import (
    CodeSentSchema,
    DeviceRevokedSchema,
    DevicesSchema,
    JwksSchema,
    LoginCodeSchema,
    RevokedDevicesSchema,
    TokenRequestSchema,
    TokenSchema,
)

_PEOPLE = ("patient", "doctor", "pharmacist", "cashier", "operator")


@routes.route("/login-codes")
class LoginCodesView(MethodView):
    @routes.arguments(LoginCodeSchema, example={"phone": "19900000001"})
    @routes.response(202, CodeSentSchema, example={"expires_in": 300})
    @routes.refuses("invalid_input", "too_many_codes", "login_locked", "partner_unavailable")
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Send a one-time code to a phone, known or not."""
        return {"expires_in": desk().accounts.send_code(body["phone"])}


@routes.route("/tokens")
class TokensView(MethodView):
    @routes.arguments(TokenRequestSchema, examples={
        "code": {"value": {"grant": "code", "phone": "19900000001", "code": "246810", "device": "iPhone"}},
        "refresh": {"value": {"grant": "refresh", "refresh_token": "9c1d….pGk…"}},
        "client": {"value": {"grant": "client", "client_id": "payment", "client_secret": "…"}},
    })
    @routes.response(200, TokenSchema, example={
        "access_token": "eyJhbGciOiJFUzI1NiJ9…", "token_type": "Bearer", "expires_in": 900,
        "subject": "2f7c1b0a9d4e4c0f8e6d5a4b3c2d1e0f", "roles": ["patient"],
        "device_id": "9c1d…", "refresh_token": "9c1d….Zr0…",
    })
    @routes.refuses("invalid_input", "login_code_wrong", "login_locked", "login_over", "client_unknown", "unavailable")
    def post(self, body: dict[str, Any]) -> Token:
        """Trade a code, a refresh token or a client secret for a token. A phone's first login opens its account. A
        refresh token works once and comes back renewed; used twice, its device is logged out."""
        accounts = desk().accounts
        if body["grant"] == "client":
            return accounts.log_in_client(body["client_id"], body["client_secret"])
        if body["grant"] == "refresh":
            return accounts.refresh(body["refresh_token"])
        return accounts.log_in(body["phone"], body["code"], correlation_id(), body["device"])


@routes.route("/devices")
class DevicesView(MethodView):
    @routes.access(*_PEOPLE)
    @routes.response(200, DevicesSchema, example={"devices": [{
        "device_id": "9c1d…", "name": "iPhone", "opened_at": "2026-11-20T08:00:00.000Z",
        "seen_at": "2026-11-23T08:00:00.000Z", "current": True,
    }]})
    @routes.refuses("unavailable")
    def get(self) -> ResponseReturnValue:
        """Where I am logged in, the last seen first."""
        here = device_of(caller())
        return {"devices": [
            {**device, "current": device["device_id"] == here} for device in desk().devices.of(caller().subject)
        ]}


@routes.route("/devices/<device_id>/revocation")
class DeviceRevocationView(MethodView):
    @routes.access(*_PEOPLE)
    @routes.response(200, DeviceRevokedSchema, example={"device_id": "9c1d…"})
    @routes.command
    @routes.refuses("not_found")
    def post(self, device_id: str) -> ResponseReturnValue:
        """Log a device of mine out, this one or another: here within five seconds, elsewhere when its token ends."""
        command_request()
        desk().devices.revoke(caller().subject, device_id)
        return {"device_id": device_id}


@routes.route("/internal/revoked-devices")
class RevokedDevicesView(MethodView):
    @routes.access("service")
    @routes.response(200, RevokedDevicesSchema, example={"devices": ["9c1d…"], "within_seconds": 960})
    @routes.refuses("unavailable")
    def get(self) -> ResponseReturnValue:
        """Devices revoked lately: a token whose `jti` begins with one of them, before the dot, is void."""
        return {"devices": desk().devices.revoked(), "within_seconds": int(REVOKED_FOR.total_seconds())}


@routes.route("/.well-known/jwks.json")
class JwksView(MethodView):
    @routes.response(200, JwksSchema, example={
        "keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "…", "x": "…", "y": "…"}],
    })
    @routes.refuses("internal")
    def get(self) -> ResponseReturnValue:
        """The public keys that verify our tokens."""
        return desk().issuer.jwks()
