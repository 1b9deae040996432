"""A prescription from the doctor's signature to the drugs (§20 to §25)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta

from services.pharmacy.domain.care import Care
from services.pharmacy.domain.drugs import HERBAL, WESTERN, Drug, refuse_antibiotic
from services.pharmacy.domain.safety import findings
from services.pharmacy.events import (
    AddressGiven,
    CareBooked,
    CarePrescribed,
    DeliveryChosen,
    DispatchBegun,
    Dosing,
    Finding,
    HerbalOrder,
    Line,
    ParcelCameBack,
    PrescriptionDispensed,
    PrescriptionExpired,
    PrescriptionIssued,
    PrescriptionPaid,
    PrescriptionReturned,
    PrescriptionReviewed,
    PrescriptionSigned,
    PrescriptionVoided,
    RedeliveryBegun,
    Refusal,
    ReturnCollected,
    SecondSignature,
    Sheet,
)

IN_REVIEW, RETURNED, ISSUED = "in_review", "returned", "issued"
VOIDED, EXPIRED, DISPENSED = "voided", "expired", "dispensed"
COURIER, DESK = "courier", "desk"
PASS, REFUSE, RETURN = "pass", "refuse", "return"
DECOCTIONS = ("hospital", "self")  # 代煎, 自煎


@dataclass(frozen=True, slots=True)
class Policy:
    """Numbers the law sets, valid from the first instant of `since` in UTC until the next row."""

    since: date
    validity: timedelta
    western_drugs: int


POLICIES = (Policy(since=date(2007, 5, 1), validity=timedelta(hours=72), western_drugs=5),)


def policy_at(now: datetime) -> Policy:
    day = now.astimezone(UTC).date()
    return max((policy for policy in POLICIES if policy.since <= day), key=lambda policy: policy.since)


@dataclass(frozen=True, slots=True)
class WantedLine:
    """What the doctor writes. The rest of a line is the catalogue's, never the client's. `dose` and `usage` may be left
    out where `dosing`, or the way a herbal piece is decocted, says it."""

    drug_code: str
    quantity: int
    dose: str = ""
    usage: str = ""
    dosing: Dosing | None = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The doctor's second signature (§25): the keys of exactly the findings that were shown, and why all the same."""

    reason: str
    findings: frozenset[str]


@dataclass(frozen=True, slots=True)
class SignPrescription:
    prescription_id: str
    visit_id: str
    doctor_id: str
    kind: str
    diagnosis: str
    lines: Sequence[WantedLine]
    allergies: Sequence[str] = ()
    herbal: HerbalOrder | None = None
    second: Confirmation | None = None


@dataclass(frozen=True, slots=True)
class ReviewPrescription:
    """`signature_holds`: the doctor's signature was checked against the content that stands in the log."""

    pharmacist_id: str
    outcome: str
    reason: str
    signature_holds: bool


@dataclass(frozen=True, slots=True)
class ChooseDelivery:
    account_id: str
    address_id: str
    courier: str
    recipient: str
    phone: str
    address: str


@dataclass(frozen=True, slots=True)
class Prescription:
    """`signed` is the latest signature. `order_id` is set once it is paid online. `came_back`: the latest parcel is in
    the pharmacy again and nobody has decided what next."""

    state: str = ""
    signed: PrescriptionSigned | None = None
    reviewed: PrescriptionReviewed | None = None
    issued: PrescriptionIssued | None = None
    void_reason: str | None = None
    delivery: DeliveryChosen | None = None
    address: AddressGiven | None = None
    order_id: str | None = None
    dispatching: bool = False
    parcels: int = 0
    came_back: bool = False
    collected: bool = False
    way: str | None = None

    @property
    def paid(self) -> bool:
        return self.order_id is not None

    @property
    def facts(self) -> PrescriptionSigned:
        """The signed facts. Raises Refusal when there is no such prescription."""
        if self.signed is None:
            raise Refusal("not_found")
        return self.signed

    @property
    def parcel_id(self) -> str:
        """The latest parcel."""
        return _parcel_id(self.facts.prescription_id, self.parcels)

    @property
    def next_parcel_id(self) -> str:
        return _parcel_id(self.facts.prescription_id, self.parcels + 1)

    def may_settle_at_desk(self, now: datetime) -> bool:
        """Whether the desk may take money for it (§22): in effect, not paid online, not over."""
        return self.state == ISSUED and not self.paid and now < self.facts.valid_until


