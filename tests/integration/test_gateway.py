"""The gateway as clients meet it: the rendered configuration in a real Envoy, before a tiny upstream on sockets."""

import concurrent.futures
import contextlib
import http.client
import http.server
import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import psutil
import pytest
import requests
import websockets.exceptions
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from devstack.places import ENVOY
from devstack.ports import HOST, SERVICES, free_base
from gateway.render import Limits, Place, render

ISSUER = "https://fuzhen.example"
KEY = ec.generate_private_key(ec.SECP256R1())
FOREIGN_KEY = ec.generate_private_key(ec.SECP256R1())
JWKS_PATH = "/api/registration/.well-known/jwks.json"
LIVE = "/api/consult/visits/v1/live"
MEGABYTE = 1024 * 1024


def token(key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": "fuzhen",
        "sub": "a1",
        "roles": ["patient"],
        "iat": now,
        "exp": now + 900,
        "jti": "1",
    }
    return jwt.encode({**claims, **changes}, key, algorithm="ES256", headers={"kid": "k1"})


def bearer(**changes: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**changes)}"}


# --- the upstream: all services but the live channel


@dataclass
class Upstream:
    """Answers every request with what arrived. `behave` runs first and may answer itself (True) or only wait."""

    port: int = 0
    seen: list[str] = field(default_factory=list)
    behave: Callable[[http.server.BaseHTTPRequestHandler], bool] = lambda _: False

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.path == JWKS_PATH:
            jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
            return reply(handler, 200, {"keys": [{**jwk, "kid": "k1", "alg": "ES256", "use": "sig"}]})
        self.seen.append(f"{handler.command} {handler.path}")
        if self.behave(handler):
            return None
        headers = {name.lower(): value for name, value in handler.headers.items()}
        return reply(handler, 200, {"path": handler.path, "headers": headers, "size": len(body)})


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def do_GET(self) -> None:
            upstream.answer(self)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream.port = server.server_address[1]
    yield upstream
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def live_channel() -> Iterator[int]:
    """The consult service's WebSocket: chooses the protocol `bearer`, sends back what it gets."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    def choose(_: ServerConnection, offered: Any) -> Subprotocol | None:
        return Subprotocol("bearer") if "bearer" in offered else None

    with serve(echo, HOST, 0, select_subprotocol=choose) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


@dataclass
class Gateway:
    base: int
    process: subprocess.Popen[bytes]
    log: Path

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.base + 80}{path}"

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.get(self.url(path), timeout=20, **kwargs)

    def post(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.post(self.url(path), timeout=20, **kwargs)

    def admin(self, path: str) -> str:
        return requests.get(f"http://{HOST}:{self.base + 81}{path}", timeout=5).text

    def raw_get(self, path: str) -> int:
        """The status for a path exactly as written: clients libraries tidy it up."""
        with contextlib.closing(http.client.HTTPConnection(HOST, self.base + 80, timeout=10)) as connection:
            connection.putrequest("GET", path, skip_host=False)
            connection.endheaders()
            return connection.getresponse().status


@pytest.fixture
def gateway(upstream: Upstream, live_channel: int, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts an Envoy with the given limits: `gateway(body_bytes=…)`. `down` names services that nobody serves."""
    started: list[subprocess.Popen[bytes]] = []

    def start(down: tuple[str, ...] = (), live: bool = False, **limits: Any) -> Gateway:
        base = free_base(24000)
        ports = {service: 1 if service in down else upstream.port for service in SERVICES}
        if live:
            ports["consult"] = live_channel
        services = {service: (HOST, port) for service, port in ports.items()}
        config, log = tmp_path / f"{base}.yaml", tmp_path / f"{base}.log"
        config.write_text(render(Place(services, base + 80, base + 81, limits=Limits(**limits))))
        with log.open("wb") as output:
            command = [str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
            command += ["--file-flush-interval-msec", "200"]
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        started.append(process)
        gateway = Gateway(base, process, log)
        wait_until(lambda: gateway.admin("/ready").startswith("LIVE"), log.read_text)
        if "registration" not in down:
            wait_until(lambda: gateway.get("/api/payment/x", headers=bearer()).status_code != 503, log.read_text)
        upstream.seen.clear()
        return gateway

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(10)


def wait_until(condition: Callable[[], bool], explain: Callable[[], str], seconds: float = 15) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with contextlib.suppress(requests.ConnectionError):
            if condition():
                return
        time.sleep(0.05)
    pytest.fail(f"not within {seconds} s\n{explain()}")


def assert_problem(response: requests.Response, status: int, code: str) -> None:
    """RFC 9457, with a sentence and a next step in both languages (design rule 9)."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"].endswith(code)
    assert problem["title"]
    assert problem["instance"] == urllib.parse.urlsplit(response.url).path
    assert response.headers["x-request-id"]
    for chinese, english in (("detail", "detail_en"), ("next", "next_en")):
        assert re.search("[\u4e00-\u9fff]", problem[chinese])
        assert not re.search("[\u4e00-\u9fff]", problem[english])


# --- routes and tokens


def test_every_service_is_reached_at_its_own_path_and_nothing_is_rewritten(gateway, upstream):
    door = gateway()
    for service in SERVICES:
        answer = door.get(f"/api/{service}/things/7?a=1&b=%E5%A4%8D", headers=bearer())
        assert answer.status_code == 200
        assert answer.json()["path"] == f"/api/{service}/things/7?a=1&b=%E5%A4%8D"
    assert_problem(door.get("/api/nobody/x", headers=bearer()), 404, "not_found")
    assert_problem(door.get("/health/ready", headers=bearer()), 404, "not_found")


def test_a_token_is_needed_and_travels_on_to_the_service_which_verifies_it_again(gateway):
    door = gateway()
    assert_problem(door.get("/api/registration/visits"), 401, "token_missing")
    answer = door.get("/api/registration/visits", headers=bearer())
    assert answer.json()["headers"]["authorization"].startswith("Bearer ey")


BAD_TOKENS = {
    "garbage": "not.a.token",
    "expired": token(exp=int(time.time()) - 60),
    "never expires": jwt.encode(
        {"iss": ISSUER, "aud": "fuzhen", "sub": "a1"}, KEY, algorithm="ES256", headers={"kid": "k1"}
    ),
    "of another issuer": token(iss="https://elsewhere.example"),
    "for another audience": token(aud="elsewhere"),
    "signed by a foreign key": token(FOREIGN_KEY),
    "unsigned": jwt.encode({"iss": ISSUER, "aud": "fuzhen", "exp": 9999999999}, None, algorithm="none"),
}


def test_a_bad_token_is_refused_by_the_gateway(gateway, upstream):
    door = gateway()
    for kind, bad in BAD_TOKENS.items():
        answer = door.get("/api/registration/visits", headers={"Authorization": f"Bearer {bad}"})
        assert_problem(answer, 401, "token_invalid")
        assert answer.headers["www-authenticate"].startswith("Bearer"), kind
    assert upstream.seen == []


PUBLIC = [
    ("GET", JWKS_PATH),
    ("GET", "/api/registration/entrances"),
    ("GET", "/api/registration/notice"),
    ("GET", "/api/registration/departments"),
    ("GET", "/api/registration/doctors?department_id=d1"),
    ("GET", "/api/registration/sessions?doctor_id=1&day=2026-11-23"),
    ("GET", "/api/registration/sessions/s1"),
    ("GET", "/api/pharmacy/openapi.json"),
    ("POST", "/api/registration/login-codes"),
    ("POST", "/api/registration/tokens"),
    ("POST", "/api/payment/notices/wechatpay"),
    ("POST", "/api/pharmacy/notices/courier"),
]
NOT_PUBLIC = [
    ("GET", "/api/registration/patients"),
    ("GET", "/api/registration/internal/patients/p1"),
    ("POST", "/api/registration/sessions"),
    ("GET", "/api/registration/sessions/s1/visits"),
    ("GET", "/api/registration/noticeboard"),
    ("GET", "/api/registration/tokens"),
    ("POST", "/api/payment/notices/wechatpay/more"),
    ("POST", "/api/pharmacy/notices/wechatpay"),
]


def test_what_is_public_needs_no_token_and_everything_else_does(gateway):
    door = gateway()
    for method, path in PUBLIC:
        assert requests.request(method, door.url(path), timeout=5).status_code == 200, (method, path)
    for method, path in NOT_PUBLIC:
        assert requests.request(method, door.url(path), timeout=5).status_code == 401, (method, path)


def test_no_spelling_of_a_path_slips_past_the_token(gateway, upstream):
    door = gateway()
    for path in (
        "/api/registration/notice/../patients",
        "/api/registration/notice/%2e%2e/patients",
        "//api//registration//patients",
        "/api/registration/./patients",
    ):
        assert door.raw_get(path) == 401, path
    assert door.raw_get("/api/registration/notice%2f..%2fpatients") == 400
    assert upstream.seen == []


def test_while_registration_gives_no_keys_the_answer_is_try_again_not_log_in(gateway):
    door = gateway(down=("registration",))
    assert_problem(door.get("/api/payment/orders/o1", headers=bearer()), 503, "unavailable")


# --- headers


def test_what_only_we_may_say_is_taken_out_of_a_clients_request(gateway):
    forged = {
        "X-Fuzhen-User": "operator",
        "X_Fuzhen_User": "operator",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-User": "operator",
        "X-Envoy-Original-Path": "/admin",
        "X-Envoy-Internal": "true",
        "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
    }
    got = gateway().get("/api/payment/x", headers={**bearer(), **forged}).json()["headers"]
    arrived = {name for name in got if name.startswith(("x-", "x_", "forwarded"))}
    assert arrived <= {"x-request-id", "x-forwarded-for", "x-forwarded-proto"}
    assert got["x-forwarded-for"] != forged["X-Forwarded-For"]
    assert "," not in got["x-forwarded-for"]  # the one address that Envoy itself saw


def test_a_request_id_is_ours_and_is_told_to_the_client(gateway):
    answer = gateway().get("/api/payment/x", headers={**bearer(), "X-Request-Id": "mine"})
    request_id = answer.json()["headers"]["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", request_id)
    assert answer.headers["x-request-id"] == request_id


def test_every_request_carries_a_traceparent(gateway):
    door = gateway()
    sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    def arrives(traceparent: str | None) -> tuple[str, str]:
        headers = door.get("/api/payment/x", headers={**bearer(), "traceparent": traceparent}).json()["headers"]
        return headers["traceparent"], headers["x-request-id"]

    assert arrives(sent)[0] == sent
    for nothing_useful in (None, "", "00-xyz", sent + "; drop", "00-" + "0" * 60):
        made, request_id = arrives(nothing_useful)
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made)
        assert made[3:35] == request_id.replace("-", "")


# --- limits


def test_a_body_has_1_megabyte_a_photo_8(gateway, upstream):
    door = gateway()
    photo = "/api/registration/patients/p1/photos"
    for path, limit in (("/api/registration/visits", MEGABYTE), (photo, 8 * MEGABYTE)):
        assert door.post(path, data=b"x" * limit, headers=bearer()).json()["size"] == limit
        upstream.seen.clear()
        assert_problem(door.post(path, data=b"x" * (limit + 1), headers=bearer()), 413, "too_large")
        chunks = (b"x" * 65536 for _ in range(limit // 65536 + 1))
        assert_problem(door.post(path, data=chunks, headers=bearer()), 413, "too_large")
        assert upstream.seen == []


def test_headers_have_a_limit_too(gateway):
    answer = gateway().get("/api/payment/x", headers={**bearer(), "Cookie": "x" * 20000})
    assert answer.status_code == 431


def test_everybody_together_is_limited(gateway):
    door = gateway(per_second=10)
    answers = [door.get("/api/payment/x", headers=bearer()) for _ in range(60)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert_problem(refused[0], 429, "rate_limited")
    assert int(refused[0].headers["retry-after"]) > 0
    assert sum(answer.status_code == 200 for answer in answers) >= 20


@pytest.mark.parametrize("path", ["/api/registration/login-codes", "/api/registration/tokens"])
def test_login_is_limited_per_address_and_the_rest_goes_on(gateway, path):
    door = gateway(login_per_minute=3)
    assert [door.post(path).status_code for _ in range(3)] == [200] * 3
    assert_problem(door.post(path), 429, "rate_limited")
    assert door.get("/api/registration/notice").status_code == 200
    assert door.get("/api/registration/visits", headers=bearer()).status_code == 200


# --- services that do not answer


def test_a_service_that_is_too_slow_is_cut_off(gateway, upstream):
    door = gateway(route_s=0.5)
    let_go = threading.Event()
    upstream.behave = lambda _: not let_go.wait(10)
    assert_problem(door.post("/api/pharmacy/x", headers=bearer()), 504, "timed_out")
    let_go.set()


def test_a_service_that_is_away_is_named_unavailable(gateway):
    door = gateway(down=("pharmacy",))
    assert_problem(door.get("/api/pharmacy/x", headers=bearer()), 503, "unavailable")
    assert_problem(door.post("/api/pharmacy/x", headers=bearer()), 503, "unavailable")


def test_only_get_is_tried_again(gateway, upstream):
    door = gateway()

    def fail_twice(handler: http.server.BaseHTTPRequestHandler) -> bool:
        if len(upstream.seen) > 2:
            return False
        reply(handler, 503, {})
        return True

    upstream.behave = fail_twice
    assert door.get("/api/payment/orders/o1", headers=bearer()).status_code == 200
    assert len(upstream.seen) == 3

    upstream.seen.clear()
    assert door.post("/api/payment/orders/o1/prepay", headers=bearer()).status_code == 503
    assert len(upstream.seen) == 1


def test_a_services_own_refusal_arrives_as_it_was_said(gateway, upstream):
    def refuse(handler: http.server.BaseHTTPRequestHandler) -> bool:
        reply(handler, 422, {"code": "slot_taken"})
        return True

    upstream.behave = refuse
    answer = gateway().post("/api/registration/visits", headers=bearer())
    assert (answer.status_code, answer.json()) == (422, {"code": "slot_taken"})


def test_the_circuit_opens_before_a_slow_service_drowns(gateway, upstream):
    door = gateway(connections=1, pending=1)
    let_go = threading.Event()
    upstream.behave = lambda _: not let_go.wait(10)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(door.post, "/api/payment/x", headers=bearer()) for _ in range(6)]
        first = next(concurrent.futures.as_completed(calls))
        let_go.set()
        assert_problem(first.result(), 503, "unavailable")
        assert sum(call.result().status_code == 200 for call in calls) >= 1


def test_an_instance_that_only_fails_is_left_alone_for_a_while(gateway, upstream):
    door = gateway()

    def break_off(handler: http.server.BaseHTTPRequestHandler) -> bool:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    upstream.behave = break_off
    for _ in range(6):
        door.post("/api/eligibility/x", headers=bearer())
    wait_until(
        lambda: "health_flags::/failed_outlier_check" in door.admin("/clusters"), lambda: door.admin("/clusters")
    )


# --- the live channel


def test_an_app_talks_live_with_its_authorization_header(gateway):
    door = gateway(live=True)
    with connect(live_url(door), additional_headers=bearer()) as channel:
        channel.send("您好")
        assert channel.recv(timeout=5) == "您好"


def test_a_browser_talks_live_with_its_token_as_a_protocol(gateway):
    door = gateway(live=True)
    with connect(live_url(door), subprotocols=[Subprotocol("bearer"), Subprotocol(token())]) as channel:
        assert channel.subprotocol == "bearer"
        channel.send("hello")
        assert channel.recv(timeout=5) == "hello"


@pytest.mark.parametrize(
    "offer",
    [
        {},
        {"subprotocols": [Subprotocol("bearer")]},
        {"subprotocols": [Subprotocol("bearer"), Subprotocol(token(FOREIGN_KEY))]},
    ],
)
def test_nobody_talks_live_without_a_token(gateway, offer):
    door = gateway(live=True)
    with pytest.raises(websockets.exceptions.InvalidStatus) as refusal, connect(live_url(door), **offer):
        pass
    assert refusal.value.response.status_code == 401
    assert json.loads(refusal.value.response.body)["code"] in ("token_missing", "token_invalid")


def test_silence_does_not_end_a_live_channel(gateway):
    """With every other idle limit at one second; the real one is over an hour."""
    door = gateway(live=True, idle_s=1, route_s=1, upload_s=1)
    with connect(live_url(door), additional_headers=bearer(), ping_interval=None) as channel:
        with pytest.raises(TimeoutError):
            channel.recv(timeout=3)
        channel.send("still there?")
        assert channel.recv(timeout=5) == "still there?"
    assert Limits().socket_idle_s >= 3600


def test_only_the_live_channel_can_be_upgraded(gateway):
    door = gateway(live=True)
    url = f"ws://{HOST}:{door.base + 80}/api/consult/visits/v1/messages"
    with pytest.raises(websockets.exceptions.InvalidStatus) as refusal, connect(url, additional_headers=bearer()):
        pass
    assert refusal.value.response.status_code == 403


def live_url(door: Gateway) -> str:
    return f"ws://{HOST}:{door.base + 80}{LIVE}?after=0"


# --- what operators see


def test_the_access_log_is_json_without_query_strings_and_tokens(gateway):
    door = gateway()
    secret = token()
    door.get("/api/payment/orders/o1?name=13800138000", headers={"Authorization": f"Bearer {secret}"})
    door.get("/api/payment/orders/o2?name=13800138000", headers={"Authorization": "Bearer not-a-real-token"})
    wait_until(lambda: "orders/o2" in door.log.read_text(), door.log.read_text)
    text = door.log.read_text()
    assert "13800138000" not in text
    assert secret not in text
    assert "not-a-real-token" not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    line = next(line for line in lines if line["path"] == "/api/payment/orders/o1")
    assert (line["method"], line["status"], line["service"]) == ("GET", 200, "payment")
    assert line["traceparent"]


def test_the_admin_interface_is_for_this_machine_only(gateway):
    door = gateway()
    listening = {
        c.laddr.port: c.laddr.ip
        for c in psutil.Process(door.process.pid).net_connections("tcp")
        if c.status == "LISTEN"
    }
    assert listening[door.base + 81] == "127.0.0.1"
    in_a_cluster = render(
        Place({service: (service, 8000) for service in SERVICES}, 8080, 9901, "0.0.0.0", trusted_hops=1)
    )
    assert "admin:\n  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }" in in_a_cluster


def test_the_configuration_for_a_cluster_is_valid_too(tmp_path):
    place = Place(
        {service: (f"{service}.fuzhen.svc", 8000) for service in SERVICES}, 8080, 9901, "0.0.0.0", trusted_hops=1
    )
    (tmp_path / "envoy.yaml").write_text(render(place))
    subprocess.run(
        [str(ENVOY), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")], check=True, capture_output=True
    )
