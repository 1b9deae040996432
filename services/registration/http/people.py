"""The account's patients, their cards and photos (§7, §8, §10)."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Response, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from eventkit.events import Refusal
from eventkit.web import caller, command_request
from services.registration import schemas
from services.registration.domain.people import AddPatient, BindCard, Guardian, Patient
from services.registration.events import PhotoAdded
from services.registration.http.base import audit, desk, routes
from services.registration.photos import MAX_UPLOAD_BYTES

_PATIENT = {
    "patient_id": "5c0e…", "name": "林复安", "document": "resident_id", "id_number": "1101**********1234",
    "phone": "199****0001", "birth_date": "1968-03-02", "sex": "female", "relation": "self",
    "guardian_consented": False,
    "cards": [{"card_id": "C00000001", "kind": "insurance_card", "card_kind": "beijing_insured", "card_no": "0001"}],
}


@routes.route("/patients")
class PatientsView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.PatientsSchema, example={"patients": [_PATIENT]})
    @routes.refuses("unavailable")
    def get(self) -> ResponseReturnValue:
        """My patients, numbers masked."""
        found = desk().people.of_account(caller().subject)
        audit().read_list("patients", ((patient.added.patient_id, caller().subject) for patient in found))
        return {"patients": [_masked(patient) for patient in found]}

    @routes.access("patient")
    @routes.arguments(schemas.AddPatientSchema, examples={
        "resident_id": {"value": {
            "name": "林复安", "id_number": "11010019680302042X", "phone": "19900000001", "relation": "self",
        }},
        "passport": {"value": {
            "name": "AN EXAMPLE", "document": "passport", "id_number": "X1234567", "birth_date": "1968-03-02",
            "sex": "female", "phone": "19900000001", "relation": "self",
        }},
    })
    @routes.response(201, schemas.PatientAddedSchema, example={"patient_id": "5c0e…"})
    @routes.command
    @routes.refuses(
        "invalid_input", "id_number_wrong", "birth_date_needed", "real_name_unmatched", "patient_known",
        "guardian_needed", "guardian_wrong", "guardian_must_act", "partner_unavailable",
    )
    def post(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Add a person under their real name (§7), a minor with the guardian's consent (§26)."""
        details = {**body, "guardian": Guardian(**body["guardian"]) if "guardian" in body else None}
        answer = desk().people.add(command_request(body), AddPatient(account_id=caller().subject, **details))
        return answer.body, answer.status


@routes.route("/patients/<patient_id>")
class PatientView(MethodView):
    @routes.access("patient")
    @routes.response(200, schemas.PatientSchema, example=_PATIENT)
    @routes.refuses("not_found", "unavailable")
    def get(self, patient_id: str) -> ResponseReturnValue:
        """One of my patients, numbers masked."""
        patient = desk().people.patient(patient_id, caller().subject)
        audit().read("patient", patient_id, patient.added)
        return _masked(patient)


@routes.route("/patients/<patient_id>/erasure")
class ErasureView(MethodView):
    @routes.access("patient")
    @routes.response(202, schemas.ErasureSchema, example={
        "patient_id": "5c0e…", "state": "restricted", "until": "2041-11-24",
    })
    @routes.command
    @routes.refuses("not_found", "care_ongoing")
    def post(self, patient_id: str) -> ResponseReturnValue:
        """Ask that a patient be erased (§32). From now on nothing new is booked for them and doctors see nothing of
        them; on the day `until`, when the law no longer keeps the records, every personal value is erased for good."""
        answer = desk().erasure.ask(command_request(), caller(), patient_id)
        return answer.body, answer.status


@routes.route("/patients/<patient_id>/cards")
class CardsView(MethodView):
    @routes.access("patient")
    @routes.arguments(schemas.BindCardSchema, example={"card_no": "1000000001", "kind": "insurance_card"})
    @routes.response(201, schemas.CardBoundSchema, example={"card_id": "C00000001", "card_kind": "beijing_insured"})
    @routes.command
    @routes.refuses("invalid_input", "not_found", "card_unknown", "partner_unavailable")
    def post(self, body: dict[str, Any], patient_id: str) -> ResponseReturnValue:
        """Bind a card that this person has used at this hospital (§8); 200 when it is bound already."""
        answer = desk().people.bind_card(command_request(body), caller(), patient_id, BindCard(**body))
        return answer.body, answer.status


