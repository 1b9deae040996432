"""The pharmacy over HTTP: parse, ask the handlers, answer."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Response, request
from flask.views import MethodView

from eventkit.audit import Audit, add_readings
from eventkit.auth import Caller
from eventkit.clock import Clock
from eventkit.events import Refusal
from eventkit.ids import new_id
from eventkit.store import Request
from eventkit.web import Routes, caller, command_request, correlation_id
from services.pharmacy import catalogue, evidence, paper, schemas, sheets
from services.pharmacy.courier import CourierApi
from services.pharmacy.domain.parcel import Report
from services.pharmacy.domain.prescription import (
    ChooseDelivery,
    Confirmation,
    Prescription,
    SignPrescription,
    WantedLine,
)
from services.pharmacy.events import Dosing, HerbalOrder
from services.pharmacy.handlers import Handlers, Review
from services.pharmacy.people import People
from services.pharmacy.problems import CATALOGUE
from services.pharmacy.read_model import Queue

Body = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])
SHEET_RULES = (
    "no_drugs", "drug_twice", "unknown_drug", "special_drug", "mixed_kinds", "too_many_drugs", "dosing_missing",
    "dose_unit_unknown", "herbal_missing", "antibiotic_right", "antibiotic_special", "second_signature_needed",
    "override_reason_missing", "out_of_stock",
)  # fmt: skip
ENDS = ("prescription_void", "prescription_expired", "already_dispensed")


@dataclass(frozen=True, slots=True)
class Counter:
    """What the routes stand on."""

    handlers: Handlers
    queue: Queue
    courier: CourierApi
    clock: Clock
    stock: Callable[[Sequence[str]], Mapping[str, int] | None]
    authority_pem: str
    people: People
    public_url: str
    audit: Audit

    def shown_to(self, who: Caller, prescription_id: str) -> Prescription:
        """Raises Refusal `not_found` for what is foreign as for what is absent; what is shown is audited (§31)."""
        found = self.handlers.prescription(prescription_id)
        if not sheets.may_see(who, found):
            raise Refusal("not_found")
        self.audit.read("prescription", prescription_id, found.facts)
        return found


def make_routes(counter: Counter) -> Routes:
    routes = Routes("pharmacy", CATALOGUE, "Prescriptions from the signature to the parcel at the door.")
    _for_everybody(routes, counter)
    _for_doctors(routes, counter)
    _for_pharmacists(routes, counter)
    _for_patients(routes, counter)
    _for_partners(routes, counter)
    add_readings(routes, lambda: counter.audit)
    return routes


def _for_everybody(routes: Routes, counter: Counter) -> None:
    @routes.route("/drugs")
    class Drugs(MethodView):
        @routes.access("doctor", "pharmacist", "patient")
        @routes.arguments(schemas.DrugQuery, location="query")
        @routes.response(200, schemas.DrugsSchema, example=schemas.DRUGS)
        def get(self, query: Body) -> Body:
            """What may be prescribed online; special drugs are left out (§25)."""
            kind = query.get("kind")
            drugs = [d for d in catalogue.drugs().values() if d.special is None and kind in (None, d.kind)]
            return {"sample": True, "drugs": [sheets.drug(each) for each in drugs]}

    @routes.route("/visits/<visit_id>/prescriptions")
    class OfVisit(MethodView):
        @routes.access("patient", "doctor", "pharmacist")
        @routes.response(200, schemas.SummariesSchema, example={"prescriptions": [schemas.SUMMARY]})
        @routes.refuses("not_found")
        def get(self, visit_id: str) -> Body:
            """The prescriptions of a visit, the oldest first."""
            care = counter.handlers.care(visit_id)
            if care.booked is None or not (
                (caller().has("patient") and caller().subject == care.booked.account_id)
                or (caller().has("doctor") and caller().subject == care.booked.doctor_id)
                or caller().has("pharmacist")
            ):
                raise Refusal("not_found")
            counter.audit.read("prescriptions", visit_id, care.booked)
            found = counter.handlers.prescriptions(care.prescriptions)
            return {"prescriptions": [sheets.summary(each, staff=_is_staff()) for each in found]}

        @routes.access("doctor")
        @routes.arguments(schemas.SignSchema, example={"kind": "western", **schemas.WANTED})
        @routes.response(201, schemas.SignedSchema, example=schemas.SIGNED)
        @routes.command
        @routes.refuses("not_found", "consult_not_accepted", "consult_over", *SHEET_RULES)
        def post(self, body: Body, visit_id: str) -> tuple[Body, int]:
            """Sign a prescription (§20, §24, §25). Prices are the catalogue's. It takes effect after the review."""
            command = _signing(new_id(), visit_id, body["kind"], body)
            answer = counter.handlers.sign(command_request(body), command, _stock(counter, body))
            return answer.body, answer.status

    @routes.route("/prescriptions/<prescription_id>")
    class One(MethodView):
        @routes.access("patient", "doctor", "pharmacist")
        @routes.response(200, schemas.SheetSchema, example=schemas.SHEET)
        @routes.refuses("not_found")
        def get(self, prescription_id: str) -> Body:
            """The prescription sheet."""
            return sheets.sheet(counter.shown_to(caller(), prescription_id), staff=_is_staff())


    @routes.route("/prescriptions/<prescription_id>/evidence")
    class Evidence(MethodView):
        @routes.access("patient", "doctor", "pharmacist")
        @routes.response(200, schemas.EvidenceSchema, example=schemas.EVIDENCE)
        @routes.refuses("not_found", "not_issued")
        def get(self, prescription_id: str) -> Body:
            """What was signed, and the signatures, for `openssl cms -verify` (§24). To patients once in effect."""
            found = counter.shown_to(caller(), prescription_id)
            if not _is_staff() and found.issued is None:
                raise Refusal("not_issued")
            return {
                "prescription_id": prescription_id,
                "authority_certificate": counter.authority_pem,
                "documents": evidence.documents(found),
            }


    @routes.route("/prescriptions/<prescription_id>/sheet.pdf")
    class OnPaper(MethodView):
        @routes.access("patient", "doctor", "pharmacist", "his")
        @routes.response(200, {"type": "string"}, content_type="application/pdf", example="%PDF-1.4 …")
        @routes.refuses("not_found", "not_issued", "partner_unavailable")
        def get(self, prescription_id: str) -> Response:
            """The sheet to print (§20, §22): for whoever may see it, and the desk. Patients and desk once in effect."""
            found = counter.handlers.prescription(prescription_id) if caller().has("his") else None
            found = found or counter.shown_to(caller(), prescription_id)
            if not _is_staff() and found.issued is None:
                raise Refusal("not_found" if caller().has("his") else "not_issued")
            if found.facts.sheet is None:
                raise Refusal("not_found")
            if caller().has("his"):
                counter.audit.read("prescription", prescription_id, found.facts)
            patient = counter.people.patient(found.facts.patient_id)
            doctor = counter.people.doctor(found.facts.doctor_id)
            content = paper.pdf(found, patient, doctor, counter.public_url)
            return Response(content, mimetype="application/pdf", headers={"Cache-Control": "no-store"})

    @routes.route("/prescriptions/<prescription_id>/verification")
    class Verification(MethodView):
        @routes.access("patient", "doctor", "pharmacist", "his")
        @routes.arguments(schemas.VerificationQuery, location="query")
        @routes.response(200, schemas.VerificationSchema, example=schemas.VERIFICATION)
        @routes.refuses("not_found")
        def get(self, query: Body, prescription_id: str) -> Body:
            """Where the QR code leads: whether this very content was signed, and what came of it. It names nobody, so
            that whoever holds the paper may ask; without the content's hash there is nothing here."""
            found = counter.handlers.prescription(prescription_id)
            if found.signed is None or found.signed.content_sha256 != query["content_sha256"]:
                raise Refusal("not_found")
            counter.audit.read("verification", prescription_id, found.signed)
            return sheets.verification(found, counter.handlers.signature_holds(found))


