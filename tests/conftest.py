"""What every test may ask for: `parts`, a real Kafka and MongoDB, started once a run."""

from devstack.fixture import parts

__all__ = ["parts"]
