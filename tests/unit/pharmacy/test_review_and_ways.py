"""From the review to the drugs: one way or the other, in time, or not at all (§21 to §24)."""

from __future__ import annotations

from datetime import datetime

import pytest

from services.pharmacy.domain.prescription import (
    ChooseDelivery,
    ReviewPrescription,
    begin_dispatch,
    choose_delivery,
    dispense,
    expire,
    note_payment,
    review,
    withdraw,
)
from tests.unit.pharmacy.given import (
    ACCOUNT,
    MOMENT,
    PHARMACIST,
    SIGNED_AT,
    SOON,
    VALID_UNTIL,
    address,
    at_desk,
    booked,
    by_courier,
    chosen,
    dispatching,
    expired,
    issued,
    outcome,
    paid,
    prescription,
    returned,
    signed,
    signed_again,
    voided,
)

LAST = VALID_UNTIL - MOMENT
PASSED = ["PrescriptionReviewed", "PrescriptionIssued"]
REFUSED = ["PrescriptionReviewed", "PrescriptionVoided"]
RETURNED = ["PrescriptionReviewed", "PrescriptionReturned"]
CALLED = [signed, issued, chosen, paid, dispatching]


@pytest.mark.parametrize(
    ("rule", "given", "verdict", "reason", "holds", "now", "then"),
    [
        ("§24 pass", [signed], "pass", "", True, SOON, PASSED),
        ("§24 refuse", [signed], "refuse", "禁忌", True, SOON, REFUSED),
        ("§24 back to the doctor", [signed], "return", "剂量", True, SOON, RETURNED),
        ("§24 refuse needs a reason", [signed], "refuse", " ", True, SOON, "reason_missing"),
        ("§24 return needs a reason", [signed], "return", "", True, SOON, "reason_missing"),
        ("§24 signed again", [signed, returned, signed_again], "pass", "", True, VALID_UNTIL, PASSED),
        ("§24 while with the doctor", [signed, returned], "pass", "", True, SOON, "not_in_review"),
        ("§24 twice", [signed, issued], "pass", "", True, SOON, "not_in_review"),
        ("§24 what was refused", [signed, voided], "pass", "", True, SOON, "prescription_void"),
        ("§24 the last moment", [signed], "pass", "", True, LAST, PASSED),
        ("§24 exactly three days", [signed], "pass", "", True, VALID_UNTIL, "prescription_expired"),
        ("§24 expired", [signed, expired], "pass", "", True, SOON, "prescription_expired"),
        ("§24 a forged content", [signed], "pass", "", False, SOON, "signature_broken"),
        ("§24 a forged content may be refused", [signed], "refuse", "签名", False, SOON, REFUSED),
        ("§31 nothing there", [], "pass", "", True, SOON, "not_found"),
    ],
)  # fmt: skip
def test_review(
    rule: str, given: list[object], verdict: str, reason: str, holds: bool, now: datetime, then: list[str] | str
) -> None:
    command = ReviewPrescription(PHARMACIST, verdict, reason, holds)
    assert outcome(lambda: review(command, prescription(*given), booked, now)) == then, rule


CHOSEN = ["AddressGiven", "DeliveryChosen"]


@pytest.mark.parametrize(
    ("rule", "given", "courier", "account", "now", "then"),
    [
        ("§21 in effect", [signed, issued], "anda", ACCOUNT, SOON, CHOSEN),
        ("§21 another address", [signed, issued, address, chosen], "anda", ACCOUNT, SOON, CHOSEN),
        ("§21 paid first", [signed, issued, paid], "anda", ACCOUNT, SOON, CHOSEN),
        ("§21 paid in time, chosen later", [signed, issued, paid], "anda", ACCOUNT, VALID_UNTIL, CHOSEN),
        ("§21 unpaid, too late", [signed, issued], "anda", ACCOUNT, VALID_UNTIL, "prescription_expired"),
        ("§21 not on the list", [signed, issued], "mule", ACCOUNT, SOON, "unknown_courier"),
        ("§24 not in effect", [signed], "anda", ACCOUNT, SOON, "not_issued"),
        ("§21 courier called", CALLED, "anda", ACCOUNT, SOON, "already_dispatched"),
        ("§22 collected at the desk", [signed, issued, at_desk], "anda", ACCOUNT, SOON, "already_dispensed"),
        ("§23 expired", [signed, issued, expired], "anda", ACCOUNT, SOON, "prescription_expired"),
        ("§31 somebody else's", [signed, issued], "anda", "a2", SOON, "not_found"),
        ("§31 nothing there", [], "anda", ACCOUNT, SOON, "not_found"),
    ],
)  # fmt: skip
def test_delivery(
    rule: str, given: list[object], courier: str, account: str, now: datetime, then: list[str] | str
) -> None:
    command = ChooseDelivery(account, "ad2", courier, "林复安", "19900000001", "北京市海淀区某路1号")
    assert outcome(lambda: choose_delivery(command, prescription(*given), ("anda",), now)) == then, rule


