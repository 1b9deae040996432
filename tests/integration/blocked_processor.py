"""A processor whose derive never returns, for the watchdog's test: `python -m tests.integration.blocked_processor`."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

from eventkit import logs
from eventkit.envelope import Envelope
from eventkit.streams import Output, run
from tests.chaos.totals import Totals, totals


def derive(state: Totals | None, event: Envelope) -> tuple[Totals, list[Output]]:
    threading.Event().wait()
    return Totals(), []


if __name__ == "__main__":
    logs.set_up("blocked")
    run(replace(totals(os.environ["CHAOS_RUN"]), derive=derive))