def _parcel_id(prescription_id: str, number: int) -> str:
    return prescription_id if number <= 1 else f"{prescription_id}-{number}"


def evolve(state: Prescription, event: object) -> Prescription:
    match event:
        case PrescriptionSigned():
            return replace(state, state=IN_REVIEW, signed=event, reviewed=None)  # that review was of another content
        case PrescriptionReviewed():
            return replace(state, reviewed=event)
        case PrescriptionReturned():
            return replace(state, state=RETURNED)
        case PrescriptionIssued():
            return replace(state, state=ISSUED, issued=event)
        case PrescriptionVoided():
            return replace(state, state=VOIDED, void_reason=event.reason)
        case PrescriptionExpired():
            return replace(state, state=EXPIRED)
        case AddressGiven():
            return replace(state, address=event)
        case DeliveryChosen():
            return replace(state, delivery=event)
        case PrescriptionPaid():
            return replace(state, order_id=event.order_id)
        case DispatchBegun():
            return replace(state, dispatching=True, parcels=1)
        case ParcelCameBack():
            return replace(state, came_back=True)
        case RedeliveryBegun():
            return replace(state, came_back=False, parcels=state.parcels + 1)
        case ReturnCollected():
            return replace(state, came_back=False, collected=True)
        case PrescriptionDispensed():
            return replace(state, state=DISPENSED, way=event.way)
    return state


# --- signing and review ---


def sign(
    command: SignPrescription,
    care: Care,
    state: Prescription,
    drugs: Mapping[str, Drug],
    now: datetime,
    stock: Mapping[str, int] | None = None,
) -> tuple[list[object], PrescriptionSigned]:
    """The events for the visit, and the signed prescription without its signatures, which the caller puts on.

    Who is not the visit's doctor learns nothing (§31). A returned prescription may be signed again (§24) also after
    the consult is finished, but not after its visit was withdrawn. Its three days start again, exactly 72 hours.
    `stock` is what the hospital has, by drug code (what it does not keep is not there); None when nobody could say:
    then the sheet notes it, and the pharmacist finds out.
    """
    if care.booked is None or care.booked.doctor_id != command.doctor_id:
        raise Refusal("not_found")
    again = state.signed is not None
    if again:
        _refuse_over(state)
        if state.state != RETURNED:
            raise Refusal("not_returned")
        if now >= state.facts.valid_until:
            raise Refusal("prescription_expired")
    elif not care.accepted:
        raise Refusal("consult_not_accepted")
    if care.withdrawn or (care.finished and not again):
        raise Refusal("consult_over")
    policy = policy_at(now)
    picked = _picked(command.kind, command.lines, drugs, policy)
    doses = _doses(command)
    for drug, _ in picked:
        refuse_antibiotic(drug, care.title, now)
    second = _confirmed(
        findings([(drug, line.quantity, line.dosing) for drug, line in picked], command.allergies), command.second
    )
    _refuse_out_of_stock(picked, doses, stock)
    sheet = Sheet(
        diagnosis=command.diagnosis,
        lines=tuple(_priced(drug, line, doses) for drug, line in picked),
        herbal=command.herbal,
        allergies=tuple(command.allergies),
        second=second,
        stock_checked=stock is not None,
    )
    signed_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    signed = PrescriptionSigned(
        prescription_id=command.prescription_id,
        visit_id=command.visit_id,
        patient_id=care.booked.patient_id,
        account_id=care.booked.account_id,
        doctor_id=command.doctor_id,
        kind=command.kind,
        amount_fen=sum(line.amount_fen for line in sheet.lines),
        signed_at=signed_at,
        valid_until=signed_at + policy.validity,
        content_sha256="",
        sheet=sheet,
    )
    signed = replace(signed, content_sha256=hashlib.sha256(canonical(signed)).hexdigest())
    return [] if again else [CarePrescribed(command.visit_id, command.prescription_id)], signed