@pytest.mark.parametrize(
    ("rule", "given", "now", "unpaid", "then"),
    [
        ("§23 payment says unpaid", [signed, issued], VALID_UNTIL, True, ["PrescriptionExpired"]),
        ("§23 the payment was first", [signed, issued, paid], VALID_UNTIL, True, []),
        ("§23 told twice", [signed, issued, expired], VALID_UNTIL, True, []),
        ("§22 settled at the desk first", [signed, issued, at_desk], VALID_UNTIL, True, []),
        ("§24 never reviewed", [signed], VALID_UNTIL, False, ["PrescriptionExpired"]),
        ("§24 never signed again", [signed, returned], VALID_UNTIL, False, ["PrescriptionExpired"]),
        ("§24 not a moment too early", [signed], LAST, False, []),
        ("§24 the old deadline of one signed again", [signed, returned, signed_again], VALID_UNTIL, False, []),
        ("§23 in effect: payment is the authority", [signed, issued], VALID_UNTIL, False, []),
        ("§24 refused stays refused", [signed, voided], VALID_UNTIL, False, []),
    ],
)
def test_expiry(rule: str, given: list[object], now: datetime, unpaid: bool, then: list[str]) -> None:
    assert outcome(lambda: expire(prescription(*given), now, unpaid=unpaid)) == then, rule


@pytest.mark.parametrize(
    ("rule", "given", "then"),
    [
        ("§21 paid", [signed, issued], ["PrescriptionPaid"]),
        ("§21 told twice", [signed, issued, paid], []),
        ("§16 after the end it is a refund's", [signed, issued, expired], []),
        ("§16 after the visit was withdrawn too", [signed, issued, voided], []),
        ("§23 after the desk too", [signed, issued, at_desk], []),
    ],
)
def test_payment(rule: str, given: list[object], then: list[str]) -> None:
    assert outcome(lambda: note_payment(prescription(*given), "rx-rx1")) == then, rule


@pytest.mark.parametrize(
    ("rule", "given", "then"),
    [
        ("§19 waiting for review", [signed], ["PrescriptionVoided"]),
        ("§19 with the doctor", [signed, returned], ["PrescriptionVoided"]),
        ("§19 unpaid", [signed, issued], ["PrescriptionVoided"]),
        ("§19 paid: it is brought", [signed, issued, paid], []),
        ("§19 collected", [signed, issued, at_desk], []),
        ("§19 void already", [signed, voided], []),
        ("§19 expired already", [signed, expired], []),
    ],
)
def test_a_withdrawn_visit(rule: str, given: list[object], then: list[str]) -> None:
    assert outcome(lambda: withdraw(prescription(*given))) == then, rule


@pytest.mark.parametrize(
    ("rule", "given", "then"),
    [
        ("§21 due", [signed, issued, address, chosen, paid], ["DispatchBegun"]),
        ("§21 due overtook the payment", [signed, issued, address, chosen], ["PrescriptionPaid", "DispatchBegun"]),
        ("§21 twice", CALLED, []),
        ("§21 twice, with the courier", [*CALLED, by_courier], []),
        ("§23 the desk was first", [signed, issued, chosen, paid, at_desk], "already_dispensed"),
        ("§23 expired", [signed, issued, chosen, expired], "prescription_expired"),
        ("§19 void", [signed, issued, chosen, voided], "prescription_void"),
        ("§21 nowhere to go", [signed, issued, paid], "delivery_not_chosen"),
        ("§24 not in effect", [signed], "not_issued"),
    ],
)
def test_dispatch(rule: str, given: list[object], then: list[str] | str) -> None:
    assert outcome(lambda: begin_dispatch(prescription(*given), "rx-rx1")) == then, rule


@pytest.mark.parametrize(
    ("rule", "given", "way", "then"),
    [
        ("§22 at the desk", [signed, issued], "desk", ["PrescriptionDispensed"]),
        ("§22 at the desk, told twice", [signed, issued, at_desk], "desk", []),
        ("§22 paid online, the desk was faster", [signed, issued, paid, chosen], "desk", ["PrescriptionDispensed"]),
        ("§21 by courier", CALLED, "courier", ["PrescriptionDispensed"]),
        ("§23 both: courier is being called", CALLED, "desk", "already_dispatched"),
        ("§23 both: the courier has it", [*CALLED, by_courier], "desk", "already_dispensed"),
        ("§23 both: the desk was first", [signed, issued, chosen, paid, at_desk], "courier", "already_dispensed"),
        ("§23 expired", [signed, issued, expired], "desk", "prescription_expired"),
        ("§24 not in effect", [signed], "desk", "not_issued"),
    ],
)  # fmt: skip
def test_both_ways_at_once_are_impossible(rule: str, given: list[object], way: str, then: list[str] | str) -> None:
    assert outcome(lambda: dispense(prescription(*given), way)) == then, rule


@pytest.mark.parametrize(
    ("given", "now", "then"),
    [
        ([signed, issued], LAST, True),
        ([signed, issued], VALID_UNTIL, False),
        ([signed, issued, paid], SOON, False),
        ([signed, issued, at_desk], SOON, False),
        ([signed], SIGNED_AT, False),
    ],
)
def test_when_the_desk_may_take_money(given: list[object], now: datetime, then: bool) -> None:  # §22
    assert prescription(*given).may_settle_at_desk(now) is then
