"""The insurer as our payment service meets it: a real process, signed calls, a split to the fen, reversals once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from eventkit.ids import new_id
from partners.front import signed_headers
from tests.integration.partner_process import PartnerProcess

KEY = b"a secret of the tests"
FEE = {
    "card_id": "card-1",
    "card_kind": "beijing_insured",
    "item": "medical_service_fee",
    "title": "ordinary",
    "amount_fen": 5000,
    "hospital_code": "H110001",
}


class Insurer(PartnerProcess):
    def signed(
        self, method: str, path: str, json: Any = None, *, key: bytes = KEY, timeout: float = 5
    ) -> tuple[int, Any]:
        call = requests.Request(method, self.url + path, json=json).prepare()
        body = call.body or b""
        body = body if isinstance(body, bytes) else body.encode()
        call.headers.update(signed_headers(key, method, call.path_url, body))
        with requests.Session() as session:
            answer = session.send(call, timeout=timeout)
        return answer.status_code, answer.json()

    def decomposed(self, **fee: Any) -> dict[str, Any]:
        status, answer = self.signed("POST", "/decompositions", {**FEE, "trade_no": new_id(), **fee})
        assert status == 200, answer
        return dict(answer)

    def settled(self, **fee: Any) -> dict[str, Any]:
        split = self.decomposed(**fee)
        status, answer = self.signed("POST", "/settlements", {"decomposition_id": split["decomposition_id"]})
        assert status == 200, answer
        return dict(answer)

    def card(self, card_id: str, **card: Any) -> None:
        requests.put(f"{self.url}/sandbox/cards/{card_id}", json=card, timeout=5).raise_for_status()


@pytest.fixture(scope="module")
def insurer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Insurer]:
    home = tmp_path_factory.mktemp("insurer")
    secret = home / "secrets" / "clients" / "insurer"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(KEY)
    process = Insurer("insurer", home)
    process.start()
    yield process
    process.stop()


@pytest.mark.parametrize(
    ("title", "amount", "fund", "own"),
    [
        ("ordinary", 5000, 4000, 1000),
        ("associate_chief", 6000, 4000, 2000),
        ("chief", 8000, 4000, 4000),
        ("ordinary", 3000, 3000, 0),
    ],
)
def test_a_fee_is_split_by_title(insurer: Insurer, title: str, amount: int, fund: int, own: int) -> None:
    split = insurer.decomposed(title=title, amount_fen=amount)
    assert (split["fund_fen"], split["account_fen"], split["self_fen"]) == (fund, 0, own)


def test_a_trade_is_decomposed_once(insurer: Insurer) -> None:
    trade_no = new_id()
    assert insurer.decomposed(trade_no=trade_no) == insurer.decomposed(trade_no=trade_no)
    status, answer = insurer.signed("POST", "/decompositions", {**FEE, "trade_no": trade_no, "amount_fen": 6000})
    assert (status, answer["code"]) == (409, "trade_no_reused")


def test_a_settlement_claims_once_and_a_reversal_gives_back_once(insurer: Insurer) -> None:
    insurer.card("with-account", account_fen=700)
    before = insurer.get("/sandbox/books")["totals"]
    settled = insurer.settled(card_id="with-account")
    trade_no, settlement_id = settled["trade_no"], settled["settlement_id"]
    assert (settled["fund_fen"], settled["account_fen"], settled["self_fen"]) == (4000, 700, 300)
    again = insurer.signed("POST", "/settlements", {"decomposition_id": settled["decomposition_id"]})
    assert again == (200, settled)
    assert insurer.signed("GET", f"/settlements/{trade_no}") == (200, settled)
    assert insurer.decomposed(card_id="with-account")["account_fen"] == 0  # the account is spent

    with ThreadPoolExecutor(4) as callers:
        reversal = {"reversal_no": f"rf-{trade_no}", "settlement_id": settlement_id}
        answers = list(callers.map(lambda _: insurer.signed("POST", "/reversals", reversal), range(8)))
    assert [status for status, _ in answers] == [200] * 8
    assert all(answer == answers[0][1] for _, answer in answers)
    assert insurer.signed("GET", f"/reversals/rf-{trade_no}") == answers[0]
    other = insurer.signed("POST", "/reversals", {"reversal_no": "another", "settlement_id": settlement_id})
    assert (other[0], other[1]["code"]) == (409, "already_reversed")
    assert insurer.signed("GET", f"/settlements/{trade_no}")[1]["state"] == "reversed"
    assert insurer.decomposed(card_id="with-account")["account_fen"] == 700  # and given back

    after = insurer.get("/sandbox/books")["totals"]
    assert after["claimed_fund_fen"] - before["claimed_fund_fen"] == 4000
    assert (after["fund_fen"], after["account_fen"]) == (before["fund_fen"], before["account_fen"])


@pytest.mark.parametrize(
    ("expected", "method", "path", "body"),
    [
        ((422, "card_invalid"), "POST", "/decompositions", {**FEE, "trade_no": "r1", "card_id": "lost"}),
        ((422, "not_designated"), "POST", "/decompositions", {**FEE, "trade_no": "r2", "card_id": "elsewhere"}),
        ((422, "not_covered"), "POST", "/decompositions", {**FEE, "trade_no": "r3", "item": "drugs"}),
        ((422, "not_covered"), "POST", "/decompositions", {**FEE, "trade_no": "r4", "card_kind": "other_insured"}),
        ((400, "bad_request"), "POST", "/decompositions", {**FEE, "trade_no": "r5", "amount_fen": 0}),
        ((400, "bad_request"), "POST", "/decompositions", FEE),
        ((404, "not_found"), "POST", "/settlements", {"decomposition_id": "none"}),
        ((404, "not_found"), "POST", "/reversals", {"reversal_no": "r", "settlement_id": "none"}),
        ((404, "not_found"), "GET", "/settlements/none", None),
        ((404, "not_found"), "GET", "/reversals/none", None),
    ],
)
def test_refusals(insurer: Insurer, expected: tuple[int, str], method: str, path: str, body: Any) -> None:
    insurer.card("lost", state="invalid")
    insurer.card("elsewhere", state="not_designated")
    status, answer = insurer.signed(method, path, body)
    assert (status, answer["code"]) == expected


def test_a_settlement_is_not_repeated_after_its_reversal(insurer: Insurer) -> None:
    settled = insurer.settled()
    insurer.signed("POST", "/reversals", {"reversal_no": new_id(), "settlement_id": settled["settlement_id"]})
    status, answer = insurer.signed("POST", "/settlements", {"decomposition_id": settled["decomposition_id"]})
    assert (status, answer["code"]) == (409, "already_reversed")


def test_a_wrong_signature_is_refused(insurer: Insurer) -> None:
    status, answer = insurer.signed("POST", "/decompositions", {**FEE, "trade_no": new_id()}, key=b"another")
    assert (status, answer["code"]) == (401, "bad_signature")


def test_a_claim_that_timed_out_is_found_by_asking(insurer: Insurer) -> None:
    split = insurer.decomposed()
    claim = {"decomposition_id": split["decomposition_id"]}
    insurer.misbehave("timeout_after_effect", target="/settlements", seconds=1)
    with pytest.raises(requests.Timeout):
        insurer.signed("POST", "/settlements", claim, timeout=0.4)
    status, found = insurer.signed("GET", f"/settlements/{split['trade_no']}")
    assert (status, found["state"]) == (200, "settled")
    assert insurer.signed("POST", "/settlements", claim) == (200, found)


def test_errors_change_nothing(insurer: Insurer) -> None:
    trade_no = new_id()
    insurer.misbehave("error_500", times=2)
    assert [insurer.signed("GET", f"/settlements/{trade_no}")[0] for _ in range(3)] == [500, 500, 404]
    insurer.misbehave("slow", seconds=1)
    with pytest.raises(requests.Timeout):
        insurer.signed("GET", "/settlements/x", timeout=0.4)


def test_nothing_answered_is_lost_by_a_kill(insurer: Insurer) -> None:
    settled = insurer.settled()
    books = insurer.get("/sandbox/books")
    insurer.kill()
    insurer.start()
    assert insurer.get("/sandbox/books") == books
    assert insurer.signed("GET", f"/settlements/{settled['trade_no']}") == (200, settled)
