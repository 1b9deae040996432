"""Creates and mends the topics of `events/topics/` and of the processors: `python -m eventkit.topics apply|diff`.

Run as a job before anything else starts, here and on Kubernetes. Partitions are never reduced, data is never deleted.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from eventkit.contracts import Contracts, contracts
from eventkit.streams import processor_topics

DAY_MS = 24 * 3600 * 1000
DEAD_LETTER_DAYS = 90


def wanted(contract: Contracts) -> dict[str, tuple[int, dict[str, str]]]:
    """Topic name → (partitions, configuration): the written topics, a dead-letter topic a reader group, and what the
    processors keep for themselves."""
    topics: dict[str, tuple[int, dict[str, str]]] = {}
    for topic in contract.topics.values():
        retention = "-1" if topic.retention_days is None else str(topic.retention_days * DAY_MS)
        topics[topic.name] = (topic.partitions, {"cleanup.policy": topic.cleanup, "retention.ms": retention})
        if topic.processor is not None:
            for spec in processor_topics(topic.processor, topic.partitions):
                topics[spec.name] = (spec.partitions, spec.config)
        for group in topic.readers:
            topics[f"dlq.{group}"] = (
                topic.partitions,
                {"cleanup.policy": "delete", "retention.ms": str(DEAD_LETTER_DAYS * DAY_MS)},
            )
    return topics


async def apply(kafka: str, topics: dict[str, tuple[int, dict[str, str]]], replication: int) -> list[str]:
    """Create what is missing; returns the names created. Raises RuntimeError when a topic has other partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        missing = await _missing(admin, topics)
        if missing:
            response = await admin.create_topics(
                [NewTopic(n, topics[n][0], replication, topic_configs=topics[n][1]) for n in missing]
            )
            for name, code, *rest in response.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise RuntimeError(f"topic {name}: {error.__name__} {rest}")
        resources = [ConfigResource(ConfigResourceType.TOPIC, n, configs=topics[n][1]) for n in topics]
        await admin.alter_configs(resources)
        return missing
    finally:
        await admin.close()


async def _missing(admin: AIOKafkaAdminClient, topics: dict[str, tuple[int, dict[str, str]]]) -> list[str]:
    existing = {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}
    wrong = [
        f"{name} has {existing[name]} partitions, its file says {partitions}"
        for name, (partitions, _) in topics.items()
        if name in existing and existing[name] != partitions
    ]
    if wrong:
        raise RuntimeError("; ".join(wrong))
    return sorted(set(topics) - set(existing))


def main(arguments: list[str]) -> int:
    kafka = os.environ.get("FUZHEN_KAFKA")
    if not kafka or arguments not in (["apply"], ["diff"]):
        print(__doc__ + "\nFUZHEN_KAFKA names the broker.", file=sys.stderr)
        return 2
    topics = wanted(contracts())
    if arguments == ["apply"]:
        created = asyncio.run(apply(kafka, topics, int(os.environ.get("FUZHEN_KAFKA_REPLICATION", "1"))))
        print(f"{len(topics)} topics, {len(created)} new")
        return 0
    missing = asyncio.run(_diff(kafka, topics))
    print("\n".join(f"missing: {name}" for name in missing) or "no difference")
    return 1 if missing else 0


async def _diff(kafka: str, topics: dict[str, tuple[int, dict[str, str]]]) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        return await _missing(admin, topics)
    finally:
        await admin.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
