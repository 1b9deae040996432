"""What the gateway itself refuses, in the words that the services use: `eventkit.problems`, and four of its own."""

from dataclasses import dataclass, field

from eventkit.problems import COMMON, Problem

_SHARED = {problem.code: problem for problem in COMMON}

RATE_LIMITED = Problem(
    "rate_limited", 429,
    "操作太频繁。", "There were too many requests.",
    "请稍等片刻再试。", "Wait for the seconds that Retry-After says, then try again.",
)  # fmt: skip
TIMED_OUT = Problem(
    "timed_out", 504,
    "系统没有及时响应,操作可能已经完成。", "There was no answer in time; the request may have taken effect.",
    "请先查看结果,再用同一请求重试,不会重复办理。", "Look first, then try again with the same Idempotency-Key.",
)  # fmt: skip
TOO_SLOW = Problem(
    "too_slow", 408,
    "网络太慢,请求没有完整送达。", "The request did not arrive in time.",
    "请换个网络重试。", "Try again on a better network.",
)  # fmt: skip
HEADERS_TOO_LARGE = Problem(
    "headers_too_large", 431,
    "请求头太大。", "The request headers are too large.",
    "请重新登录后再试。", "Log in again, then retry.",
)  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """Which of Envoy's own answers becomes which problem: by its details when given, else by its status, exactly or
    `and_above`. The first that fits wins."""

    problem: Problem
    details: str = ""
    status: int = 0
    and_above: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def refusals(retry_after: int) -> list[Refusal]:
    """In Envoy's order. `retry_after` is in seconds."""
    soon = {"retry-after": "2"}
    return [
        # Whether the token is good is not known: "log in again" would be the wrong advice.
        Refusal(_SHARED["unavailable"], details="remote_fetch_is_failed", headers=soon),
        Refusal(_SHARED["token_missing"], details="Jwt_is_missing", headers={"www-authenticate": "Bearer"}),
        Refusal(
            _SHARED["token_invalid"],
            details="jwt_authn_access_denied",
            headers={"www-authenticate": 'Bearer error="invalid_token"'},
        ),
        Refusal(_SHARED["malformed"], status=400),
        Refusal(_SHARED["forbidden"], status=403),
        Refusal(_SHARED["not_found"], status=404),
        Refusal(TOO_SLOW, status=408),
        Refusal(_SHARED["too_large"], status=413),
        Refusal(RATE_LIMITED, status=429, headers={"retry-after": str(retry_after)}),
        Refusal(HEADERS_TOO_LARGE, status=431),
        Refusal(TIMED_OUT, status=504),
        Refusal(_SHARED["unavailable"], status=500, and_above=True, headers=soon),
    ]
