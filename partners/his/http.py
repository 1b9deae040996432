"""The HIS over HTTP: what it answers our services, and the desks and hands of the sandbox."""

from datetime import date
from pathlib import Path

from flask import Flask, Response, jsonify, request

from eventkit.clock import SystemClock
from eventkit.ids import derived_id
from partners.front import FAILURES, Refused, field, json_body, put_in_front
from partners.his import kafka
from partners.his.book import Book
from partners.his.pharmacy import Pharmacy
from partners.his.records import Records
from partners.his.sample import seed
from partners.kit import Row, Scripts, create_app

LEGS = ("fund", "account", "cash")


def create(path: Path, key: bytes, bootstrap: str, pharmacy: Pharmacy, records: Records | None) -> Flask:
    book = Book(path, SystemClock.from_env())
    seed(book)
    scripts = Scripts(book.books, FAILURES)
    app = create_app("his", book.books, scripts)
    put_in_front(app, scripts, key)
    kafka.start(book, bootstrap)

    @app.post("/patients/match")
    def match() -> Response:
        body = json_body()
        return jsonify(book.match(field(body, "name", str), field(body, "id_number", str)))

    @app.post("/cards/check")
    def check_card() -> Response:
        body = json_body()
        number, kind, person = (field(body, name, str) for name in ("card_no", "kind", "his_patient_id"))
        return jsonify(book.check_card(number, kind, person))

    @app.get("/patients/<his_patient_id>/outpatient-visits")
    def visits(his_patient_id: str) -> Response:
        try:
            since = date.fromisoformat(request.args["since"]) if "since" in request.args else date.min
        except ValueError as error:
            raise Refused(400, "bad_request", "since is YYYY-MM-DD") from error
        return jsonify(records=book.visits(his_patient_id, since))

    @app.get("/stock")
    def stock() -> Response:
        return jsonify(stock=book.stock(request.args.getlist("drug_code")))

    @app.post("/sandbox/desk/settlements")
    def settle() -> tuple[Response, int]:
        body = json_body()
        prescription_id, visit_id = field(body, "prescription_id", str), field(body, "visit_id", str)
        amount_fen, legs = field(body, "amount_fen", int), _legs(body)
        if sum(leg["amount_fen"] for leg in legs) != amount_fen:
            raise Refused(400, "legs_do_not_add_up", "amount_fen is not the sum of the legs")
        new = book.settlement_of(prescription_id) is None
        if new:
            _check(pharmacy.prescription(prescription_id), visit_id, amount_fen)
        settlement = book.settle(derived_id("settlement", prescription_id), prescription_id, visit_id, amount_fen, legs)
        return jsonify(settlement), 201 if new else 200

    @app.post("/sandbox/people")
    def add_person() -> tuple[Response, int]:
        return jsonify(book.add_person(request.get_json(silent=True) or {})), 201

    @app.get("/sandbox/people")
    def people() -> Response:
        return jsonify(people=book.people())

    @app.post("/sandbox/people/<his_patient_id>/cards")
    def add_card(his_patient_id: str) -> tuple[Response, int]:
        return jsonify(book.add_card(his_patient_id, json_body())), 201

    @app.post("/sandbox/people/<his_patient_id>/visits")
    def add_visit(his_patient_id: str) -> tuple[Response, int]:
        return jsonify(book.add_visit(his_patient_id, json_body())), 201

    @app.put("/sandbox/stock/<drug_code>")
    def set_stock(drug_code: str) -> tuple[str, int]:
        book.set_stock(drug_code, field(json_body(), "on_hand", int))
        return "", 204

    @app.get("/sandbox/visits/<visit_id>")
    def heard(visit_id: str) -> Response:
        history: Row = {"visit_id": visit_id, "events": book.heard_of(visit_id)}
        match request.args.get("with"):
            case None:
                pass
            case "fhir" if records is not None:
                history["fhir"] = records.of_visit(visit_id)
            case "fhir":
                raise Refused(503, "no_internet_hospital", "FUZHEN_PUBLIC_URL is not set")
            case _:
                raise Refused(400, "bad_request", "with is fhir")
        return jsonify(history)

    @app.get("/sandbox/books")
    def totals() -> Response:
        return jsonify(book.totals())

    return app


def _legs(body: Row) -> list[Row]:
    legs = field(body, "legs", list)
    if not all(isinstance(leg, dict) and leg.get("leg") in LEGS for leg in legs):
        raise Refused(400, "bad_request", f"legs are {{leg: {' | '.join(LEGS)}, amount_fen}}")
    return [{"leg": leg["leg"], "amount_fen": field(leg, "amount_fen", int)} for leg in legs]


def _check(prescription: Row, visit_id: str, amount_fen: int) -> None:
    """The cashier settles what the doctor wrote, not what somebody at the desk says (§22), and only while the Internet
    hospital says it may still be settled (§23)."""
    if (prescription["visit_id"], prescription["amount_fen"]) != (visit_id, amount_fen):
        raise Refused(409, "other_prescription", "visit or amount is not that of the prescription")
    if not prescription["may_settle"]:
        raise Refused(409, "may_not_settle", "the prescription has expired, was paid, or was taken back")
