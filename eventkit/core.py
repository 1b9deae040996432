"""What one process of a service is given: its settings, clock, database, log, vault, and ways to call others."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from environs import Env
from pymongo.database import Database

from eventkit.audit import Audit, MongoTrail
from eventkit.auth import Verifier, published_keys
from eventkit.calls import Peer, ServiceToken
from eventkit.clock import SystemClock
from eventkit.events import Registry
from eventkit.mongo_store import MongoBackend, connect, ensure_indexes
from eventkit.settings import Settings, read_settings
from eventkit.store import Store
from eventkit.vault import Vault, read_master_key


class Core:
    """Made after fork: it opens connections. `env` stays readable, so that a service can take settings of its own."""

    def __init__(self, registry: Registry, settings: Settings, env: Env) -> None:
        self.registry = registry
        self.settings = settings
        self.env = env
        self.clock = SystemClock(settings.clock_file)
        self.mongo = connect(settings.mongo_url)
        self.database: Database[dict[str, Any]] = self.mongo[settings.database]
        self.vault = Vault(self.database, read_master_key(settings.master_key_file))
        self.store = Store(MongoBackend(self.database), registry, self.vault, self.clock)
        self.audit = Audit(MongoTrail(self.database), self.clock)
        self.verifier = Verifier(published_keys(settings.jwks_url), settings.jwt_issuer)

    @classmethod
    def from_env(cls, service: str, registry: Registry) -> Core:
        """Raises EnvError or ValueError naming the setting."""
        env = Env()
        return cls(registry, read_settings(service, env), env)

    def ensure_indexes(self) -> None:
        ensure_indexes(self.database)
        MongoTrail(self.database).ensure_indexes()

    @cached_property
    def _token(self) -> ServiceToken:
        return ServiceToken(self.settings.token_url, self.settings.service, self.settings.client_secret)

    def service(self, name: str) -> Peer:
        """Another service of ours, called with this service's own token at FUZHEN_<NAME>_URL."""
        return Peer(name, self.env.str(f"FUZHEN_{name.upper()}_URL"), headers=self._token)

    def ready(self) -> tuple[bool, dict[str, Any]]:
        try:
            self.database.command("ping")
        except Exception as error:
            return False, {"mongo": type(error).__name__}
        return True, {"mongo": "ok"}
