"""Real parts for tests: from images when a Docker engine answers and has them, from the devstack otherwise.

Import the fixture `parts` in a conftest: Kafka and MongoDB with nothing in them, started once a run.
FUZHEN_PARTS=docker or devstack takes the choice away. State is in .fuzhen/test/<process id>; the next run removes it.
"""

import asyncio
import contextlib
import gc
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from devstack import places
from devstack.ports import free_base
from devstack.process import Probe, until_healthy
from devstack.stack import Stack
from devstack.table import kafka_ready, replica_set_ready

KAFKA_IMAGE = "apache/kafka:4.3.1"
MONGO_IMAGE = "mongo:6.0.5"
PATIENCE = 90.0


@dataclass(frozen=True)
class Parts:
    """`where` is "docker" or "devstack"; only the devstack's can be killed and started again, by `stack`."""

    where: str
    mongo_url: str
    kafka: str
    stack: Stack | None = None


@pytest.fixture(scope="session")
def parts(request: pytest.FixtureRequest) -> Iterator[Parts]:
    """Kafka and MongoDB with nothing in them, for the whole run."""
    with contextlib.ExitStack() as running:
        found = choose(running)
        say(request.config, f"parts: Kafka {found.kafka} and {found.mongo_url} from {found.where}")
        yield found


def choose(running: contextlib.ExitStack) -> Parts:
    """`running` ends what was started."""
    wish = os.environ.get("FUZHEN_PARTS", "")
    if wish != "devstack":
        reason = docker_trouble()
        if not reason:
            return from_docker(running)
        if wish == "docker":
            pytest.fail(f"FUZHEN_PARTS=docker, but {reason}")
    stack = running.enter_context(Stack(fresh_home("parts"), free_base()).start(["kafka", "mongo"], wipe=True))
    return Parts("devstack", stack.mongo_url, stack.kafka, stack)


def docker_trouble() -> str:
    """Why Docker cannot give the parts, or nothing. An engine that cannot have the images is as good as none."""
    import docker.errors
    import requests
    from testcontainers.core.config import testcontainers_config as config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py leaves its socket open when nobody answers
        client = None
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            client = docker.from_env(timeout=20)
        gc.collect()
    if client is None:
        return "no Docker engine answers"
    with contextlib.closing(client):
        for image in (KAFKA_IMAGE, MONGO_IMAGE, *([] if config.ryuk_disabled else [config.ryuk_image])):
            try:
                client.images.get(image)
            except docker.errors.ImageNotFound:
                try:
                    client.images.pull(image)
                except (docker.errors.DockerException, requests.RequestException):
                    return f"the Docker engine cannot pull {image}"
    return ""


def from_docker(running: contextlib.ExitStack) -> Parts:
    """Host ports are chosen before the start, because Kafka and a replica set tell their clients their own address."""
    from testcontainers.core.container import DockerContainer

    base = free_base()
    kafka_port, mongo_port = base, base + 1

    def start(container: DockerContainer) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(running.enter_context(container).get_container_host_ip())

    kafka = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, kafka_port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{engine_host()}:{kafka_port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "6",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }.items():
        kafka = kafka.with_env(name, value)
    # The set's only member is known by the address that clients use, so it must be reachable under it from inside too.
    mongo = DockerContainer(MONGO_IMAGE).with_command(f"--replSet rs0 --bind_ip_all --port {mongo_port}")
    mongo = mongo.with_bind_ports(mongo_port, mongo_port)

    def wait(container: DockerContainer, ready: Probe) -> None:
        try:
            asyncio.run(until_healthy(ready, PATIENCE))
        except TimeoutError as late:
            out, err = container.get_logs()
            pytest.fail(f"{container.image}: {late}\n{(out + err).decode(errors='replace')[-3000:]}")

    kafka_host, mongo_host = start(kafka), start(mongo)
    wait(kafka, kafka_ready(kafka_host, kafka_port))
    wait(mongo, replica_set_ready([mongo_port], mongo_host))
    url = f"mongodb://{mongo_host}:{mongo_port}/?replicaSet=rs0"
    return Parts("docker", url, f"{kafka_host}:{kafka_port}")


def engine_host() -> str:
    from testcontainers.core.docker_client import DockerClient

    return str(DockerClient().host())


def fresh_home(kind: str) -> Path:
    """A folder of this process; those of processes that are gone are removed."""
    folder = places.TOOLS / "test"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name.isdigit() and not psutil.pid_exists(int(old.name)):
            shutil.rmtree(old, ignore_errors=True)
    return folder / str(os.getpid()) / kind


def say(config: pytest.Config, line: str) -> None:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(line)