def canonical(signed: PrescriptionSigned) -> bytes:
    """The content that the doctor signs, the same bytes wherever it is made: JSON in UTF-8, sorted keys, no spaces,
    instants as RFC 3339 UTC with milliseconds. What a sheet does not have is left out."""
    sheet = signed.sheet
    content: dict[str, object] = {
        "prescription_id": signed.prescription_id,
        "visit_id": signed.visit_id,
        "patient_id": signed.patient_id,
        "doctor_id": signed.doctor_id,
        "kind": signed.kind,
        "diagnosis": sheet.diagnosis if sheet else None,
        "lines": [_present(line) for line in sheet.lines] if sheet else None,
        "amount_fen": signed.amount_fen,
        "signed_at": _instant(signed.signed_at),
        "valid_until": _instant(signed.valid_until),
    }
    if sheet and sheet.herbal:
        content["herbal"] = asdict(sheet.herbal)
    if sheet and sheet.allergies:
        content["allergies"] = list(sheet.allergies)
    if sheet and sheet.second:
        content["confirmed"] = [finding.key for finding in sheet.second.findings]
    return _bytes(content)


def canonical_second(signed: PrescriptionSigned) -> bytes | None:
    """What the doctor signs a second time (§25): the content by its hash, what speaks against it, and the reason."""
    second = signed.sheet.second if signed.sheet else None
    if second is None:
        return None
    return _bytes({
        "prescription_id": signed.prescription_id,
        "doctor_id": signed.doctor_id,
        "content_sha256": signed.content_sha256,
        "findings": [asdict(finding) for finding in second.findings],
        "reason": second.reason,
        "signed_at": _instant(signed.signed_at),
    })


def canonical_review(reviewed: PrescriptionReviewed, signed: PrescriptionSigned) -> bytes:
    """What the pharmacist signs (§24): the outcome, over the content by its hash."""
    return _bytes({
        "prescription_id": reviewed.prescription_id,
        "content_sha256": signed.content_sha256,
        "pharmacist_id": reviewed.pharmacist_id,
        "outcome": reviewed.outcome,
        "reason": reviewed.reason,
        "reviewed_at": _instant(reviewed.reviewed_at) if reviewed.reviewed_at else None,
    })


