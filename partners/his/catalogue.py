"""What the Internet hospital tells, as an outsider learns it: from `asyncapi.yaml` alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).parent.parent.parent
# Their topic files name no group of the HIS as a reader: they are ours, or between the Internet hospital's own parts.
NOT_GRANTED = frozenset({
    "his.card.v1", "his.outpatient-visit.v1", "his.settlement.v1", "payment.refund-due.v1", "pharmacy.dispatch-due.v1",
    "registration.patient.v1",
})  # fmt: skip


def types_by_topic(path: Path | None = None) -> Mapping[str, frozenset[str]]:
    """topic → the CloudEvents types on it, of FUZHEN_EVENTS/asyncapi.yaml or this checkout's."""
    folder = Path(os.environ.get("FUZHEN_EVENTS") or REPO / "events")
    text = (path or folder / "asyncapi.yaml").read_bytes()
    # libyaml, where it was compiled in, reads the document in a tenth of the time.
    document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    messages = document["components"]["messages"]
    return {
        channel["address"]: frozenset(messages[_name(told)]["name"] for told in channel["messages"].values())
        for channel in document["channels"].values()
    }


def _name(told: dict[str, Any]) -> str:
    return str(told["$ref"]).rpartition("/")[2]
