"""The processor under fire: by account and stream a count and a total, and an output for every fifth event.

Run as `python -m tests.chaos.totals guarded|cured|bare`. `guarded` is the product's own wrapper. The other two are what
the campaign must catch: a plain Faust agent with a table, acknowledged outputs and a guard by version, with and without
the library's cure. CHAOS_RUN names the campaign's topics.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
import orjson
import yaml

from eventkit import faust_cure, logs
from eventkit.envelope import Envelope
from eventkit.streams import Output, Processor, run
from eventkit.streams.guard import to_envelope

COUNTED = "org.fuzhen.chaos.Counted.v1"
MILESTONE = "org.fuzhen.chaos.MilestoneReached.v1"
EVERY = 5
PARTITIONS = 12


@dataclass(frozen=True)
class Totals:
    """By stream: how many amounts, and their sum in fen."""

    counts: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


def derive(state: Totals | None, event: Envelope) -> tuple[Totals, list[Output]]:
    before = state or Totals()
    stream = event.stream
    count = before.counts.get(stream, 0) + 1
    total = before.totals.get(stream, 0) + event.data["amount_fen"]
    after = Totals({**before.counts, stream: count}, {**before.totals, stream: total})
    if count % EVERY:
        return after, []
    data = {"account": event.subject, "stream": stream, "count": count, "total_fen": total}
    return after, [Output(MILESTONE, event.subject, data, (stream, str(count)))]


def totals(name: str) -> Processor[Totals]:
    return Processor(
        app_id=f"chaos.totals-{name}",
        sources=(f"chaos.count-{name}.v1", f"chaos.mark-{name}.v1"),
        output_topic=f"chaos.milestone-{name}.v1",
        state=Totals,
        derive=derive,
        partitions=PARTITIONS,
    )


def write_contracts(folder: Path, processor: Processor[Totals]) -> None:
    """An `events/` folder for one campaign: topics of its own, so that a broker can serve many."""
    integer = {"type": "integer", "minimum": 0}
    schemas = {
        "Counted.v1": {"account": {"type": "string"}, "amount_fen": integer},
        "MilestoneReached.v1": {
            "account": {"type": "string"}, "stream": {"type": "string"}, "count": integer, "total_fen": integer,
        },
    }
    (folder / "schemas" / "chaos").mkdir(parents=True)
    (folder / "topics").mkdir()
    for name, properties in schemas.items():
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        (folder / "schemas" / "chaos" / f"{name}.json").write_bytes(orjson.dumps(schema))
    for topic, type_ in [*((source, COUNTED) for source in processor.sources), (processor.output_topic, MILESTONE)]:
        content = {
            "owner": "chaos", "key": "account", "partitions": processor.partitions, "types": [type_],
            "readers": [processor.app_id] if topic in processor.sources else [], "description": "A campaign's topic.",
        }
        (folder / "topics" / f"{topic}.yaml").write_text(yaml.safe_dump(content))


def run_bare(processor: Processor[Totals], cured: bool) -> None:
    """Faust as its documentation and our rule 6 would have it, without positions of our own."""
    kind: Any = faust_cure.App if cured else faust.App
    app = kind(
        processor.app_id, broker=f"kafka://{os.environ['FUZHEN_KAFKA']}", store="rocksdb://",
        datadir=os.environ["FUZHEN_DATA"], autodiscover=False, web_enabled=False, topic_partitions=PARTITIONS,
        topic_allow_declare=False, topic_disable_leader=True, stream_wait_empty=False, broker_session_timeout=6,
        broker_heartbeat_interval=2, consumer_auto_offset_reset="earliest",
    )
    raw: dict[str, Any] = {"key_type": str, "key_serializer": "raw", "value_type": bytes, "value_serializer": "raw"}
    out = app.topic(processor.output_topic, **raw)
    table = app.Table("state", partitions=PARTITIONS, key_type=bytes, value_type=bytes)

    @app.agent(app.topic(*processor.sources, **raw), concurrency=1)
    async def process(stream: Any) -> None:
        async for item in stream.events():
            event = Envelope.parse(item.value)
            key = event.partitionkey.encode()
            kept = orjson.loads(table[key]) if key in table else {"state": None, "seen": {}}
            if event.version <= kept["seen"].get(event.stream, 0):
                continue
            state, outputs = derive(Totals(**kept["state"]) if kept["state"] else None, event)
            for output in outputs:
                envelope = to_envelope(output, event, processor.app_id)
                await (await out.send(key=envelope.partitionkey, value=envelope.to_bytes()))
            table[key] = orjson.dumps({"state": state, "seen": {**kept["seen"], event.stream: event.version}})

    faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    under_fire = totals(os.environ["CHAOS_RUN"])
    logs.set_up(under_fire.app_id)
    match sys.argv[1:]:
        case ["guarded"]:
            run(under_fire)
        case ["cured"]:
            run_bare(under_fire, cured=True)
        case ["bare"]:
            run_bare(under_fire, cured=False)
