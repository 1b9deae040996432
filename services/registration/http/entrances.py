"""The ways in and their QR codes (§6), for the apps, and for the posters in the hospital's halls."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import segno
from flask import Response
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.events import Refusal
from services.registration import schemas
from services.registration.http.base import routes
from services.registration.policy import ENTRANCES, Entrance

_QUIET_ZONE = 4  # modules of white around the code, as ISO/IEC 18004 asks for
_PNG_SCALE = 10  # pixels a module
_ERRORS = "m"  # a poster may be stained: 15 % can be read over
_CACHE = "public, max-age=86400"


def _shown(entrance: Entrance) -> dict[str, Any]:
    path = f"/api/registration/entrances/{entrance.entrance}"
    return {**asdict(entrance), "qr_svg": f"{path}/qr.svg", "qr_png": f"{path}/qr.png"}


@routes.route("/entrances")
class EntrancesView(MethodView):
    @routes.response(200, schemas.EntrancesSchema, example={"entrances": [_shown(ENTRANCES[0])]})
    @routes.refuses("internal")
    def get(self) -> ResponseReturnValue:
        """The ways in, each with its QR code (§6)."""
        return {"entrances": [_shown(entrance) for entrance in ENTRANCES]}


@routes.route("/entrances/<entrance>/qr.svg")
class EntranceSvgView(MethodView):
    @routes.response(200, {"type": "string"}, content_type="image/svg+xml", example="<svg …/>")
    @routes.refuses("not_found")
    def get(self, entrance: str) -> Response:
        """An entrance's QR code to be printed at any size (§6)."""
        return _image(entrance, "svg", 1, "image/svg+xml")


@routes.route("/entrances/<entrance>/qr.png")
class EntrancePngView(MethodView):
    @routes.response(200, {"type": "string", "format": "binary"}, content_type="image/png")
    @routes.refuses("not_found")
    def get(self, entrance: str) -> Response:
        """An entrance's QR code for a screen (§6)."""
        return _image(entrance, "png", _PNG_SCALE, "image/png")


def _image(entrance: str, kind: str, scale: int, mimetype: str) -> Response:
    content = next((known.qr_content for known in ENTRANCES if known.entrance == entrance), None)
    if content is None:
        raise Refusal("not_found")
    file = io.BytesIO()
    segno.make(content, error=_ERRORS, micro=False).save(file, kind=kind, scale=scale, border=_QUIET_ZONE)
    return Response(file.getvalue(), mimetype=mimetype, headers={"Cache-Control": _CACHE})
