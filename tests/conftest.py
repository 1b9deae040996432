"""What every test may ask for: `parts` (Kafka and MongoDB) and `stack` (the whole hospital), real, once a run."""

from devstack.fixture import parts, stack

__all__ = ["parts", "stack"]
