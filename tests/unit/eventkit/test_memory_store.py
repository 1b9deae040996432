import pytest

from eventkit.memory_store import MemoryBackend
from tests.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