@routes.route("/patients/<patient_id>/photos")
class PhotosView(MethodView):
    @routes.access("patient")
    @routes.response(201, schemas.PhotoSchema, example={"photo_id": "e41b…"})
    @routes.doc(requestBody={"required": True, "content": {
        "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {"example": {"photo": "(the file)"}, "schema": {
            "type": "object", "properties": {"photo": {"type": "string", "format": "binary"}}, "required": ["photo"],
        }},
    }})
    @routes.command
    @routes.refuses(
        "not_found", "photo_unreadable", "photo_is_more", "photo_infected", "too_large", "partner_unavailable"
    )
    def post(self, patient_id: str) -> ResponseReturnValue:
        """Upload a photo of the tongue or of a result, JPEG, PNG or WebP, up to 8 MB (§10). Only the picture is kept:
        where and with what it was taken is removed."""
        request.max_content_length = MAX_UPLOAD_BYTES
        if request.mimetype == "multipart/form-data":
            sent = request.files.get("photo")
            upload = sent.read() if sent else b""
        else:
            upload = request.get_data()
        keyed = command_request({"sha256": hashlib.sha256(upload).hexdigest()})
        answer = desk().people.add_photo(keyed, caller(), patient_id, upload)
        return answer.body, answer.status


@routes.route("/photos/<photo_id>")
class PhotoView(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(200, {"type": "string", "format": "binary"}, content_type="image/jpeg")
    @routes.refuses("not_found", "unavailable")
    def get(self, photo_id: str) -> Response:
        """The picture as JPEG: for its own account, and for the doctor of a visit that shows it (§31)."""
        audit().read("photo", photo_id, _visible(photo_id))
        return Response(desk().photos.read(photo_id), mimetype="image/jpeg")


@routes.route("/photos/<photo_id>/link")
class PhotoLinkView(MethodView):
    @routes.access("patient", "doctor")
    @routes.response(200, schemas.PhotoLinkSchema, example={
        "url": "/api/registration/photo-links/e41b…?expires=1795421100&signature=5d1c…", "expires_in": 300,
    })
    @routes.refuses("not_found", "unavailable")
    def get(self, photo_id: str) -> ResponseReturnValue:
        """A link to the picture that needs no token and works for five minutes, for whoever may see it (§31)."""
        audit().read("photo link", photo_id, _visible(photo_id))
        url, seconds = desk().links.link(photo_id)
        return {"url": url, "expires_in": seconds}


@routes.route("/photo-links/<photo_id>")
class LinkedPhotoView(MethodView):
    @routes.arguments(schemas.PhotoLinkQuerySchema, location="query")
    @routes.response(200, {"type": "string", "format": "binary"}, content_type="image/jpeg")
    @routes.refuses("invalid_input", "link_over", "not_found", "unavailable")
    def get(self, query: dict[str, Any], photo_id: str) -> Response:
        """The picture behind a link."""
        desk().links.check(photo_id, query["expires"], query["signature"])
        audit().read("photo", photo_id, desk().people.photo(photo_id))
        return Response(desk().photos.read(photo_id), mimetype="image/jpeg")


def _visible(photo_id: str) -> PhotoAdded:
    """The photo, if the caller may see it. Raises Refusal("not_found")."""
    photo = desk().people.photo(photo_id)
    if not (caller().has("patient") and photo.account_id == caller().subject) and not _shown_to_doctor(photo_id):
        raise Refusal("not_found")
    return photo


def _shown_to_doctor(photo_id: str) -> bool:
    if not caller().has("doctor"):
        return False
    for visit_id in desk().read_model.visits_showing(photo_id, caller().subject):
        try:
            desk().visits.visit_of(caller(), visit_id)
        except Refusal:
            continue
        return True
    return False


def _masked(patient: Patient) -> dict[str, Any]:
    added = patient.added
    return {
        "patient_id": added.patient_id,
        "name": added.name,
        "document": added.document,
        "id_number": _stars(added.id_number, 4, 4),
        "phone": _stars(added.phone, 3, 4),
        "birth_date": added.birth_date.isoformat() if added.birth_date else None,
        "sex": added.sex,
        "relation": added.relation,
        "guardian_consented": added.guardian_consented_at is not None,
        **({"restricted_until": patient.restricted.until.isoformat()} if patient.restricted else {}),
        "cards": [
            {
                "card_id": card.card_id,
                "kind": card.kind,
                "card_kind": card.card_kind,
                "card_no": card.card_no and card.card_no[-4:],
            }
            for card in patient.cards
        ],
    }


def _stars(value: str | None, first: int, last: int) -> str | None:
    """The ends of a value; of a short one less, so that at least four characters stay hidden."""
    if value is None:
        return None
    if len(value) < first + last + 4:
        first = last = len(value) // 4
    return value[:first] + "*" * (len(value) - first - last) + value[-last:]
