"""The process table: what runs on one machine, with which settings, after what, and how its health is asked."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiokafka.client
import pymongo.errors
from pymongo import AsyncMongoClient

from devstack.places import ENVOY, KAFKA_CLASSES, KAFKA_LIBS, MONGOD, REPO
from devstack.ports import HOST, PARTNERS, SERVICES, STREAMS, port, url
from devstack.process import Probe, Process, http_ready, tcp_ready
from gateway.render import Limits, Place, render

KAFKA_HEAP = "512m"
JWT_ISSUER = "https://fuzhen.example"
MONGO_MEMBERS = ("mongo", "mongo2", "mongo3")


def processes(home: Path, base: int, mongo_members: int = 1) -> list[Process]:
    """Every process of one stack with its state under `home` and its ports from `base`, in the order of `status`."""
    common = settings(home, base, mongo_members)

    def python(name: str, *module: str, needs: tuple[str, ...], **more: str) -> Process:
        """One of our own Python processes: it answers /health/ready on its port."""
        number = port(name, base)
        data = home / "data" / name
        return Process(
            name,
            [sys.executable, "-m", *module],
            http_ready(number),
            env={**common, "FUZHEN_PORT": str(number), "FUZHEN_DATA": str(data), **more},
            needs=needs,
            ports=(number,),
            prepare=lambda: data.mkdir(parents=True, exist_ok=True),
            url=url(name, base),
        )

    def of(service: str) -> dict[str, str]:
        return {"FUZHEN_SERVICE": service, "FUZHEN_CLIENT_SECRET_FILE": str(home / "secrets" / "clients" / service)}

    rows = [kafka(home, base), *mongo(home, base, mongo_members)]
    topics = [sys.executable, "-m", "eventkit.topics", "apply"]
    rows.append(Process("topics", topics, ready=None, env=common, needs=("kafka",)))
    rows.append(envoy(home, base))
    for partner in PARTNERS:
        needs = ("topics",) if partner == "his" else ()
        rows.append(python(partner, f"partners.{partner}", needs=needs, **of(partner)))
    issuer = {
        "FUZHEN_JWT_KEY_FILE": str(home / "secrets" / "jwt_key.pem"),
        "FUZHEN_CLIENTS_FILE": str(home / "secrets" / "clients.json"),
    }
    for service in SERVICES:
        extra = {**of(service), **(issuer if service == "registration" else {})}
        if service == "consult":  # each live conversation holds a thread
            extra["FUZHEN_WEB_THREADS"] = "64"
        rows.append(python(service, f"services.{service}", "api", needs=("mongo",), **extra))
    for service in SERVICES:
        rows.append(
            python(f"{service}.worker", f"services.{service}", "worker", needs=("mongo", "topics"), **of(service))
        )
    for stream in STREAMS:
        service, processor = stream.split(".")
        rows.append(python(stream, f"services.{service}", "streams", processor, needs=("topics",), **of(service)))
    return rows


def settings(home: Path, base: int, mongo_members: int) -> dict[str, str]:
    """What every Python process of a stack is told; each adds its own name, port and data folder."""
    urls = {f"FUZHEN_{name.upper()}_URL": url(name, base) for name in (*SERVICES, *PARTNERS)}
    return {
        **urls,
        "FUZHEN_MONGO_URL": mongo_url(base, mongo_members),
        "FUZHEN_KAFKA": kafka_address(base),
        "FUZHEN_CLOCK_FILE": str(home / "clock"),
        "FUZHEN_SECRETS": str(home / "secrets"),
        "FUZHEN_MASTER_KEY_FILE": str(home / "secrets" / "master_key"),
        "FUZHEN_JWKS_URL": f"{url('registration', base)}/api/registration/.well-known/jwks.json",
        "FUZHEN_JWT_ISSUER": JWT_ISSUER,
        "FUZHEN_TOKEN_URL": f"{url('registration', base)}/api/registration/tokens",
        "FUZHEN_PUBLIC_URL": url("gateway", base),
        "FUZHEN_WEB_WORKERS": os.environ.get("FUZHEN_WEB_WORKERS", "1"),
        "FUZHEN_WEB_THREADS": os.environ.get("FUZHEN_WEB_THREADS", "16"),
        "PYTHONUNBUFFERED": "1",
    }


def mongo_url(base: int, members: int = 1) -> str:
    hosts = ",".join(f"{HOST}:{port(member, base)}" for member in MONGO_MEMBERS[:members])
    return f"mongodb://{hosts}/?replicaSet=rs0"


def kafka_address(base: int) -> str:
    return f"{HOST}:{port('kafka', base)}"


def gateway_place(base: int) -> Place:
    """The gateway before the services of one machine. The story's patients all log in from one address."""
    services = {service: (HOST, port(service, base)) for service in SERVICES}
    return Place(
        services,
        listen_port=port("gateway", base),
        admin_port=port("envoy-admin", base),
        jwt_issuer=JWT_ISSUER,
        limits=Limits(login_per_minute=3000),
    )


