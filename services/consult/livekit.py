"""Voice and video calls (§17) run on a LiveKit server; this is all that we say to it and hear from it.

To the apps we give access tokens (JWT, HS256, with LiveKit's video grant), with which they join a room at the server
themselves. The server tells by webhooks, signed with the same key, who came and when a room ended. Rooms are named by
calls and people by their side: LiveKit learns no name and no account (§31). Tokens live on wall time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import jwt
import orjson
from environs import Env

from eventkit.calls import Peer, PeerRefused
from eventkit.events import Refusal
from eventkit.signing import partner_secret

TOKEN_SECONDS = 600  # to join; who has joined stays
_OWN_SECONDS = 60
_LEEWAY_SECONDS = 60
_SOURCES = {"voice": ["microphone"], "video": ["microphone", "camera"]}
_TOLD: dict[str, Literal["started", "joined", "ended"]] = {
    "room_started": "started", "participant_joined": "joined", "room_finished": "ended",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a webhook says of a call. `id` is the webhook's, the same when it is told again."""

    id: str
    room: str
    what: Literal["started", "joined", "ended"]
    identity: str


class LiveKit:
    """`url` is where the apps connect (ws:// or wss://)."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self.url = url
        self._key = key
        self._secret = secret
        server = url.replace("ws", "http", 1)
        self._server = Peer("livekit", server, headers=lambda *_: {"Authorization": f"Bearer {self._own_token()}"})

    @classmethod
    def from_env(cls, env: Env) -> LiveKit | None:
        """From FUZHEN_LIVEKIT_URL and the line `<key>: <secret>` in FUZHEN_SECRETS/clients/livekit, which is also what
        the server reads; None where no server is set. Raises EnvError."""
        url: str | None = env.str("FUZHEN_LIVEKIT_URL", None)
        if not url:
            return None
        key, _, secret = partner_secret(env, "livekit").decode().partition(":")
        return cls(url, key.strip(), secret.strip())

    def token(self, room: str, identity: str, medium: Literal["voice", "video"]) -> tuple[str, datetime]:
        """(the token with which `identity` joins `room`, when it ends)."""
        until = int(time.time()) + TOKEN_SECONDS
        grant = {
            "roomJoin": True, "room": room, "canSubscribe": True, "canPublish": True, "canPublishData": False,
            "canPublishSources": _SOURCES[medium],
        }
        return self._signed({"sub": identity, "video": grant}, until), datetime.fromtimestamp(until, UTC)

    def end_room(self, room: str) -> None:
        """Everybody is sent out. A room that is not there is no error. Raises Unanswered, PeerRefused."""
        try:
            self._server.post("/twirp/livekit.RoomService/DeleteRoom", {"room": room})
        except PeerRefused as refused:
            if refused.code != "not_found":
                raise

    def told(self, authorization: str, body: bytes) -> Told | None:
        """None for what does not matter here. Raises Refusal `not_authentic`."""
        try:
            claims = jwt.decode(
                authorization, self._secret, algorithms=["HS256"], issuer=self._key, leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss"]},
            )
            signed = base64.b64decode(str(claims.get("sha256", "")), validate=True)
        except (jwt.InvalidTokenError, binascii.Error) as error:
            raise Refusal("not_authentic") from error
        if not hmac.compare_digest(signed, hashlib.sha256(body).digest()):
            raise Refusal("not_authentic")
        content: dict[str, Any] = orjson.loads(body)
        what = _TOLD.get(content.get("event", ""))
        if what is None or not content.get("id"):
            return None
        room = content.get("room", {}).get("name", "")
        return Told(content["id"], room, what, content.get("participant", {}).get("identity", ""))

    def _own_token(self) -> str:
        return self._signed({"video": {"roomCreate": True}}, int(time.time()) + _OWN_SECONDS)

    def _signed(self, claims: dict[str, Any], until: int) -> str:
        # The server may be a few seconds behind us.
        begins = int(time.time()) - 10
        return jwt.encode({"iss": self._key, "nbf": begins, "exp": until, **claims}, self._secret, algorithm="HS256")
