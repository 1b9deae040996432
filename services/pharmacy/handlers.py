"""Load, decide, append. Where a rule spans a visit, its prescriptions or a parcel, their streams share one commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from eventkit.clock import Clock, rfc3339
from eventkit.events import Refusal
from eventkit.store import Answer, Decision, Due, Histories, Request, Store, fold
from services.pharmacy.domain import care as cares
from services.pharmacy.domain import parcel as parcels
from services.pharmacy.domain import prescription as prescriptions
from services.pharmacy.domain.care import Care
from services.pharmacy.domain.drugs import Drug
from services.pharmacy.domain.parcel import Parcel, Report
from services.pharmacy.domain.prescription import (
    ChooseDelivery,
    Prescription,
    ReviewPrescription,
    SignPrescription,
)
from services.pharmacy.events import CareBooked, ParcelReturned, PrescriptionSigned, RedeliveryBegun, Signature

SILENCE = timedelta(hours=6)  # the courier tells by itself; whoever is silent for so long is asked


class Pens(Protocol):
    def pen_of(self, role: str, subject: str) -> Callable[[bytes], Signature]: ...

    def holds(self, signed: PrescriptionSigned) -> bool: ...


class ListChanged(Exception):
    """A prescription was signed while its visit was being withdrawn: look again."""


@dataclass(frozen=True, slots=True)
class Review:
    pharmacist_id: str
    outcome: str
    reason: str


def care_stream(visit_id: str) -> str:
    return f"care-{visit_id}"


def prescription_stream(prescription_id: str) -> str:
    return f"prescription-{prescription_id}"


def parcel_stream(parcel_id: str) -> str:
    return f"parcel-{parcel_id}"


class Handlers:
    def __init__(
        self, store: Store, clock: Clock, pens: Pens, drugs: Mapping[str, Drug], couriers: Sequence[str]
    ) -> None:
        self._store = store
        self._clock = clock
        self._pens = pens
        self._drugs = drugs
        self._couriers = couriers

    # --- what other services say of the visit ---

    def note_booking(self, request: Request, booked: CareBooked) -> None:
        self._note_care(request, booked.visit_id, lambda care: cares.note_booking(care, booked))

    def note_title(self, request: Request, visit_id: str, title: str) -> None:
        self._note_care(request, visit_id, lambda care: cares.note_title(care, visit_id, title))

    def note_acceptance(self, request: Request, visit_id: str) -> None:
        self._note_care(request, visit_id, lambda care: cares.note_acceptance(care, visit_id))

    def note_finish(self, request: Request, visit_id: str) -> None:
        self._note_care(request, visit_id, lambda care: cares.note_finish(care, visit_id))

    def _note_care(self, request: Request, visit_id: str, decide: Callable[[Care], list[object]]) -> None:
        stream = care_stream(visit_id)
        self._store.execute(request, [stream], lambda known: Decision(_on(stream, decide(_care(known, visit_id)))))

    def withdraw(self, request: Request, visit_id: str, cause: str) -> None:
        """The visit and all of its prescriptions at once, so that none is signed in between (§19)."""
        while True:
            listed = self.care(visit_id).prescriptions

            def decide(known: Histories, listed: tuple[str, ...] = listed) -> Decision:
                care = _care(known, visit_id)
                if care.prescriptions != listed:
                    raise ListChanged
                events = _on(care_stream(visit_id), cares.note_withdrawal(care, visit_id, cause))
                for id_ in listed:
                    events += _on(prescription_stream(id_), prescriptions.withdraw(_prescription(known, id_)))
                return Decision(events)

            try:
                self._store.execute(request, [care_stream(visit_id), *map(prescription_stream, listed)], decide)
                return
            except ListChanged:
                continue

    # --- doctor and pharmacist ---

    def sign(
        self, request: Request, command: SignPrescription, stock: Mapping[str, int] | None = None
    ) -> Answer:
        """Also signs a returned prescription again, when `prescription_id` stands already. Answers 201. `stock` is what
        the hospital said to have, None when it said nothing."""
        visit, own = care_stream(command.visit_id), prescription_stream(command.prescription_id)
        pen = self._pens.pen_of("doctor", command.doctor_id)

        def decide(known: Histories) -> Decision:
            state = _prescription(known, command.prescription_id)
            if state.signed is not None and state.signed.visit_id != command.visit_id:
                raise Refusal("not_found")
            of_visit, signed = prescriptions.sign(
                command, _care(known, command.visit_id), state, self._drugs, self._clock.now(), stock
            )
            second = prescriptions.canonical_second(signed)
            signed = replace(
                signed,
                signature=pen(prescriptions.canonical(signed)),
                second_signature=pen(second) if second is not None else None,
            )
            return Decision(
                [*_on(visit, of_visit), (own, signed)],
                [_expiry(signed)],
                Answer(201, {
                    "prescription_id": signed.prescription_id,
                    "state": prescriptions.IN_REVIEW,
                    "amount_fen": signed.amount_fen,
                    "signed_at": rfc3339(signed.signed_at),
                    "valid_until": rfc3339(signed.valid_until),
                    "content_sha256": signed.content_sha256,
                    "stock_checked": stock is not None,
                }),
            )

        return self._store.execute(request, [visit, own], decide)

    def sign_again(
        self,
        request: Request,
        doctor_id: str,
        prescription_id: str,
        change: Callable[[str, str], SignPrescription],
        stock: Mapping[str, int] | None = None,
    ) -> Answer:
        """§24. `change` makes the command of the prescription's visit and kind, which stay."""
        signed = self.prescription(prescription_id).facts
        if signed.doctor_id != doctor_id:
            raise Refusal("not_found")
        return self.sign(request, change(signed.visit_id, signed.kind), stock)

    def review(self, request: Request, prescription_id: str, by: Review) -> Answer:
        signed = self.prescription(prescription_id).facts
        visit, own = care_stream(signed.visit_id), prescription_stream(prescription_id)
        pen = self._pens.pen_of("pharmacist", by.pharmacist_id)

        def decide(known: Histories) -> Decision:
            state = _prescription(known, prescription_id)
            booked = _care(known, signed.visit_id).booked
            if booked is None:  # signing needed it
                raise Refusal("not_found")
            command = ReviewPrescription(by.pharmacist_id, by.outcome, by.reason, self._pens.holds(state.facts))
            reviewed, *then = prescriptions.review(command, state, booked, self._clock.now())
            content = prescriptions.canonical_review(reviewed, state.facts)
            events = [replace(reviewed, signature=pen(content)), *then]
            return Decision(_on(own, events), answer=_state_after(prescription_id, state, events))

        return self._store.execute(request, [visit, own], decide)

    # --- patient and payment ---

    def choose_delivery(self, request: Request, prescription_id: str, command: ChooseDelivery) -> Answer:
        """After a return it opens the next parcel and calls the courier, in the same commit."""
        own = prescription_stream(prescription_id)
        next_id = self.prescription(prescription_id).next_parcel_id
        box = parcel_stream(next_id)

        def decide(known: Histories) -> Decision:
            state = _prescription(known, prescription_id)
            events = prescriptions.choose_delivery(command, state, self._couriers, self._clock.now())
            begun = [event for event in events if isinstance(event, RedeliveryBegun)]
            if any(each.parcel_id != next_id for each in begun):
                raise Refusal("busy")  # another parcel was opened and came back since we looked
            opened = [(box, parcels.open_again(each, state.facts.visit_id)) for each in begun]
            return Decision(
                [*_on(own, events), *opened],
                [self._call(each.parcel_id) for each in begun],
                answer=Answer(200, {
                    "prescription_id": prescription_id,
                    "courier": command.courier,
                    "address_id": command.address_id,
                }),
            )

        return self._store.execute(request, [own, box], decide)

    def collect(self, request: Request, prescription_id: str, pharmacist_id: str) -> Answer:
        own = prescription_stream(prescription_id)

        def decide(known: Histories) -> Decision:
            state = _prescription(known, prescription_id)
            events = prescriptions.collect(state, pharmacist_id)
            return Decision(_on(own, events), answer=_state_after(prescription_id, state, events))

        return self._store.execute(request, [own], decide)

    def note_payment(self, request: Request, prescription_id: str, order_id: str) -> None:
        self._change(request, prescription_id, lambda state: prescriptions.note_payment(state, order_id))

    def expire(self, request: Request, prescription_id: str, *, unpaid: bool) -> None:
        self._change(
            request, prescription_id, lambda state: prescriptions.expire(state, self._clock.now(), unpaid=unpaid)
        )

    def settle_at_desk(self, request: Request, prescription_id: str) -> None:
        self._change(request, prescription_id, lambda state: prescriptions.dispense(state, prescriptions.DESK))

    def _change(
        self, request: Request, prescription_id: str, decide: Callable[[Prescription], list[object]]
    ) -> None:
        own = prescription_stream(prescription_id)
        self._store.execute(
            request, [own], lambda known: Decision(_on(own, decide(_prescription(known, prescription_id))))
        )

    # --- the parcel ---

    def begin_dispatch(self, request: Request, prescription_id: str, order_id: str) -> None:
        """Closes the desk's way, opens the parcel and makes the courier's call due, in one commit."""
        own, box = prescription_stream(prescription_id), parcel_stream(prescription_id)

        def decide(known: Histories) -> Decision:
            state = _prescription(known, prescription_id)
            events = prescriptions.begin_dispatch(state, order_id)
            if not events or state.delivery is None:
                return Decision()
            opened = parcels.open_for(state.delivery)
            return Decision([*_on(own, events), (box, opened)], [self._call(prescription_id)])

        self._store.execute(request, [own, box], decide)

    def hand_over(self, request: Request, parcel_id: str, tracking_no: str) -> None:
        """What the courier has is dispensed: one commit on both streams (§21)."""
        prescription_id = self._prescription_of(parcel_id)
        own, box = prescription_stream(prescription_id), parcel_stream(parcel_id)

        def decide(known: Histories) -> Decision:
            events = parcels.hand_over(_parcel(known, parcel_id), tracking_no)
            if not events:
                return Decision()
            dispensed = prescriptions.dispense(_prescription(known, prescription_id), prescriptions.COURIER)
            poll = Due(
                f"poll-parcel:{parcel_id}", self._clock.now() + SILENCE, "poll_parcel", {"parcel_id": parcel_id}
            )
            return Decision([*_on(box, events), *_on(own, dispensed)], [poll])

        self._store.execute(request, [own, box], decide)

    def give_up(self, request: Request, parcel_id: str) -> None:
        self._note_parcel(request, parcel_id, parcels.give_up)

    def note_report(self, request: Request, parcel_id: str, report: Report) -> None:
        self._note_parcel(request, parcel_id, lambda state: parcels.note(state, report))

    def _note_parcel(self, request: Request, parcel_id: str, decide: Callable[[Parcel], list[object]]) -> None:
        """What comes back is the prescription's matter too, in the same commit."""
        prescription_id = self._prescription_of(parcel_id)
        own, box = prescription_stream(prescription_id), parcel_stream(parcel_id)

        def both(known: Histories) -> Decision:
            events = decide(_parcel(known, parcel_id))
            back: list[object] = []
            if any(isinstance(event, ParcelReturned) for event in events):
                back = prescriptions.take_back(_prescription(known, prescription_id), parcel_id)
            return Decision([*_on(box, events), *_on(own, back)])

        self._store.execute(request, [own, box], both)

    def _prescription_of(self, parcel_id: str) -> str:
        opened = self.parcel(parcel_id).opened
        if opened is None:
            raise Refusal("not_found")
        return opened.prescription_id

    def _call(self, parcel_id: str) -> Due:
        return Due(f"hand-over:{parcel_id}", self._clock.now(), "hand_over", {"parcel_id": parcel_id})

    # --- what stands in the log ---

    def signature_holds(self, state: Prescription) -> bool:
        return self._pens.holds(state.facts)

    def care(self, visit_id: str) -> Care:
        return _care(self._store.load(care_stream(visit_id)), visit_id)

    def prescription(self, prescription_id: str) -> Prescription:
        return _prescription(self._store.load(prescription_stream(prescription_id)), prescription_id)

    def prescriptions(self, ids: Sequence[str]) -> list[Prescription]:
        known = self._store.load(*map(prescription_stream, ids)) if ids else {}
        return [_prescription(known, id_) for id_ in ids]

    def parcel(self, parcel_id: str) -> Parcel:
        return _parcel(self._store.load(parcel_stream(parcel_id)), parcel_id)


def _care(known: Histories, visit_id: str) -> Care:
    return fold(cares.evolve, Care(), known[care_stream(visit_id)])


def _prescription(known: Histories, prescription_id: str) -> Prescription:
    return fold(prescriptions.evolve, Prescription(), known[prescription_stream(prescription_id)])


def _parcel(known: Histories, parcel_id: str) -> Parcel:
    return fold(parcels.evolve, Parcel(), known[parcel_stream(parcel_id)])


def _on(stream: str, events: Sequence[object]) -> list[tuple[str, object]]:
    return [(stream, event) for event in events]


def _state_after(prescription_id: str, state: Prescription, events: Sequence[object]) -> Answer:
    for event in events:
        state = prescriptions.evolve(state, event)
    return Answer(200, {"prescription_id": prescription_id, "state": state.state})


def _expiry(signed: PrescriptionSigned) -> Due:
    """One row a signature: signing again starts the three days again (§24)."""
    return Due(
        f"expire:{signed.prescription_id}:{rfc3339(signed.valid_until)}", signed.valid_until, "expire_prescription",
        {"prescription_id": signed.prescription_id},
    )  # fmt: skip
