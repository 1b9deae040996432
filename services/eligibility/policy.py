"""§1 and §2 in numbers, dated: what holds on the day of a visit is the last row that began by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from services.eligibility.domain import Criteria


@dataclass(frozen=True, slots=True)
class Policy:
    valid_from: date
    criteria: Criteria


POLICIES = (Policy(date(2024, 1, 1), Criteria(min_age_years=6, outpatient_months=6)),)


def criteria_on(day: date, policies: Sequence[Policy] = POLICIES) -> Criteria:
    """Raises LookupError before the first row."""
    begun = [policy for policy in policies if policy.valid_from <= day]
    if not begun:
        raise LookupError(f"nothing is laid down for {day}")
    return max(begun, key=lambda policy: policy.valid_from).criteria
