"""The seven stories of the guide on a whole stack of its own, through the gateway, and the ledger at the end."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer

from devstack.stack import Stack
from devstack.story.ledger import settle_the_books
from devstack.story.scenes import a_new_morning
from devstack.story.stage import Stage
from devstack.story.stories import STORIES
from tests.e2e.heard import partitions


@pytest.fixture(scope="module")
def stage(stack: Stack) -> Stage:
    return Stage.of(stack.home, stack.base)


@pytest.mark.parametrize("name", STORIES)
def test_story(stage: Stage, name: str) -> None:
    a_new_morning(stage)
    STORIES[name](stage)


def test_every_fen_is_accounted_for(stage: Stage) -> None:
    """§16: paid = refunded + held + earned, the same at the provider and the insurer."""
    settle_the_books(stage)


def test_no_event_went_to_dead_letters(stack: Stack) -> None:
    async def letters() -> dict[str, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka)
        await consumer.start()
        try:
            places = [tp for tp in await partitions(stack.kafka) if tp.topic.startswith("dlq.")]
            assert places
            ends = await consumer.end_offsets(places)
        finally:
            await consumer.stop()
        return {f"{tp.topic}-{tp.partition}": end for tp, end in ends.items() if end}

    assert asyncio.run(letters()) == {}
