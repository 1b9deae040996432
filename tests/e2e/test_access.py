"""§31: every access is checked against the caller's own patients and visits. A matrix of every operation that
`gateway/openapi.json` names × everybody who may knock × own, foreign and absent ids, through the gateway and at the
services themselves, because no service trusts the gateway."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from devstack.stack import Stack
from devstack.story.cast import log_in_as, tongue_photo
from devstack.story.stage import Stage
from eventkit.ids import new_id
from tests.e2e.doors import NOT_IN_THIS_STACK, Answer, Door, Operation, at_once, doors, operations
from tests.e2e.families import Family, fitting_body, is_led_to_by_an_id, speaks_of_somebody

Families = tuple[Family, Family]
OPERATIONS = operations()
GUARDED = [operation for operation in OPERATIONS if operation.roles is not None]
OWNERS = ("patient", "doctor")  # everybody else with a role works for all patients
NOT_REACHED = ("", "invalid_input", "malformed", "idempotency_key_missing", "not_found")
# Personal values that an operation exists to show to those who work for all patients.
SHOWN_TO_STAFF = {
    "GET /api/pharmacy/prescriptions/{prescription_id}": {
        "diagnosis", "usage", "recipient", "delivery_phone", "address",
    },
    "GET /api/pharmacy/prescriptions/{prescription_id}/evidence": {"diagnosis", "usage"},
    "GET /api/pharmacy/internal/prescriptions/{prescription_id}": {"diagnosis", "usage"},
    "GET /api/registration/internal/patients/{patient_id}": {"name", "id_number", "phone"},
}  # fmt: skip


@dataclass(frozen=True)
class Caller:
    """`family` is the number of the family that a patient or doctor belongs to."""

    name: str
    role: str
    token: str
    family: int | None = None


@dataclass(frozen=True)
class Knock:
    """`whose`: the number of the family whose ids were used; None for ids of nobody."""

    operation: Operation
    caller: Caller
    whose: int | None
    answer: Answer

    def __str__(self) -> str:
        whose = "absent ids" if self.whose is None else f"ids of family {self.whose}"
        return f"{self.operation} as {self.caller.name} with {whose}: {self.answer.status} {self.answer.code}"

    @property
    def may(self) -> bool:
        return self.operation.roles is None or self.caller.role in self.operation.roles

    @property
    def is_own(self) -> bool:
        return self.caller.role not in OWNERS or self.caller.family == self.whose


@pytest.fixture(scope="module")
def bearer(stage: Stage, stack: Stack) -> dict[str, str]:
    """A token of every role that belongs to no family: logged in by phone, services and the HIS by their secret."""
    tokens = {role: log_in_as(stage, role).token for role in ("pharmacist", "cashier", "operator")}
    for role, client in (("service", "payment"), ("his", "his")):
        secret = (stack.home / "secrets" / "clients" / client).read_text()
        grant = {"grant": "client", "client_id": client, "client_secret": secret}
        tokens[role] = stage.api().post("/api/registration/tokens", grant).json()["access_token"]
    return tokens


@pytest.fixture(scope="module")
def callers(families: Families, bearer: dict[str, str]) -> list[Caller]:
    of_families = [
        Caller(f"{role} {number}", role, who.token, number)
        for number, family in enumerate(families)
        for role, who in (("patient", family.api), ("doctor", family.doctor))
    ]
    return of_families + [Caller(role, role, token) for role, token in bearer.items()]


@pytest.fixture(scope="module", params=["gateway", "service"])
def door(request: pytest.FixtureRequest, stack: Stack) -> Door:
    return doors(stack.base)[request.param]


@pytest.fixture(scope="module")
def nobodys(families: Families) -> dict[str, str]:
    """Ids of the right form that nothing has; also of kinds that the families have none of."""
    visit = new_id()
    ids = {name: new_id() for operation in OPERATIONS for name in (*operation.names, *families[0].ids)}
    return ids | {"visit_id": visit, "order_id": f"fee-{visit}", "refund_id": f"rf-fee-{visit}"}


@pytest.fixture(scope="module")
def knocks(door: Door, callers: list[Caller], families: Families, nobodys: dict[str, str]) -> list[Knock]:
    """The matrix: every answer, whatever it is."""
    whose: list[int | None] = [0, 1, None]

    def knock(task: tuple[Operation, Caller, int | None]) -> Knock:
        operation, caller, number = task
        ids = nobodys if number is None else nobodys | families[number].ids
        body = sent(operation, ids, families[0])
        return Knock(operation, caller, number, door.ask(operation, ids, f"Bearer {caller.token}", body))

    tasks = [
        (operation, caller, number)
        for operation in OPERATIONS for caller in callers
        for number in (whose if speaks_of_somebody(operation) else [None])
        if not (operation.path.endswith("/erasure") and number is not None and caller.family == number)  # they stay
    ]  # fmt: skip
    return at_once(knock, tasks)


def sent(operation: Operation, ids: dict[str, str], family: Family) -> bytes | None:
    """So that it is the caller who is judged."""
    if operation.upload:
        return b"no picture"
    body = fitting_body(operation, ids, family)
    return None if body is None else json.dumps(body).encode()


def refused(knock: Knock, status: int, *codes: str) -> bool:
    return knock.answer.status == status and knock.answer.code in codes and knock.answer.is_problem


def bad_tokens(stack: Stack, good: str) -> dict[str, str | None]:
    """Authorization headers that prove nothing."""
    key: Any = load_pem_private_key((stack.home / "secrets" / "jwt_key.pem").read_bytes(), None)
    header = {"kid": jwt.get_unverified_header(good)["kid"]}
    claims = jwt.decode(good, options={"verify_signature": False})
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def signed(**changed: Any) -> str:
        return "Bearer " + jwt.encode({**claims, **changed}, key, "ES256", headers=header)

    def part(what: Any) -> str:
        return jwt.utils.base64url_encode(what if isinstance(what, bytes) else json.dumps(what).encode()).decode()

    head, _, signature = good.split(".")
    others = part({**claims, "roles": ["service", "cashier"]})
    shared = ".".join(part(what) for what in ({**header, "alg": "HS256"}, claims))
    by_public_key = hmac.digest(public, shared.encode(), "sha256")
    return {
        "nothing": None,
        "another scheme": "Basic cGF0aWVudDpwYXRpZW50",
        "an empty token": "Bearer ",
        "garbage": "Bearer garbage",
        "three parts of garbage": "Bearer a.b.c",
        "no signature": "Bearer " + jwt.encode(claims, "", "none", headers=header),
        "another key": "Bearer " + jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=header),
        "the public key as a secret": f"Bearer {shared}.{part(by_public_key)}",
        "other roles under the old signature": f"Bearer {head}.{others}.{signature}",
        "expired": signed(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600),
        "of another issuer": signed(iss="https://elsewhere.example"),
        "for another audience": signed(aud="elsewhere"),
    }


def is_sent_away(stack: Stack, family: Family) -> bool:
    """A browser cannot read a refused upgrade: the service opens, says nothing, and closes with 4000 + status."""
    url = stack.url("consult").replace("http", "ws") + f"/api/consult/visits/{family.ids['visit_id']}/live?after=0"
    with connect(url, proxy=None) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    return closed.value.rcvd is not None and closed.value.rcvd.code == 4401


def test_without_a_good_token_nobody_gets_anything(
    door: Door, stack: Stack, callers: list[Caller], families: Families, nobodys: dict[str, str]
) -> None:
    """§31. A token is judged before the body, the path or anything else that was sent."""
    ids = nobodys | families[0].ids

    def knock(task: tuple[Operation, str, str | None]) -> str:
        operation, what, token = task
        answer = door.ask(operation, ids, token, sent(operation, ids, families[0]))
        if operation.live and answer.status == 101 and token is None:
            return "" if is_sent_away(stack, families[0]) else f"{operation} lets in"
        fine = answer.status == 401 and answer.code in ("token_missing", "token_invalid") and answer.is_problem
        return "" if fine else f"{operation} with {what}: {answer.status} {answer.code}"

    tasks = []
    for operation in GUARDED:
        good = next(caller.token for caller in callers if caller.role in (operation.roles or ()))
        tasks += [(operation, what, token) for what, token in bad_tokens(stack, good).items()]
    assert [wrong for wrong in at_once(knock, tasks) if wrong] == []


def test_a_role_outside_x_roles_is_forbidden(knocks: list[Knock]) -> None:
    """§31."""
    outside = [knock for knock in knocks if not knock.may]
    assert len(outside) > len(GUARDED)
    assert [str(knock) for knock in outside if not refused(knock, 403, "forbidden")] == []


def test_foreign_is_as_absent(knocks: list[Knock]) -> None:
    """§31: the same status, the same code, the same body: a stranger does not even learn that something is there."""
    # Sessions are on offer to everybody: that there is one is no secret.
    absent = {(k.operation, k.caller): k.answer for k in knocks if k.whose is None}
    foreign = [k for k in knocks if speaks_of_somebody(k.operation) and k.may and not k.is_own and k.operation.roles
               and k.operation.names != ["session_id"]]  # fmt: skip
    assert len(foreign) > 100
    wrong = []
    for knock in foreign:
        nothing = absent[knock.operation, knock.caller]
        if knock.whose is not None and (knock.answer.body, knock.answer.kind) != (nothing.body, nothing.kind):
            wrong.append(f"{knock}; absent: {nothing.status} {nothing.code}")
        if not refused(knock, 404, "not_found") and knock.answer.code != NOT_IN_THIS_STACK:
            wrong.append(str(knock))
    assert wrong == []


def test_own_is_there(knocks: list[Knock], families: Families) -> None:
    """Beside it: who may, reaches what is theirs, or the refusals above would prove nothing."""
    theirs = families[0].ids.keys()
    own = [
        k for k in knocks
        if k.operation.roles and speaks_of_somebody(k.operation) and k.whose is not None and k.may and k.is_own
        and theirs >= set(k.operation.names) and is_led_to_by_an_id(k.operation)
    ]  # fmt: skip
    wrong = [
        str(k)
        for k in own
        if "refund_id" not in k.operation.names  # these visits went well
        and (k.answer.code in NOT_REACHED if k.answer.status not in (101, 200, 201) else False)
    ]
    assert wrong == []
    readable = {str(k.operation) for k in own if k.answer.status in (101, 200)}
    assert readable >= {str(k.operation) for k in own if k.operation.method == "GET"}


def test_no_answer_has_anothers_data(knocks: list[Knock], families: Families) -> None:
    """§31: nothing of a family, neither a value nor an id, is in what others get; those who work for all patients get
    no more than the operation is for."""
    wrong = []
    for knock in knocks:
        content = json.dumps(knock.answer.body, ensure_ascii=False) if knock.answer.kind.endswith("json") else ""
        shown = SHOWN_TO_STAFF.get(str(knock.operation), set())
        for number, family in enumerate(families):
            secret = dict(family.values)
            if knock.caller.role in OWNERS and knock.caller.family == number:
                continue
            if knock.may and knock.operation.roles and knock.caller.role not in (*OWNERS, "operator"):
                secret = {name: value for name, value in secret.items() if name not in shown}
            else:
                secret |= {name: value for name, value in family.ids.items() if name != "session_id"}
            wrong += [f"{knock} shows {name} of family {number}" for name, value in secret.items() if value in content]
    assert wrong == []


def test_no_answer_is_ours_to_blame(knocks: list[Knock]) -> None:
    """No 5xx anywhere, and every refusal is a problem (RFC 9457)."""
    assert [str(k) for k in knocks if k.answer.failed] == []
    assert [str(k) for k in knocks if k.answer.status >= 400 and not k.answer.is_problem] == []


def test_methods_that_nobody_wrote_do_nothing(door: Door, callers: list[Caller], nobodys: dict[str, str]) -> None:
    """A path answers to no method but its own."""
    known: dict[str, set[str]] = {}
    for operation in OPERATIONS:
        known.setdefault(operation.path, set()).add(operation.method)
    wrong = []
    for path, methods in known.items():
        for method in sorted({"POST", "PUT", "PATCH", "DELETE"} - methods):
            for caller in callers[:2]:
                other = Operation(method, path, (), {}, "")
                answer = door.ask(other, nobodys, f"Bearer {caller.token}")
                if answer.status not in (404, 405) or not answer.is_problem:
                    wrong.append(f"{other} as {caller.name}: {answer.status}")
    assert wrong == []


def test_ids_in_a_body_are_checked_as_well(families: Families, nobodys: dict[str, str]) -> None:
    """§31, §8, §10: nobody books for another's patient, with another's card or another's photos; and learns nothing."""
    mine, theirs = families
    notice = mine.api.get("/api/registration/notice").json()
    example = next(o for o in OPERATIONS if str(o) == "POST /api/registration/visits").example
    booking = example | {name: mine.ids[name] for name in ("patient_id", "card_id")}
    booking |= {"session_id": mine.session.session_id, "slot_id": mine.session.slots[1]}
    booking |= {"notice_version": notice["version"], "photo_ids": []}

    def refusal(**changed: Any) -> Any:
        answer = mine.api.post(booking_path, {**booking, **changed})
        assert answer.status_code in (404, 422), answer.text
        return answer.json()

    booking_path = "/api/registration/visits"
    for name in ("patient_id", "card_id"):
        assert refusal(**{name: theirs.ids[name]}) == refusal(**{name: nobodys[name]})
    assert refusal(photo_ids=[theirs.ids["photo_id"]]) == refusal(photo_ids=[nobodys["photo_id"]])
    cards = f"/api/registration/patients/{mine.ids['patient_id']}/cards"
    known = mine.api.post(cards, {"card_no": theirs.values["card_no"], "kind": "insurance_card"})
    unknown = mine.api.post(cards, {"card_no": "1099999999", "kind": "insurance_card"})
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json())