def envoy(home: Path, base: int) -> Process:
    config = home / "run" / "envoy.yaml"
    place = gateway_place(base)
    argv = [str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"]
    return Process(
        "envoy",
        [*argv, "--file-flush-interval-msec", "500", "--drain-time-s", "1"],
        http_ready(place.admin_port, "/ready"),
        ports=(place.listen_port, place.admin_port),
        prepare=lambda: config.write_text(render(place)),
        url=url("gateway", base),
    )


def kafka(home: Path, base: int) -> Process:
    """One broker that is its own controller (KRaft). What differs from Kafka's defaults is what a single node needs,
    smaller internal topics for a quick start, and no automatic topics: ours are created by `eventkit.topics`."""
    data = home / "data" / "kafka"
    properties = home / "run" / "kafka.properties"
    classpath = f"{KAFKA_LIBS}/*"
    log4j = REPO / "devstack" / "kafka" / "log4j2.properties"
    java = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={log4j}"]
    broker, controller = port("kafka", base), port("kafka-controller", base)
    properties_of_one_node = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller}",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 6,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 3,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 3,
        "group.initial.rebalance.delay.ms": 0,
        # After kill -9 the broker may register again only when its old session is over: 9 s by default.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }

    def prepare() -> None:
        properties.write_text("".join(f"{key}={value}\n" for key, value in properties_of_one_node.items()))
        if not (data / "meta.properties").exists():
            data.mkdir(parents=True, exist_ok=True)
            tool = [*java, "-cp", classpath, "kafka.tools.StorageTool"]
            # Any 16 bytes in base64 are a cluster id; a fixed one saves the start of a JVM.
            command = [*tool, "format", "--standalone", "-t", "RnV6aGVuRGV2c3RhY2sxMA", "-c", str(properties)]
            subprocess.run(command, check=True, capture_output=True, text=True)

    # Classes come from an archive made by `devstack.parts`: 2.3 s to start instead of 5 (JEP 350).
    heap = [f"-Xmx{KAFKA_HEAP}", f"-Xms{KAFKA_HEAP}"]
    argv = [*java, f"-XX:SharedArchiveFile={KAFKA_CLASSES}", *heap, "-cp", classpath, "kafka.Kafka", str(properties)]
    ready = kafka_ready(HOST, broker)
    return Process("kafka", argv, ready, ports=(broker, controller), prepare=prepare, url=kafka_address(base))


def kafka_ready(host: str, number: int) -> Probe:
    """Ready when the broker names itself in its metadata."""
    listening = tcp_ready(number, host)

    async def ready() -> bool:
        await listening()  # before the client, which would write an error to the log at every try
        client = aiokafka.client.AIOKafkaClient(bootstrap_servers=f"{host}:{number}", request_timeout_ms=2000)
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        finally:
            await client.close()

    return ready


def mongo(home: Path, base: int, members: int) -> list[Process]:
    """A replica set of one member (change streams and majority writes need a set), or three for failover tests."""
    names = MONGO_MEMBERS[:members]
    rows = []
    for name in names:
        number = port(name, base)
        data = home / "data" / name
        argv = [
            str(MONGOD), "--replSet", "rs0", "--bind_ip", HOST, "--port", str(number), "--dbpath", str(data),
            "--wiredTigerCacheSizeGB", "0.5", "--nounixsocket", "--quiet",
            "--setParameter", "diagnosticDataCollectionEnabled=false",
            # A primary told to stop waits 15 s for a successor by default; there is none on one machine.
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100",
        ]  # fmt: skip
        first = name == names[0]
        rows.append(
            Process(
                name,
                argv,
                replica_set_ready([port(member, base) for member in names]) if first else tcp_ready(number),
                needs=names[1:] if first else (),
                ports=(number,),
                prepare=lambda data=data: data.mkdir(parents=True, exist_ok=True),  # type: ignore[misc]
                url=mongo_url(base, members) if first else f"{HOST}:{number}",
            )
        )
    return rows


def replica_set_ready(ports: list[int], host: str = HOST) -> Probe:
    """Makes the replica set when it is new; ready when this member knows a primary."""
    already_initialized, not_yet_initialized = 23, 94

    async def ready() -> bool:
        client: AsyncMongoClient[dict[str, Any]]
        async with AsyncMongoClient(host, ports[0], directConnection=True, serverSelectionTimeoutMS=1000) as client:
            hello = await client.admin.command("hello")
            if "setName" not in hello:
                members = [{"_id": n, "host": f"{host}:{number}"} for n, number in enumerate(ports)]
                config = {"_id": "rs0", "members": members, "settings": {"electionTimeoutMillis": 2000}}
                try:
                    await client.admin.command("replSetInitiate", config)
                except pymongo.errors.OperationFailure as error:
                    if error.code not in (already_initialized, not_yet_initialized):
                        raise
                return False
            return "primary" in hello

    return ready