def _for_doctors(routes: Routes, counter: Counter) -> None:
    @routes.route("/prescriptions/<prescription_id>/signature")
    class Signature(MethodView):
        @routes.access("doctor")
        @routes.arguments(schemas.ResignSchema, example=schemas.WANTED)
        @routes.response(201, schemas.SignedSchema, example=schemas.SIGNED)
        @routes.command
        @routes.refuses("not_found", "not_returned", "consult_over", *ENDS, *SHEET_RULES)
        def post(self, body: Body, prescription_id: str) -> tuple[Body, int]:
            """Sign a returned prescription again (§24): a new review, and three days from now."""
            answer = counter.handlers.sign_again(
                command_request(body), caller().subject, prescription_id,
                lambda visit_id, kind: _signing(prescription_id, visit_id, kind, body), _stock(counter, body),
            )  # fmt: skip
            return answer.body, answer.status


def _for_pharmacists(routes: Routes, counter: Counter) -> None:
    @routes.route("/review-queue")
    class ReviewQueue(MethodView):
        @routes.access("pharmacist")
        @routes.response(200, schemas.QueueSchema, example=schemas.WAITING)
        def get(self) -> Body:
            """What waits for a review, the oldest first."""
            return {"prescriptions": counter.queue.waiting(counter.clock.now())}

    @routes.route("/prescriptions/<prescription_id>/review")
    class Reviews(MethodView):
        @routes.access("pharmacist")
        @routes.arguments(schemas.ReviewSchema, example={"outcome": "return", "reason": "剂量与年龄不符,请核对"})
        @routes.response(
            200, schemas.StateSchema, example={"prescription_id": schemas.SIGNED["prescription_id"], "state": "issued"}
        )
        @routes.command
        @routes.refuses("not_found", "not_in_review", "reason_missing", "signature_broken", *ENDS)
        def post(self, body: Body, prescription_id: str) -> tuple[Body, int]:
            """Pass, refuse with a reason, or return to the doctor with a reason (§24)."""
            by = Review(caller().subject, body["outcome"], body["reason"])
            answer = counter.handlers.review(command_request(body), prescription_id, by)
            return answer.body, answer.status


    @routes.route("/prescriptions/<prescription_id>/collection")
    class Collection(MethodView):
        @routes.access("pharmacist")
        @routes.response(
            200,
            schemas.StateSchema,
            example={"prescription_id": schemas.SIGNED["prescription_id"], "state": "dispensed"},
        )
        @routes.command
        @routes.refuses("not_found", "not_returned_by_courier")
        def post(self, prescription_id: str) -> tuple[Body, int]:
            """The drugs of a parcel that came back were given out at the desk. They were paid for before (§21)."""
            answer = counter.handlers.collect(command_request({}), prescription_id, caller().subject)
            return answer.body, answer.status