def _bytes(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _present(line: Line) -> dict[str, object]:
    return {name: value for name, value in asdict(line).items() if value is not None}


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _doses(command: SignPrescription) -> int:
    """§25: a herbal prescription says how many doses, how they are decocted and taken; a western one does not."""
    if command.kind != HERBAL:
        if command.herbal is not None:
            raise Refusal("invalid_input")
        return 1
    if command.herbal is None:
        raise Refusal("herbal_missing")
    if command.herbal.doses < 1 or command.herbal.decoction not in DECOCTIONS:
        raise Refusal("invalid_input")
    return command.herbal.doses


def _picked(
    kind: str, wanted: Sequence[WantedLine], drugs: Mapping[str, Drug], policy: Policy
) -> list[tuple[Drug, WantedLine]]:
    """§25: one kind a prescription, no special drugs, at most five drugs on a western one."""
    if not wanted:
        raise Refusal("no_drugs")
    codes = [line.drug_code for line in wanted]
    if len(set(codes)) < len(codes):
        raise Refusal("drug_twice")
    picked = []
    for line in wanted:
        drug = drugs.get(line.drug_code)
        if drug is None:
            raise Refusal("unknown_drug", drug=line.drug_code)
        if drug.special is not None:
            raise Refusal("special_drug", drug=drug.name)
        if drug.kind != kind:
            raise Refusal("mixed_kinds", drug=drug.name)
        if line.quantity < 1:
            raise Refusal("invalid_input")
        if kind == WESTERN and not line.dose and line.dosing is None:
            raise Refusal("dosing_missing", drug=drug.name)
        picked.append((drug, line))
    if kind == WESTERN and len(picked) > policy.western_drugs:
        raise Refusal("too_many_drugs", limit=policy.western_drugs)
    return picked


def _priced(drug: Drug, line: WantedLine, doses: int) -> Line:
    """Our prices, not theirs."""
    if drug.kind == HERBAL:
        dose = line.dose or f"每剂{line.quantity}克"
    else:
        dose = line.dose or (_said(line.dosing) if line.dosing else "")
    return Line(
        drug_code=drug.code, name=drug.name, form=drug.form, unit=drug.unit, price_fen=drug.price_fen,
        quantity=line.quantity, amount_fen=drug.price_fen * line.quantity * doses, dose=dose,
        usage=line.usage or drug.decoction, dosing=line.dosing,
    )  # fmt: skip


def _said(dosing: Dosing) -> str:
    return f"每次{dosing.amount}{dosing.unit},一日{dosing.times_per_day}次,{dosing.days}天"


def _confirmed(found: Sequence[Finding], second: Confirmation | None) -> SecondSignature | None:
    """§25: who confirms has seen exactly what there is to confirm, and says why."""
    if not found:
        return None
    keys = {finding.key for finding in found}
    if second is None or second.findings != keys:
        raise Refusal(
            "second_signature_needed",
            findings=";".join(finding.detail for finding in found),
            findings_en="; ".join(finding.detail_en for finding in found),
            failed=[asdict(finding) for finding in found],
        )
    if not second.reason.strip():
        raise Refusal("override_reason_missing")
    return SecondSignature(second.reason, tuple(found))


def _refuse_out_of_stock(
    picked: Sequence[tuple[Drug, WantedLine]], doses: int, stock: Mapping[str, int] | None
) -> None:
    for drug, line in picked:
        if stock is not None and stock.get(drug.code, 0) < line.quantity * doses:
            raise Refusal("out_of_stock", drug=drug.name)


def review(
    command: ReviewPrescription, state: Prescription, booked: CareBooked, now: datetime
) -> tuple[PrescriptionReviewed, object]:
    """§24: pass puts it in effect; refuse ends it; return lets the doctor sign again. The last two say why.

    The review comes without the pharmacist's signature, which the caller puts on.
    """
    signed = state.facts
    _refuse_over(state)
    if state.state != IN_REVIEW:
        raise Refusal("not_in_review")
    if now >= signed.valid_until:
        raise Refusal("prescription_expired")
    if command.outcome != PASS and not command.reason.strip():
        raise Refusal("reason_missing")
    reviewed = PrescriptionReviewed(
        signed.prescription_id, signed.patient_id, command.pharmacist_id, command.outcome, command.reason or None,
        reviewed_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
    )  # fmt: skip
    if command.outcome == REFUSE:
        return reviewed, PrescriptionVoided(signed.prescription_id, signed.visit_id, "refused")
    if command.outcome == RETURN:
        return reviewed, PrescriptionReturned(signed.prescription_id, signed.visit_id, command.pharmacist_id)
    if not command.signature_holds:
        raise Refusal("signature_broken")
    issued = PrescriptionIssued(
        prescription_id=signed.prescription_id,
        visit_id=signed.visit_id,
        patient_id=signed.patient_id,
        account_id=signed.account_id,
        doctor_id=signed.doctor_id,
        pharmacist_id=command.pharmacist_id,
        kind=signed.kind,
        card_kind=booked.card_kind,
        amount_fen=signed.amount_fen,
        signed_at=signed.signed_at,
        valid_until=signed.valid_until,
    )
    return reviewed, issued


# --- the two ways to the drugs, and the ends without them ---


def choose_delivery(
    command: ChooseDelivery, state: Prescription, couriers: Sequence[str], now: datetime
) -> list[object]:
    """§21: before or after paying, and again, until the courier is being asked. What is paid no longer runs out. Once
    a parcel came back it may be brought again; the courier asks for its fee at the door again."""
    signed = state.facts
    if signed.account_id != command.account_id:
        raise Refusal("not_found")
    address = AddressGiven(
        command.address_id, signed.patient_id, command.recipient, command.phone, command.address
    )
    if state.came_back:
        if command.courier not in couriers:
            raise Refusal("unknown_courier")
        return [
            address,
            RedeliveryBegun(signed.prescription_id, state.next_parcel_id, command.courier, command.address_id),
        ]
    _refuse_over(state)
    if state.state != ISSUED:
        raise Refusal("not_issued")
    if state.dispatching:
        raise Refusal("already_dispatched")
    if not state.paid and now >= signed.valid_until:
        raise Refusal("prescription_expired")
    if command.courier not in couriers:
        raise Refusal("unknown_courier")
    return [
        address,
        DeliveryChosen(signed.prescription_id, signed.visit_id, command.courier, command.address_id),
    ]


def note_payment(state: Prescription, order_id: str) -> list[object]:
    """What is over stays over: that capture is payment's to give back (§16)."""
    if state.paid or state.state != ISSUED:
        return []
    return [PrescriptionPaid(state.facts.prescription_id, order_id)]


def begin_dispatch(state: Prescription, order_id: str) -> list[object]:
    """§21: issued, paid, delivery chosen. That it is due proves the payment, should the news of it come later."""
    if state.dispatching:
        return []
    signed = state.facts
    _refuse_over(state)
    if state.state != ISSUED:
        raise Refusal("not_issued")
    if state.delivery is None:
        raise Refusal("delivery_not_chosen")
    return [*note_payment(state, order_id), DispatchBegun(signed.prescription_id)]


def dispense(state: Prescription, way: str) -> list[object]:
    """§23: one way or the other. Once the courier has been asked the desk is too late, and the other way round."""
    signed = state.facts
    if state.state == DISPENSED and state.way == way:
        return []
    _refuse_over(state)
    if state.state != ISSUED:
        raise Refusal("not_issued")
    if (way == COURIER) != state.dispatching:
        raise Refusal("already_dispatched" if state.dispatching else "not_issued")
    return [PrescriptionDispensed(signed.prescription_id, signed.visit_id, way)]


def take_back(state: Prescription, parcel_id: str) -> list[object]:
    """The parcel was refused at the door, or never left (§21). Nothing is refunded by that: the drugs wait here."""
    if state.came_back or state.parcel_id != parcel_id:
        return []
    return [ParcelCameBack(state.facts.prescription_id, parcel_id)]


def collect(state: Prescription, pharmacist_id: str) -> list[object]:
    """After a return the patient may fetch the drugs, which are paid for. What never left is dispensed by that."""
    signed = state.facts
    if not state.came_back:
        raise Refusal("not_returned_by_courier")
    collected = ReturnCollected(signed.prescription_id, pharmacist_id)
    if state.state == DISPENSED:
        return [collected]
    return [collected, PrescriptionDispensed(signed.prescription_id, signed.visit_id, DESK)]


def expire(state: Prescription, now: datetime, *, unpaid: bool) -> list[object]:
    """§23. Before it is issued the three days are ours to watch; afterwards payment is the authority, because only it
    can ask whether the money is on its way: then `unpaid` is its word. What is paid never expires."""
    signed = state.facts
    waiting = state.state in (IN_REVIEW, RETURNED) and now >= signed.valid_until
    if waiting or (unpaid and state.state == ISSUED and not state.paid):
        return [PrescriptionExpired(signed.prescription_id, signed.visit_id)]
    return []


def withdraw(state: Prescription) -> list[object]:
    """The visit ended without care (§19, §29): what was not paid for is void."""
    if state.state in (IN_REVIEW, RETURNED, ISSUED) and not state.paid:
        return [PrescriptionVoided(state.facts.prescription_id, state.facts.visit_id, "withdrawn")]
    return []


def _refuse_over(state: Prescription) -> None:
    match state.state:
        case "voided":
            raise Refusal("prescription_void")
        case "expired":
            raise Refusal("prescription_expired")
        case "dispensed":
            raise Refusal("already_dispensed")
