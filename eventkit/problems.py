"""Refusals as a caller reads them: RFC 9457 problems with a stable code, a sentence in Chinese and in English, and what
to do next in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "https://fuzhen.example/problems/"


@dataclass(frozen=True, slots=True)
class Problem:
    """`zh`, `en`, `next_zh` and `next_en` are format strings over the facts of the refusal."""

    code: str
    status: int
    zh: str
    en: str
    next_zh: str
    next_en: str

    def render(self, facts: Mapping[str, Any], instance: str = "") -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": TYPE_BASE + self.code,
            "title": self.code.replace("_", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.zh.format_map(_Facts(facts)),
            "detail_en": self.en.format_map(_Facts(facts)),
            "next": self.next_zh.format_map(_Facts(facts)),
            "next_en": self.next_en.format_map(_Facts(facts)),
        }
        if instance:
            body["instance"] = instance
        for member in ("failed", "errors"):
            if member in facts:
                body[member] = facts[member]
        return body


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "…"


COMMON = (
    Problem(
        "token_missing", 401,
        "请先登录。", "Please log in first.",
        "登录后再试。", "Log in and try again.",
    ),
    Problem(
        "token_invalid", 401,
        "登录已失效。", "Your login is no longer valid.",
        "请重新登录。", "Log in again.",
    ),
    Problem(
        "forbidden", 403,
        "您没有进行此操作的权限。", "You are not allowed to do this.",
        "如有疑问请联系医院客服。", "Contact the hospital if you think you should be.",
    ),
    Problem(
        "not_found", 404,
        "没有找到您要的内容。", "There is nothing here for you.",
        "请返回上一页重新选择。", "Go back and choose again.",
    ),
    Problem(
        "method_not_allowed", 405,
        "不支持此操作。", "This operation is not supported here.",
        "请更新应用后再试。", "Update the app and try again.",
    ),
    Problem(
        "malformed", 400,
        "请求格式不正确。", "The request could not be read.",
        "请更新应用后再试。", "Update the app and try again.",
    ),
    Problem(
        "invalid_input", 422,
        "填写的内容有误,请检查标出的项目。", "Some fields are wrong; see `errors`.",
        "请修改后重新提交。", "Correct them and submit again.",
    ),
    Problem(
        "unsupported_media", 415,
        "不支持这种内容格式。", "This kind of content is not supported.",
        "请换一种格式。", "Use another format.",
    ),
    Problem(
        "too_large", 413,
        "内容太大。", "The content is too large.",
        "请缩小后重试。", "Make it smaller and try again.",
    ),
    Problem(
        "idempotency_key_missing", 400,
        "请求缺少幂等键。", "The request needs an Idempotency-Key header.",
        "请更新应用后再试。", "Send a new random key with each command, the same one with a retry.",
    ),
    Problem(
        "key_reused", 422,
        "同一幂等键被用于不同的请求。", "This Idempotency-Key was used for another request.",
        "请使用新的幂等键。", "Use a new key for a new request.",
    ),
    Problem(
        "busy", 409,
        "现在操作的人太多,请稍后再试。", "Too many people are changing this at once.",
        "请稍等几秒后重试。", "Wait a few seconds and try again with the same Idempotency-Key.",
    ),
    Problem(
        "unavailable", 503,
        "系统繁忙,您的操作结果尚未确认。", "The system is busy; whether this took effect is not known yet.",
        "请稍后用同一请求重试,不会重复办理。", "Try again with the same Idempotency-Key; nothing will be done twice.",
    ),
    Problem(
        "partner_unavailable", 503,
        "相关机构的系统暂时没有响应。", "A partner system does not answer at the moment.",
        "请稍后再试,您的信息没有变化。", "Try again later; nothing has been changed.",
    ),
    Problem(
        "internal", 500,
        "系统出现错误,我们已记录。", "Something went wrong on our side; we have recorded it.",
        "请稍后再试,或联系医院客服。", "Try again later or contact the hospital.",
    ),
)


class Catalogue:
    """The problems one service can answer with."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._problems: dict[str, Problem] = {}
        for problem in (*COMMON, *problems):
            if problem.code in self._problems:
                raise ValueError(f"problem {problem.code} is defined twice")
            self._problems[problem.code] = problem

    def __getitem__(self, code: str) -> Problem:
        return self._problems[code]

    def __contains__(self, code: str) -> bool:
        return code in self._problems

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems.values())