def _for_patients(routes: Routes, counter: Counter) -> None:
    @routes.route("/couriers")
    class Couriers(MethodView):
        @routes.access("patient", "pharmacist")
        @routes.arguments(schemas.CourierQuery, location="query")
        @routes.response(200, schemas.CouriersSchema, example=schemas.COURIERS)
        def get(self, query: Body) -> Body:
            """Who may bring the parcel, and what they would ask at the door (§21)."""
            fee = counter.courier.price_fen(query["to"], query["weight_g"])
            return {
                "couriers": [
                    {"courier": each.courier, "name": each.name, "estimated_fee_fen": fee}
                    for each in catalogue.couriers().values()
                ]
            }

    @routes.route("/prescriptions/<prescription_id>/delivery")
    class Delivery(MethodView):
        @routes.access("patient")
        @routes.arguments(
            schemas.DeliverySchema,
            example={
                "courier": "anda", "recipient": "林复安", "phone": "19900000001", "address": "北京市海淀区某路1号",
            },
        )  # fmt: skip
        @routes.response(200, schemas.DeliveryAnswerSchema, example=schemas.CHOSEN)
        @routes.command
        @routes.refuses("not_found", "not_issued", "already_dispatched", "unknown_courier", *ENDS)
        def post(self, body: Body, prescription_id: str) -> tuple[Body, int]:
            """Choose courier and address (§21); again until the parcel is on its way, and after it came back."""
            command = ChooseDelivery(caller().subject, new_id(), **body)
            answer = counter.handlers.choose_delivery(command_request(body), prescription_id, command)
            return answer.body, answer.status

    @routes.route("/prescriptions/<prescription_id>/parcel")
    class Parcel(MethodView):
        @routes.access("patient", "doctor", "pharmacist")
        @routes.response(200, schemas.ParcelSchema, example=schemas.PARCEL)
        @routes.refuses("not_found")
        def get(self, prescription_id: str) -> Body:
            """Where the latest parcel is."""
            prescription = counter.shown_to(caller(), prescription_id)
            found = sheets.tracking(counter.handlers.parcel(prescription.parcel_id))
            if found is None:
                raise Refusal("not_found")
            return found


