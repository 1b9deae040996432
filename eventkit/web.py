"""The HTTP kit: a Flask application whose every refusal is a problem, whose every command has a key, and whose every
operation says in OpenAPI who may call it and what it may refuse."""

from __future__ import annotations

import functools
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from flask import Flask, Response, current_app, g, request
from flask.typing import ResponseReturnValue
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields
from pymongo.errors import PyMongoError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException

from eventkit import store, trace
from eventkit.auth import Caller, InvalidToken, KeysUnavailable, Verifier
from eventkit.calls import PeerRefused, Unanswered
from eventkit.events import Refusal
from eventkit.problems import CONTENT_TYPE, Catalogue
from eventkit.vault import ErasedPerson

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
MAX_BODY_BYTES = 1 << 20
KEY_HEADER = "Idempotency-Key"
LONGEST_KEY = 200
_BY_STATUS = {
    400: "malformed", 401: "token_invalid", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    413: "too_large", 415: "unsupported_media", 422: "invalid_input",
}


class ProblemSchema(Schema):
    """RFC 9457 with the members that a patient reads."""

    type = fields.Url(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    code = fields.String(required=True)
    detail = fields.String(required=True, metadata={"description": "中文说明"})
    detail_en = fields.String(required=True)
    next = fields.String(required=True, metadata={"description": "下一步怎么办"})
    next_en = fields.String(required=True)
    instance = fields.String()
    errors = fields.Dict()
    failed = fields.List(fields.Dict())


class _JsonParser(FlaskParser):
    """webargs, which takes a body of another content type for none at all, and lets what is too deep or too long for
    Python's parser through as RecursionError and ValueError."""

    def load_json(self, req: Any, schema: Any) -> Any:
        if req.mimetype != "application/json" and req.get_data(cache=True):
            raise Refusal("unsupported_media")
        try:
            return super().load_json(req, schema)
        except (RecursionError, ValueError) as error:
            raise Refusal("malformed") from error


class Routes(Blueprint):
    """The blueprint of a service under `/api/<service>`, with decorators that enforce and document at once."""

    ARGUMENTS_PARSER = _JsonParser()

    def __init__(self, service: str, catalogue: Catalogue, description: str) -> None:
        super().__init__(service, service, url_prefix=f"/api/{service}", description=description)
        self.catalogue = catalogue

    def access(self, *roles: str) -> Callable[[F], F]:
        """Only callers with one of `roles`; the caller is then `caller()`. Put it below `arguments` and `response`."""

        def decorate(function: F) -> F:
            @functools.wraps(function)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                identify()
                if not caller().has(*roles):
                    raise Refusal("forbidden")
                return function(*args, **kwargs)

            documented = self.doc(security=[{"bearer": []}], **{"x-roles": list(roles)})(guarded)
            return self.refuses("token_missing", "token_invalid", "forbidden")(documented)  # type: ignore[no-any-return]

        return decorate

    def command(self, function: F) -> F:
        """A POST that takes an Idempotency-Key; `command_request()` then carries it."""

        @functools.wraps(function)
        def keyed(*args: Any, **kwargs: Any) -> Any:
            key = request.headers.get(KEY_HEADER, "")
            if not key:
                raise Refusal("idempotency_key_missing")
            if len(key) > LONGEST_KEY:
                raise Refusal("malformed")
            return function(*args, **kwargs)

        documented = self.doc(parameters=[{
            "in": "header", "name": KEY_HEADER, "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
            "description": "New for each new command, the same for a retry: nothing is done twice.",
            "example": "5b2f0c0e7a7c4b0f9a63",
        }])(keyed)
        return self.refuses("idempotency_key_missing", "key_reused", "busy", "unavailable")(documented)  # type: ignore[no-any-return]

    def refuses(self, *codes: str) -> Callable[[F], F]:
        """Document the problems an operation may answer with. Raises KeyError for a code the catalogue lacks."""

        def decorate(function: F) -> F:
            known: dict[int, list[str]] = defaultdict(list, getattr(function, "_refusals", {}))
            by_status: dict[int, list[str]] = defaultdict(list)
            for code in codes:
                by_status[self.catalogue[code].status].append(code)
            for status, of_status in by_status.items():
                known[status] = sorted({*known[status], *of_status})
                # flask-smorest lists responses of one status side by side; these are one response with examples.
                getattr(function, "_apidoc", {}).get("response", {}).get("responses", {}).pop(status, None)
                function = self.alt_response(
                    status,
                    schema=ProblemSchema,
                    content_type=CONTENT_TYPE,
                    description=", ".join(known[status]),
                    examples={code: {"$ref": f"#/components/examples/{code}"} for code in known[status]},
                )(function)
            function._refusals = known  # type: ignore[attr-defined]
            return function

        return decorate


class _ProblemApi(Api):
    """flask-smorest with problems in place of its own error bodies."""

    ERROR_SCHEMA = ProblemSchema

    def handle_http_exception(self, error: HTTPException) -> ResponseReturnValue:
        status = error.code or 500
        facts: dict[str, Any] = {}
        if messages := getattr(error, "data", {}).get("messages"):
            facts["errors"] = messages
        return problem(_BY_STATUS.get(status, "internal" if status >= 500 else "malformed"), facts)


def create_app(
    service: str,
    routes: Sequence[Routes],
    verifier: Verifier,
    ready: Callable[[], tuple[bool, dict[str, Any]]],
    digest: Callable[[str], str],
) -> Flask:
    """The Flask application of one service. `digest` is keyed: it makes the fingerprints of requests, which stand in
    the log for ever and must give nothing away of what was sent (§32)."""
    app = Flask(service)
    app.config.update(
        API_TITLE=f"Fuzhen {service}",
        API_VERSION="1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX=f"/api/{service}",
        OPENAPI_JSON_PATH="openapi.json",
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        JSON_SORT_KEYS=False,
    )
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.extensions["fuzhen"] = _Kit(verifier, routes[0].catalogue, digest)
    api = _ProblemApi(app, spec_kwargs={"info": {"description": f"The {service} service of the Internet hospital."}})
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    for blueprint in routes:
        for listed in blueprint.catalogue:
            if listed.code not in api.spec.components.examples:
                api.spec.components.example(listed.code, {"value": listed.render({})})
        api.register_blueprint(blueprint)

    @app.get("/health/live")
    def live() -> ResponseReturnValue:
        return {"status": "ok"}

    @app.get("/health/ready")
    def is_ready() -> ResponseReturnValue:
        well, shown = ready()
        return {"status": "ok" if well else "failing", **shown}, 200 if well else 503

    app.register_error_handler(Refusal, lambda refusal: problem(refusal.code, refusal.facts))
    app.register_error_handler(store.StoreUnavailable, _unavailable)
    app.register_error_handler(PyMongoError, _unavailable)
    app.register_error_handler(KeysUnavailable, _unavailable)
    app.register_error_handler(Unanswered, lambda _: _later("partner_unavailable"))
    app.register_error_handler(ErasedPerson, lambda _: problem("not_found"))
    app.register_error_handler(Exception, _unexpected)
    app.before_request(lambda: trace.begin(correlation_id(), _traceparent()))
    app.after_request(_close_doors)
    return app


def identify() -> None:
    """Take the caller from the bearer token. Raises Refusal, KeysUnavailable."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refusal("token_missing")
    try:
        g.caller = _kit().verifier.verify(token.strip())
    except InvalidToken as error:
        raise Refusal("token_invalid") from error


def caller() -> Caller:
    found: Caller = g.caller
    return found


def correlation_id() -> str:
    """The gateway's request id; one of our own where somebody calls us directly."""
    if "correlation_id" not in g:
        g.correlation_id = request.headers.get("X-Request-Id", "")[:64] or secrets.token_hex(16)
    return str(g.correlation_id)


def _traceparent() -> str:
    return request.headers.get("traceparent", "")[:64]


def command_request(body: Any = None) -> store.Request:
    """The store's view of this request: who, which operation on what, which key, and a fingerprint of the content.
    Raises Refusal `malformed` for text that is no text (half a character)."""
    try:
        content = orjson.dumps([request.path, body], default=str, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Refusal("malformed") from error
    return store.Request(
        caller=caller().subject if "caller" in g else "anonymous",
        route=f"{request.method} {request.url_rule}",
        key=request.headers.get(KEY_HEADER),
        fingerprint=_kit().digest(content.decode()),
        correlation_id=correlation_id(),
        traceparent=_traceparent(),
    )


def problem(code: str, facts: dict[str, Any] | None = None) -> Response:
    catalogue = _kit().catalogue
    if code not in catalogue:
        log.error("refusal %s is not in the catalogue", code)
        code = "internal"
    found = catalogue[code]
    # marshmallow names the place of an error in a list by its number
    body = orjson.dumps(found.render(facts or {}, request.path), default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, found.status, content_type=CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class _Kit:
    """What this module keeps with the application."""

    verifier: Verifier
    catalogue: Catalogue
    digest: Callable[[str], str]


def _kit() -> _Kit:
    found: _Kit = current_app.extensions["fuzhen"]
    return found


def _unavailable(error: Exception) -> Response:
    log.warning("unavailable: %s", type(error).__name__)
    return _later("unavailable")


def _later(code: str) -> Response:
    response = problem(code)
    response.headers["Retry-After"] = "1"
    return response


def _unexpected(error: Exception) -> ResponseReturnValue:
    if isinstance(error, PeerRefused):
        log.error("a peer refused: %s", error)
        return _later("partner_unavailable")
    log.error("unexpected %s", type(error).__name__, exc_info=error, extra={"fields": {"request": correlation_id()}})
    return problem("internal")


def _close_doors(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers["X-Request-Id"] = correlation_id()
    return response
