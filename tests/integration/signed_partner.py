"""A REST partner (his, courier, sms) as its own process, and a client that signs as our services do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from partners.front import signed_headers
from tests.integration.partner_process import PartnerProcess

SECRET = "a secret of the tests"


class Partner(PartnerProcess):
    def __init__(self, name: str, home: Path, **settings: str) -> None:
        super().__init__(name, home)
        self.settings = settings
        for secret in ("his-api", "courier-api", "courier-webhook", "sms-api"):
            path = home / "secrets" / "clients" / secret
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SECRET)

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, **self.settings}

    def signed(
        self, method: str, path: str, json: Any = None, *, key: str = SECRET, **params: str
    ) -> requests.Response:
        """A call as our services make it."""
        request = requests.Request(method, self.url + path, json=json, params=params).prepare()
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        request.headers.update(signed_headers(key.encode(), method, request.path_url, body))
        with requests.Session() as session:
            return session.send(request, timeout=5)

    def hand(self, method: str, path: str, json: Any = None) -> Any:
        """Somebody's hand in the sandbox: a call to /sandbox/…, not signed."""
        answer = requests.request(method, f"{self.url}/sandbox{path}", json=json, timeout=5)
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def running(name: str, home: Path, **settings: str) -> Iterator[Partner]:
    partner = Partner(name, home, **settings)
    try:
        partner.start()
        yield partner
    finally:
        partner.kill()