def _for_partners(routes: Routes, counter: Counter) -> None:
    def signed(function: F) -> F:
        """The courier's signature, checked before anything in the body is believed."""

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if not counter.courier.signed(
                request.method,
                request.environ.get("RAW_URI", request.path),
                request.get_data(),
                request.headers.get("X-Signature-Timestamp", ""),
                request.headers.get("X-Signature", ""),
            ):
                raise Refusal("bad_signature")
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    @routes.route("/notices/courier")
    class CourierNotices(MethodView):
        @signed
        @routes.arguments(
            schemas.NoticeSchema,
            example={
                "notice_id": "FZ000261593102551/4", "number": 4, "tracking_no": "FZ000261593102551",
                "client_order_no": "3f1c9a52d77f4a0b9e6b1c2d3e4f5a6b", "status": "delivered",
                "occurred_at": "2026-11-23T09:30:00.000Z", "courier_fee_fen": 1200,
            },
        )  # fmt: skip
        @routes.response(204)
        @routes.refuses("bad_signature", "not_found", "not_handed_over", "unavailable")
        def post(self, body: Body) -> None:
            """What the courier tells of a parcel: signed with the shared secret, in any order, as often as it likes."""
            counter.handlers.note_report(
                Request(
                    caller="courier",
                    route="notice",
                    key=body["notice_id"],
                    fingerprint=hashlib.sha256(request.get_data()).hexdigest(),
                    correlation_id=correlation_id(),
                ),
                body["client_order_no"],
                Report(body["tracking_no"], body["status"], body["occurred_at"], body["courier_fee_fen"]),
            )

    @routes.route("/internal/prescriptions/<prescription_id>")
    class ForTheDesk(MethodView):
        @routes.access("his", "service")
        @routes.response(200, schemas.DeskSheetSchema, example={**schemas.SHEET, "may_settle": True})
        @routes.refuses("not_found")
        def get(self, prescription_id: str) -> Body:
            """The sheet for the hospital's desk (§22). What never took effect does not exist there (§24)."""
            found = counter.handlers.prescription(prescription_id)
            if found.issued is None:
                raise Refusal("not_found")
            counter.audit.read("prescription", prescription_id, found.facts)
            shown = sheets.sheet(found, staff=True)
            shown.pop("delivery", None)
            return {**shown, "may_settle": found.may_settle_at_desk(counter.clock.now())}


def _signing(prescription_id: str, visit_id: str, kind: str, body: Body) -> SignPrescription:
    lines = [
        WantedLine(
            line["drug_code"], line["quantity"], line["dose"], line["usage"],
            Dosing(**line["dosing"]) if "dosing" in line else None,
        )
        for line in body["lines"]
    ]  # fmt: skip
    second = body.get("second_signature")
    return SignPrescription(
        prescription_id, visit_id, caller().subject, kind, body["diagnosis"], lines,
        allergies=tuple(body["allergies"]),
        herbal=HerbalOrder(**body["herbal"]) if "herbal" in body else None,
        second=Confirmation(second["reason"], frozenset(second["findings"])) if second else None,
    )  # fmt: skip


def _stock(counter: Counter, body: Body) -> Mapping[str, int] | None:
    """Asked before the write. What was signed once is not refused when it is sent again: the store answers first."""
    return counter.stock([line["drug_code"] for line in body["lines"]])


def _is_staff() -> bool:
    return caller().has("doctor", "pharmacist")
