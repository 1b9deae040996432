"""How I am told of what changes: language and channel."""

from __future__ import annotations

from typing import Any

from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.web import caller, command_request
from services.registration.handlers.preferences import shown
from services.registration.http.base import desk, routes
from services.registration.schemas import PreferencesSchema, SetPreferencesSchema

_EXAMPLE = {"language": "zh", "channel": "wechat", "wechat_linked": True}


@routes.route("/me/preferences")
class PreferencesView(MethodView):
    @routes.access("patient")
    @routes.response(200, PreferencesSchema, example=_EXAMPLE)
    @routes.refuses("unavailable")
    def get(self) -> ResponseReturnValue:
        """In which language and where I am told; Chinese and text messages until set."""
        return shown(desk().preferences.of(caller().subject))

    @routes.access("patient")
    @routes.arguments(SetPreferencesSchema, example={
        "language": "zh", "channel": "wechat", "wechat_openid": "oFuZhen000000000000000sample",
    })
    @routes.response(200, PreferencesSchema, example=_EXAMPLE)
    @routes.refuses("invalid_input", "wechat_unlinked", "busy", "unavailable")
    def put(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Set both, for messages planned from now on; WeChat needs an openid, given now or before."""
        return desk().preferences.set(command_request(body), caller().subject, **body).body
