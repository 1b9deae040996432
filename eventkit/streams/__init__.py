"""Faust processors whose state and outputs are exact after any kill (design rules 4 and 6, docs/adr/0004).

A service declares a `Processor` and runs it with `run`; `eventkit.reconcile` proves its outputs against its sources.
"""

from typing import Any

from eventkit.streams.guard import Output, Processor, TopicSpec, processor_topics

__all__ = ["Output", "Processor", "TopicSpec", "processor_topics", "run"]


def run(processor: Processor[Any]) -> None:
    """Run until SIGTERM; exit code 0 then, 70 when the work cannot be done, 78 when a setting is missing."""
    # Here, because Faust takes a second to import and declaring a processor needs none of it.
    from eventkit.streams.worker import run

    run(processor)
