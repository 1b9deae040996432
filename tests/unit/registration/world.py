"""Registration without servers: the log in memory, partners and eligibility as stand-ins at their interfaces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec

from eventkit.audit import Audit, MemoryTrail
from eventkit.calls import Peer, PeerRefused
from eventkit.clock import FixedClock
from eventkit.contracts import contracts
from eventkit.core import Core
from eventkit.deadlines import Again, Row
from eventkit.envelope import Envelope
from eventkit.events import Refusal
from eventkit.memory_store import MemoryBackend
from eventkit.relay import to_envelope
from eventkit.store import Commit, Due, Request, Store
from services.registration.devices import Devices, DeviceVerifier, Login
from services.registration.directory import read_directory
from services.registration.domain.people import HisCard, HisPerson
from services.registration.events import VisitRequested, registry
from services.registration.handlers.accounts import Accounts
from services.registration.handlers.booking import Booking
from services.registration.handlers.drafts import Drafts
from services.registration.handlers.erasure import Erasure
from services.registration.handlers.messages import Messages
from services.registration.handlers.people import People
from services.registration.handlers.preferences import Preferences
from services.registration.handlers.sessions import SessionPlan, Sessions
from services.registration.handlers.visits import Visits
from services.registration.handlers.waiting import WaitingLists
from services.registration.http import Desk
from services.registration.jobs import jobs
from services.registration.links import PhotoLinks
from services.registration.login import LoginCodes
from services.registration.notice import Notice
from services.registration.partners import His, Sms, Wechat
from services.registration.photos import PhotoFiles
from services.registration.policies import inboxes
from services.registration.read_model import OPEN_STATES, ReadModel
from services.registration.scanner import Scanner
from services.registration.tokens import Clients, TokenIssuer
from tests.store_suite import PlainSealer
from tests.unit.registration.story import BORN, DOCTOR, MORNING, NOTICE, NOW, PERSON, QUARTER, add

KEY = ec.generate_private_key(ec.SECP256R1())


class RacingBackend(MemoryBackend):
    """Lets somebody else be first, once."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Callable[[], object] | None = None

    def append(self, commit: Commit) -> None:
        first, self.first = self.first, None
        if first:
            first()
        super().append(commit)


class FakeHis:
    def __init__(self) -> None:
        self.people: dict[str, HisPerson] = {}  # by number
        self.cards = {"1000000001": HisCard("C1", "beijing_insured")}

    def match(self, name: str, id_number: str) -> HisPerson | None:
        return self.people.get(id_number)

    def card(self, card_no: str, kind: str, his_patient_id: str) -> HisCard | None:
        return self.cards.get(card_no)


class FakeEligibility:
    """Answers as the eligibility service does; remembers what it was asked, under which key."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        self.failed: list[str] = []

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        assert path == "/api/eligibility/assessments"
        self.asked.append((body, key))
        if self.failed:
            failed = [{"code": code, "detail": "…"} for code in self.failed]
            raise PeerRefused(422, {"code": "not_eligible", "failed": failed})
        return {"assessment_id": "as1", "evidence_id": "R1"}


class FakeSms:
    def __init__(self) -> None:
        self.sent: dict[str, tuple[str, str, dict[str, str]]] = {}
        self.texts: list[str] = []
        self.failure: Exception | None = None

    def send(self, request_id: str, phone: str, template: str, params: dict[str, str], text: str) -> None:
        """`phone` is an openid where this stands for WeChat."""
        if self.failure:
            raise self.failure
        if request_id not in self.sent:
            self.texts.append(text)
        self.sent[request_id] = (phone, template, params)


class FakeCodes:
    """The code of every phone is 246810."""

    def issue(self, phone: str) -> str:
        return "246810"

    def redeem(self, phone: str, code: str) -> None:
        assert code == "246810"


class FakeDevices:
    """A device's refresh token is its id and a number that grows."""

    def __init__(self) -> None:
        self.logins: dict[str, Login] = {}
        self.gone: list[str] = []

    def open(self, subject: str, role: str, name: str) -> Login:
        device_id = f"device{len(self.logins) + 1}"
        self.logins[device_id] = Login(device_id, subject, role, f"{device_id}.1")
        return self.logins[device_id]

    def refresh(self, refresh_token: str) -> Login:
        device_id, _, number = refresh_token.partition(".")
        login = self.logins.get(device_id)
        if login is None or login.refresh_token != refresh_token or device_id in self.gone:
            raise Refusal("login_over")
        self.logins[device_id] = replace(login, refresh_token=f"{device_id}.{int(number) + 1}")
        return self.logins[device_id]

    def of(self, subject: str) -> list[dict[str, Any]]:
        return [
            {"device_id": login.device_id, "name": ""}
            for login in self.logins.values()
            if login.subject == subject and login.device_id not in self.gone
        ]

    def revoke(self, subject: str, device_id: str) -> None:
        if device_id not in {device["device_id"] for device in self.of(subject)}:
            raise Refusal("not_found")
        self.gone.append(device_id)

    def revoked(self) -> list[str]:
        return self.gone


class FakePhotos:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def keep(self, photo_id: str, patient_id: str, jpeg: bytes) -> None:
        self.kept.setdefault(photo_id, jpeg)

    def read(self, photo_id: str) -> bytes:
        return self.kept[photo_id]


