"""The request id and `traceparent` of the request being served, so that calls made on its behalf carry them on."""

from __future__ import annotations

from contextvars import ContextVar

_current: ContextVar[dict[str, str] | None] = ContextVar("trace", default=None)


def begin(request_id: str, traceparent: str) -> None:
    headers = {"X-Request-Id": request_id}
    if traceparent:
        headers["traceparent"] = traceparent
    _current.set(headers)


def headers() -> dict[str, str]:
    """For an outgoing call; empty outside of a request."""
    return _current.get() or {}
