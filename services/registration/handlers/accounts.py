"""Who is logging in: patients and staff by phone and code, services and the HIS by secret (§7)."""

from __future__ import annotations

from dataclasses import dataclass

from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.ids import new_id
from eventkit.store import Answer, Decision, Histories, Request
from services.registration.devices import Devices, Login
from services.registration.directory import Directory
from services.registration.events import AccountOpened, PhoneTaken
from services.registration.login import LoginCodes
from services.registration.notifications import LANGUAGES, wording
from services.registration.partners import Sms
from services.registration.policy import LOGIN
from services.registration.tokens import LIFETIME_SECONDS, Clients, TokenIssuer

PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class Token:
    access_token: str
    subject: str
    roles: list[str]
    token_type: str = "Bearer"
    expires_in: int = LIFETIME_SECONDS
    device_id: str | None = None
    refresh_token: str | None = None


class Accounts:
    def __init__(
        self,
        core: Core,
        directory: Directory,
        codes: LoginCodes,
        devices: Devices,
        issuer: TokenIssuer,
        clients: Clients,
        sms: Sms,
    ) -> None:
        self._core = core
        self._directory = directory
        self._codes = codes
        self._devices = devices
        self._issuer = issuer
        self._clients = clients
        self._sms = sms

    def send_code(self, phone: str) -> int:
        """Seconds the code is good for. The answer is the same for known and unknown phones.
        Raises Refusal("too_many_codes" | "login_locked"), Unanswered."""
        code = self._codes.issue(phone)
        minutes = str(int(LOGIN.valid.total_seconds() // 60))
        params = {"code": code, "minutes": minutes}
        text = " ".join(wording("login_code", language, params) for language in LANGUAGES)  # who it is shows later
        self._sms.send(f"login-{new_id()}", phone, "login_code", params, text)
        return int(LOGIN.valid.total_seconds())

    def log_in(self, phone: str, code: str, correlation_id: str, device: str = "") -> Token:
        """A first login opens the account. `device` is its name for itself.
        Raises Refusal("login_code_wrong" | "login_locked")."""
        self._codes.redeem(phone, code)
        subject, role = self._directory.who(phone) or (self._account_of(phone, correlation_id), PATIENT)
        return self._on_device(self._devices.open(subject, role, device))

    def refresh(self, refresh_token: str) -> Token:
        """Who left the hospital's directory, or changed in it, logs in anew. Raises Refusal("login_over")."""
        login = self._devices.refresh(refresh_token)
        if login.role != (self._directory.role_of(login.subject) or PATIENT):
            self._devices.revoke(login.subject, login.device_id)
            raise Refusal("login_over")
        return self._on_device(login)

    def log_in_client(self, client_id: str, secret: str) -> Token:
        """Raises Refusal("client_unknown")."""
        subject, roles = f"service:{client_id}", self._clients.roles(client_id, secret)
        return Token(self._issuer.issue(subject, roles), subject, roles)

    def _on_device(self, login: Login) -> Token:
        token = self._issuer.issue(login.subject, [login.role], login.device_id)
        return Token(token, login.subject, [login.role], device_id=login.device_id, refresh_token=login.refresh_token)

    def _account_of(self, phone: str, correlation_id: str) -> str:
        taken, account_id = f"phone-{self._core.vault.blind('phone', phone)}", new_id()

        def open_once(histories: Histories) -> Decision:
            if histories[taken]:
                return Decision(answer=Answer(200, {"account_id": histories[taken][0].event.account_id}))
            return Decision(
                events=[
                    (taken, PhoneTaken(account_id)),
                    (f"account-{account_id}", AccountOpened(account_id, phone)),
                ],
                answer=Answer(201, {"account_id": account_id}),
            )

        request = Request(caller="login", route="open account", key=None, correlation_id=correlation_id)
        answer = self._core.store.execute(request, [taken, f"account-{account_id}"], open_once)
        return str(answer.body["account_id"])
