"""The HIS, and who carries messages by SMS and WeChat, as `partners/` speaks them: signed REST, secrets in
FUZHEN_SECRETS/clients."""

from __future__ import annotations

from datetime import date

from environs import Env

from eventkit.calls import Peer, PeerRefused
from eventkit.signing import partner_secret, signed_with
from services.registration.domain.people import HisCard, HisPerson


class His:
    """Asks only; every call may be repeated. Raises Unanswered, PeerRefused."""

    def __init__(self, env: Env) -> None:
        self._peer = Peer("his", env.str("FUZHEN_HIS_URL"), headers=signed_with(partner_secret(env, "his-api")))

    def match(self, name: str, id_number: str) -> HisPerson | None:
        """§7: who this is at the hospital, by name and the document's number together."""
        try:
            found = self._peer.post("/patients/match", {"name": name, "id_number": id_number}, repeatable=True)
        except PeerRefused as refused:
            if refused.code == "no_match":
                return None
            raise
        return HisPerson(found["his_patient_id"], date.fromisoformat(found["birth_date"]), found["sex"])

    def card(self, card_no: str, kind: str, his_patient_id: str) -> HisCard | None:
        """§8: the card, if it was used at this hospital by this person."""
        found = self._peer.post(
            "/cards/check", {"card_no": card_no, "kind": kind, "his_patient_id": his_patient_id}, repeatable=True
        )
        return HisCard(found["card_id"], found["card_kind"]) if found["belongs"] else None


class Sms:
    def __init__(self, env: Env) -> None:
        self._peer = Peer("sms", env.str("FUZHEN_SMS_URL"), headers=signed_with(partner_secret(env, "sms-api")))

    def send(self, request_id: str, phone: str, template: str, params: dict[str, str], text: str) -> None:
        """Accepted once per `request_id`, however often it is sent. Raises Unanswered, PeerRefused."""
        message = {"request_id": request_id, "phone": phone, "template": template, "params": params, "text": text}
        self._peer.post("/messages", message, repeatable=True)


class Wechat:
    """Template messages of the hospital's official account."""

    def __init__(self, env: Env) -> None:
        url = env.str("FUZHEN_WECHAT_URL", env.str("FUZHEN_SMS_URL"))
        self._peer = Peer("wechat", url, headers=signed_with(partner_secret(env, "sms-api")))

    def send(self, request_id: str, openid: str, template: str, params: dict[str, str], text: str) -> None:
        """Accepted once per `request_id`. Raises Unanswered; PeerRefused, so for who no longer follows the account."""
        data = {name: {"value": value} for name, value in {**params, "text": text}.items()}
        message = {"client_msg_id": request_id, "touser": openid, "template_id": template, "data": data}
        self._peer.post("/wechat/templates", message, repeatable=True)
