"""Calls to other services and partners: a timeout, retries with jitter where repeating is harmless, a circuit breaker
(design rule 8). A call that got no answer raises Unanswered: whether it took effect is unknown, and a job finds out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pybreaker
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from eventkit import trace

TIMEOUT = (1.0, 4.0)  # seconds to connect, to answer
_FAILURES_TO_OPEN = 8
_SECONDS_OPEN = 5


class Unanswered(Exception):
    """No answer, or one that means «try again» (5xx, 429)."""


class PeerRefused(Exception):
    """A clear 4xx: asking again brings the same."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code', '')}")
        self.status = status
        self.body = body

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


class Peer:
    """One service or partner behind one URL. Thread-safe. `headers` makes the headers of each call (a token, a
    signature) from method, path and body. GET, PUT and calls marked `repeatable` are retried twice."""

    def __init__(
        self,
        name: str,
        url: str,
        headers: Callable[[str, str, bytes], dict[str, str]] | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._headers = headers
        self._timeout = timeout
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=_FAILURES_TO_OPEN, reset_timeout=_SECONDS_OPEN, exclude=[PeerRefused], name=name
        )
        self._repeating = self._session(Retry(
            total=2, backoff_factor=0.1, backoff_jitter=0.1, status_forcelist=(502, 503, 504), allowed_methods=None,
            raise_on_status=False, respect_retry_after_header=False,
        ))
        self._once = self._session(Retry(total=0, raise_on_status=False))

    @staticmethod
    def _session(retry: Retry) -> requests.Session:
        session = requests.Session()
        session.mount("http://", HTTPAdapter(max_retries=retry, pool_maxsize=32))
        session.mount("https://", HTTPAdapter(max_retries=retry, pool_maxsize=32))
        session.trust_env = False
        return session

    def get(self, path: str, **params: str) -> Any:
        return self.call("GET", path, params=params, repeatable=True)

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None, repeatable: bool = False) -> Any:
        """`key` is sent as the Idempotency-Key, which makes the call repeatable."""
        return self.call("POST", path, body=body, key=key, repeatable=repeatable or key is not None)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
        key: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The JSON of a 2xx answer. Raises PeerRefused, Unanswered."""
        try:
            return self._breaker.call(self._call, method, path, body, params, key, repeatable)
        except pybreaker.CircuitBreakerError as error:
            raise Unanswered(f"{self.name} has been failing and is left alone for a moment") from error

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, params: dict[str, str] | None, key: str | None,
        repeatable: bool,
    ) -> Any:
        session = self._repeating if repeatable else self._once
        request = requests.Request(method, self._url + path, json=body, params=params)
        request.headers.update(trace.headers())
        if key is not None:
            request.headers["Idempotency-Key"] = key
        prepared = session.prepare_request(request)
        if self._headers is not None:
            payload = prepared.body or b""
            payload = payload.encode() if isinstance(payload, str) else payload
            prepared.headers.update(self._headers(method, prepared.path_url, payload))
        try:
            response = session.send(prepared, timeout=self._timeout)
        except requests.RequestException as error:
            raise Unanswered(f"{self.name}: {type(error).__name__}") from error
        if response.status_code >= 500 or response.status_code == 429:
            raise Unanswered(f"{self.name}: {response.status_code}")
        try:
            content = response.json() if response.content else {}
        except ValueError as error:
            raise Unanswered(f"{self.name}: an answer that is not JSON") from error
        if response.status_code >= 400:
            raise PeerRefused(response.status_code, content if isinstance(content, dict) else {})
        return content


class ServiceToken:
    """This service's own token, by client credentials, renewed a minute before it ends. Use as `Peer(headers=…)`."""

    def __init__(self, token_url: str, client_id: str, secret: str) -> None:
        self._url = token_url
        self._grant = {"grant": "client", "client_id": client_id, "client_secret": secret}
        self._token = ""
        self._until = 0.0
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, body: bytes) -> dict[str, str]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._renew()
            return {"Authorization": f"Bearer {self._token}"}

    def _renew(self) -> None:
        try:
            response = requests.post(self._url, json=self._grant, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise Unanswered(f"token: {type(error).__name__}") from error
        if response.status_code != 200:
            raise Unanswered(f"token: {response.status_code}")
        answer = response.json()
        self._token = answer["access_token"]
        self._until = time.monotonic() + answer["expires_in"] - 60
