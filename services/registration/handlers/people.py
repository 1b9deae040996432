"""Patients, their cards and their photos (§7, §8, §10, §26), each only for the account that added it (§31)."""

from __future__ import annotations

from typing import Any

from eventkit.auth import Caller
from eventkit.clock import shanghai_day
from eventkit.core import Core
from eventkit.events import Refusal
from eventkit.ids import derived_id
from eventkit.store import Answer, Decision, Histories, Request, fold
from services.registration.domain import people
from services.registration.domain.people import AddPatient, BindCard, Patient
from services.registration.events import PatientLinked, PhotoAdded
from services.registration.partners import His
from services.registration.photos import PhotoFiles, cleaned
from services.registration.policy import policy_on
from services.registration.scanner import Scanner


def patient_stream(patient_id: str) -> str:
    return f"patient-{patient_id}"


def account_stream(account_id: str) -> str:
    return f"account-{account_id}"


def photo_stream(photo_id: str) -> str:
    return f"photo-{photo_id}"


class People:
    def __init__(self, core: Core, his: His, photos: PhotoFiles, scanner: Scanner) -> None:
        self._core = core
        self._his = his
        self._photos = photos
        self._scanner = scanner

    def add(self, request: Request, command: AddPatient) -> Answer:
        """The patient's id follows from account and document, so that a person is added once however it is asked.
        Raises Refusal, Unanswered."""
        now = self._core.clock.now()
        today = shanghai_day(now)
        policy = policy_on(today)
        ages = {"consent_age": policy.guardian_consents_under, "acting_age": policy.guardian_acts_under}
        kind = "" if command.document == people.RESIDENT_ID else f"{command.document}:"
        number = self._core.vault.blind("id-number", f"{kind}{command.id_number}")
        patient_id = derived_id("patient", command.account_id, number)
        people.check_patient(command, today, **ages)
        his = self._his.match(command.name, command.id_number)
        if his is None:
            raise Refusal("real_name_unmatched")
        patient, account = patient_stream(patient_id), account_stream(command.account_id)

        def decide(histories: Histories) -> Decision:
            state = fold(people.evolve, None, histories[patient])
            added = people.add_patient(command, patient_id, state, his, now, today, **ages)
            return Decision(
                events=[(patient, added), (account, PatientLinked(command.account_id, patient_id))],
                answer=Answer(201, {"patient_id": patient_id}),
            )

        return self._core.store.execute(request, [patient, account], decide)

    def of_account(self, account_id: str) -> list[Patient]:
        account = account_stream(account_id)
        linked = [
            recorded.event.patient_id
            for recorded in self._core.store.load(account)[account]
            if isinstance(recorded.event, PatientLinked)
        ]
        histories = self._core.store.load(*map(patient_stream, linked)) if linked else {}
        states = [fold(people.evolve, None, histories[patient_stream(patient_id)]) for patient_id in linked]
        return [state for state in states if state is not None and not state.erased]

    def patient(self, patient_id: str, account_id: str | None = None) -> Patient:
        """Raises Refusal("not_found") where there is none, or none of `account_id`'s, or one who is erased."""
        stream = patient_stream(patient_id)
        state: Patient | None = fold(people.evolve, None, self._core.store.load(stream)[stream])
        if state is None or state.erased or (account_id is not None and state.added.account_id != account_id):
            raise Refusal("not_found")
        return state

    def bind_card(self, request: Request, caller: Caller, patient_id: str, command: BindCard) -> Answer:
        """Raises Refusal("not_found" | "card_unknown"), Unanswered."""
        his_patient_id = self.patient(patient_id, caller.subject).added.his_patient_id
        his = self._his.card(command.card_no, command.kind, his_patient_id)
        stream = patient_stream(patient_id)

        def decide(histories: Histories) -> Decision:
            state = fold(people.evolve, None, histories[stream])
            if state is None:
                raise Refusal("not_found")
            bound = people.bind_card(command, state, his)
            body: dict[str, Any] = {"card_id": his.card_id, "card_kind": his.card_kind} if his else {}
            return Decision([(stream, event) for event in bound], answer=Answer(201 if bound else 200, body))

        return self._core.store.execute(request, [stream], decide)

    def add_photo(self, request: Request, caller: Caller, patient_id: str, upload: bytes) -> Answer:
        """Raises Refusal: not_found, photo_unreadable, photo_is_more, photo_infected; Unanswered by the scanner."""
        self.patient(patient_id, caller.subject)
        self._scanner.check(upload)
        photo_id = derived_id("photo", caller.subject, patient_id, request.key or "")
        self._photos.keep(photo_id, patient_id, cleaned(upload))
        stream = photo_stream(photo_id)

        def decide(histories: Histories) -> Decision:
            added = PhotoAdded(photo_id, patient_id, caller.subject)
            return Decision([(stream, added)], answer=Answer(201, {"photo_id": photo_id}))

        return self._core.store.execute(request, [stream], decide)

    def photo(self, photo_id: str) -> PhotoAdded:
        """Whose it is. Raises Refusal("not_found")."""
        stream = photo_stream(photo_id)
        history = self._core.store.load(stream)[stream]
        if not history:
            raise Refusal("not_found")
        added: PhotoAdded = history[0].event
        return added