def test_nobody_logs_anothers_device_out(families: Families, nobodys: dict[str, str]) -> None:
    """§31: a foreign device is as absent as one that never was."""
    mine, theirs = families
    [device] = theirs.api.get("/api/registration/devices").json()["devices"]
    assert device["device_id"] not in mine.api.get("/api/registration/devices").text
    path = "/api/registration/devices/{}/revocation"
    answers = [mine.api.post(path.format(one)) for one in (device["device_id"], nobodys["device_id"])]
    assert [answer.status_code for answer in answers] == [404, 404]
    bodies = [{**answer.json(), "instance": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert theirs.api.get("/api/registration/patients").status_code == 200


def test_anothers_idempotency_key_opens_nothing(families: Families) -> None:
    """§31: an answer is given again only to who got it first."""
    mine, theirs = families
    path, key = "/api/registration/patients/{patient_id}/photos", new_id()
    first = mine.api.post(path.format(**mine.ids), data=tongue_photo(), kind="image/jpeg", key=key)
    again = mine.api.post(path.format(**mine.ids), data=tongue_photo(), kind="image/jpeg", key=key)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    stolen = theirs.api.post(path.format(**mine.ids), data=tongue_photo(), kind="image/jpeg", key=key)
    assert stolen.status_code == 404
    own = theirs.api.post(path.format(**theirs.ids), data=tongue_photo(), kind="image/jpeg", key=key)
    assert own.status_code == 201
    assert own.json() != first.json()


def test_login_does_not_tell_who_is_known(stage: Stage, families: Families, nobodys: dict[str, str]) -> None:
    """§7, §31: a wrong code and an unknown phone, a wrong secret and an unknown client look the same."""
    api = stage.api()
    hidden = hashlib.sha256(nobodys["visit_id"].encode()).hexdigest()
    for known, unknown in (
        ({"grant": "code", "phone": families[0].values["phone"], "code": "000000"},
         {"grant": "code", "phone": "13000000000", "code": "000000"}),
        ({"grant": "client", "client_id": "payment", "client_secret": hidden},
         {"grant": "client", "client_id": "nobody", "client_secret": hidden}),
    ):  # fmt: skip
        answers = [api.post("/api/registration/tokens", body) for body in (known, unknown)]
        assert answers[0].status_code == 401
        assert answers[0].json() == answers[1].json()
