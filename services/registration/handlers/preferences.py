"""How an account wishes to be told: its language and its channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.store import Answer, Decision, Histories, Request, fold
from services.registration.events import AccountOpened, PreferencesSet
from services.registration.handlers.people import account_stream

WECHAT = "wechat"


@dataclass(frozen=True, slots=True)
class Reach:
    """How an account is reached. Phone and openid are empty once the account's key is erased (§32)."""

    phone: str | None = None
    language: str = "zh"
    channel: str = "sms"
    wechat_openid: str | None = None


class Preferences:
    def __init__(self, core: Core) -> None:
        self._core = core

    def of(self, account_id: str) -> Reach:
        stream = account_stream(account_id)
        return fold(_evolve, Reach(), self._core.store.load(stream)[stream])

    def set(
        self, request: Request, account_id: str, language: str, channel: str, wechat_openid: str | None
    ) -> Answer:
        """An openid that is not given stays as it is. Raises Refusal("wechat_unlinked")."""
        stream = account_stream(account_id)

        def decide(histories: Histories) -> Decision:
            before = fold(_evolve, Reach(), histories[stream])
            openid = wechat_openid or before.wechat_openid
            if channel == WECHAT and openid is None:
                raise Refusal("wechat_unlinked")
            wished = (language, channel, openid)
            changed = wished != (before.language, before.channel, before.wechat_openid)
            events = [(stream, PreferencesSet(account_id, *wished))] if changed else []
            return Decision(events, answer=Answer(200, shown(Reach(None, *wished))))

        return self._core.store.execute(request, [stream], decide)


def shown(reach: Reach) -> dict[str, Any]:
    """Without the openid: an answer is kept (§31)."""
    return {
        "language": reach.language, "channel": reach.channel, "wechat_linked": reach.wechat_openid is not None,
    }


def _evolve(state: Reach, event: Any) -> Reach:
    match event:
        case AccountOpened():
            return Reach(event.phone)
        case PreferencesSet():
            return Reach(state.phone, event.language, event.channel, event.wechat_openid)
    return state
