"""What eligibility writes down: that somebody was asked, and what came out. No birth date and no symptom (§31)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from eventkit.events import Refusal, Registry

__all__ = ["EligibilityGranted", "EligibilityRefused", "Refusal", "registry"]

registry = Registry("eligibility")

ASSESSMENTS = "eligibility.assessment.v1"


@registry.event("EligibilityGranted", topic=ASSESSMENTS, key="visit_id")
@dataclass(frozen=True, slots=True)
class EligibilityGranted:
    """`evidence_id` is the outpatient record of §2."""

    assessment_id: str
    visit_id: str
    patient_id: str
    checkpoint: str
    day: date
    evidence_id: str
    assessed_at: datetime


@registry.event("EligibilityRefused", topic=ASSESSMENTS, key="visit_id")
@dataclass(frozen=True, slots=True)
class EligibilityRefused:
    """`failed`: every failed rule's code, in the order of the rules."""

    assessment_id: str
    visit_id: str
    patient_id: str
    checkpoint: str
    day: date
    failed: tuple[str, ...]
