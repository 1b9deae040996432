"""Departments, doctors and staff: a file that the hospital keeps (`sample/directory.json` shows its shape).

It is read once at start; who is in it logs in by phone like everybody, and comes out with the role that it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

SAMPLE = Path(__file__).parent / "sample" / "directory.json"


@dataclass(frozen=True, slots=True)
class Department:
    department_id: str
    name: str
    name_en: str


@dataclass(frozen=True, slots=True)
class Doctor:
    """`title` is one of the tariff's: ordinary, associate_chief, chief, renowned."""

    doctor_id: str
    name: str
    title: str
    specialty: str
    department_ids: tuple[str, ...]
    phone: str


@dataclass(frozen=True, slots=True)
class Staff:
    """`role`: pharmacist, cashier or operator."""

    staff_id: str
    name: str
    role: str
    phone: str


@dataclass(frozen=True, slots=True)
class Directory:
    departments: tuple[Department, ...]
    doctors: tuple[Doctor, ...]
    staff: tuple[Staff, ...]

    def doctor(self, doctor_id: str) -> Doctor | None:
        return next((doctor for doctor in self.doctors if doctor.doctor_id == doctor_id), None)

    def doctors_of(self, department_id: str | None) -> list[Doctor]:
        return [doctor for doctor in self.doctors if department_id is None or department_id in doctor.department_ids]

    def role_of(self, subject: str) -> str | None:
        """What a doctor or member of staff is; None for everybody else."""
        if self.doctor(subject):
            return "doctor"
        return next((member.role for member in self.staff if member.staff_id == subject), None)

    def who(self, phone: str) -> tuple[str, str] | None:
        """(subject, role) of a doctor or member of staff with that phone."""
        for doctor in self.doctors:
            if doctor.phone == phone:
                return doctor.doctor_id, "doctor"
        for member in self.staff:
            if member.phone == phone:
                return member.staff_id, member.role
        return None


def read_directory(path: Path = SAMPLE) -> Directory:
    """Raises ValueError for a file of another shape."""
    return msgspec.json.decode(path.read_bytes(), type=Directory)
