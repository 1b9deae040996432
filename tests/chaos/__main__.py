"""`python -m tests.chaos processors [kills=40] [seed=1] [workers=1] [mode=guarded|cured|bare] [rate=700] [pauses=0]
[broker_kills=0]`: exit code 0 when all held. The report is JSON, on the last line and in the campaign's folder.

FUZHEN_KAFKA names a broker; without it a Kafka of its own is started (and only then can it be killed).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict

import orjson

from devstack import places, ports
from devstack.stack import Stack
from tests.chaos.processors import Plan, campaign


def processors(options: dict[str, str]) -> int:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics just made and brokers just killed are no news
    folder = places.home() / "chaos" / "processors"
    shutil.rmtree(folder, ignore_errors=True)
    numbers = {name: int(value) for name, value in options.items() if name != "mode"}
    with contextlib.ExitStack() as running:
        kafka = os.environ.get("FUZHEN_KAFKA")
        kill_broker: Callable[[], None] = lambda: None  # noqa: E731
        if not kafka:
            stack = Stack(folder / "stack", ports.free_base()).start(only=["kafka"], wipe=True)
            running.enter_context(stack)
            kafka, kill_broker = stack.kafka, lambda: stack.kill("kafka")
        plan = Plan(kafka, folder / "run", mode=options.get("mode", "guarded"), kill_broker=kill_broker, **numbers)
        report = campaign(plan)
    line = orjson.dumps({"ok": report.ok, **asdict(report)})
    (folder / "report.json").write_bytes(line)
    print(line.decode())
    return 0 if report.ok else 1


KINDS = {"processors": processors}


def main(arguments: list[str]) -> int:
    kind, *options = arguments or [""]
    if kind not in KINDS or any("=" not in option for option in options):
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are ended too
    return KINDS[kind](dict(option.split("=", 1) for option in options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