class FakeReadModel:
    def __init__(self, world: World) -> None:
        self._world = world

    def sessions(self, today: str, doctor_id: str | None, day: str | None) -> list[dict[str, Any]]:
        return []

    def visits_of(self, account_id: str) -> list[dict[str, Any]]:
        return []

    def drafts_of(self, account_id: str) -> list[dict[str, Any]]:
        return []

    def care_of(self, patient_id: str) -> tuple[bool, date | None]:
        asked = [event for event in self._world.events() if isinstance(event, VisitRequested)]
        of_patient = [event for event in asked if event.patient_id == patient_id]
        states = {self._world.visits.visit(event.visit_id).state for event in of_patient}
        return bool(states & set(OPEN_STATES)), max((event.day for event in of_patient), default=None)

    def visits_showing(self, photo_id: str, doctor_id: str) -> list[str]:
        described = [event for event in self._world.events() if hasattr(event, "photo_ids")]
        return [event.visit_id for event in described if photo_id in event.photo_ids]


class World:
    def __init__(self) -> None:
        self.backend, self.clock, self.sealer = RacingBackend(), FixedClock(NOW), PlainSealer()
        self.his, self.eligibility, self.photos = FakeHis(), FakeEligibility(), FakePhotos()
        self.sms, self.wechat = FakeSms(), FakeSms()
        self.store = Store(self.backend, registry, self.sealer, self.clock)
        self.trail = MemoryTrail()
        vault = SimpleNamespace(
            blind=lambda purpose, value: hashlib.sha256(f"{purpose}{value}".encode()).hexdigest(),
            erase=lambda person, at: self.sealer.erased.add(person),
        )
        core = cast(Core, SimpleNamespace(
            store=self.store, clock=self.clock, vault=vault, audit=Audit(self.trail, self.clock),
        ))
        directory, notice = read_directory(), Notice(NOTICE, "# 服务须知")
        self.issuer = TokenIssuer(KEY, "https://fuzhen.example")
        self.devices = FakeDevices()
        self.verifier = DeviceVerifier(self.issuer, "https://fuzhen.example", self.devices, look_seconds=0)
        self.people = People(core, cast(His, self.his), cast(PhotoFiles, self.photos), Scanner())
        self.sessions = Sessions(core, directory)
        self.booking = Booking(core, self.people, self.sessions, cast(Peer, self.eligibility), notice)
        self.drafts = Drafts(core, self.people, self.booking)
        self.erasure = Erasure(core, FakeReadModel(self))
        self.visits = Visits(core)
        self.waiting = WaitingLists(core)
        self.preferences = Preferences(core)
        self.messages = Messages(core, self.visits, self.preferences)
        self.desk = Desk(
            core=core, directory=directory, notice=notice, issuer=self.issuer,
            accounts=Accounts(
                core, directory, cast(LoginCodes, FakeCodes()), cast(Devices, self.devices), self.issuer,
                self.clients(), cast(Sms, self.sms),
            ),
            devices=cast(Devices, self.devices),
            preferences=self.preferences,
            people=self.people, photos=cast(PhotoFiles, self.photos), links=PhotoLinks(core.vault),
            sessions=self.sessions, booking=self.booking,
            drafts=self.drafts, erasure=self.erasure,
            visits=self.visits, waiting=self.waiting, read_model=cast(ReadModel, FakeReadModel(self)),
        )
        self._jobs = jobs(
            self.visits, self.waiting, self.messages, cast(Sms, self.sms), cast(Wechat, self.wechat)
        )
        self._inboxes = inboxes(self.visits, self.messages)
        self._keys = 0

    @staticmethod
    def clients() -> Clients:
        clients = Clients.__new__(Clients)
        clients._clients = {}
        return clients

    # --- what happens

    def asked(self, caller: str, key: str | None = None) -> Request:
        self._keys += 1
        return Request(caller=caller, route="test", key=key or f"key-{self._keys}")

    def log_in(self, phone: str = "19900000001") -> str:
        return self.desk.accounts.log_in(phone, "246810", "").subject

    def patient(self, account_id: str, his_patient_id: str = PERSON) -> str:
        command = add(account_id=account_id)
        self.his.people[command.id_number] = HisPerson(his_patient_id, BORN, "female")
        return str(self.people.add(self.asked(account_id), command).body["patient_id"])

    def session(self) -> str:
        plan = SessionPlan(DOCTOR, "spleen-stomach", MORNING, MORNING + 2 * QUARTER, 15)
        return str(self.sessions.open(self.asked(DOCTOR), plan).body["session_id"])

    def hear(self, group: str, name: str, **data: Any) -> None:
        """The golden event arrives at an inbox, with other `data` where given."""
        golden = Envelope.parse(_GOLDEN[name].read_bytes())
        envelope = replace(golden, data={**golden.data, **data})
        contracts().validate(envelope)
        self._inboxes[group][name](envelope)

    def run_due(self) -> list[Again | None]:
        """Run every job that is due now, however often it has run already."""
        due = [due for due in self.due() if due.at <= self.clock.now()]
        return [self._jobs[d.job](Row(d.id, d.job, d.args, d.at, 1)) for d in due]

    # --- what is there

    def due(self) -> list[Due]:
        return [due for commit in self.backend.commits for due in commit.due]

    def events(self) -> list[Any]:
        return [
            registry.decode(logged.type, logged.data) for commit in self.backend.commits for logged in commit.events
        ]

    def published(self) -> list[Envelope]:
        return [
            to_envelope(commit, logged, registry.source)
            for commit in self.backend.commits
            for logged in commit.events
            if logged.topic is not None
        ]


_GOLDEN = {path.parent.name.split(".")[0]: path for path in Path(contracts().root).glob("examples/*/*/typical.json")}
