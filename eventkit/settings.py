"""Settings come from the environment alone; a missing or wrong one ends the start and is named (exit code 78)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from environs import Env
from environs.exceptions import EnvError

T = TypeVar("T")
EX_CONFIG = 78


@dataclass(frozen=True, slots=True)
class Settings:
    """What every process of a service needs."""

    service: str
    host: str
    port: int
    mongo_url: str
    database: str
    kafka: str
    jwks_url: str
    jwt_issuer: str
    token_url: str
    client_secret: str
    master_key_file: Path
    clock_file: str | None
    web_workers: int
    web_threads: int


def read_settings(service: str, env: Env) -> Settings:
    """Raises EnvError naming the variable."""
    return Settings(
        service=service,
        host=env.str("FUZHEN_HOST", "127.0.0.1"),
        port=env.int("FUZHEN_PORT"),
        mongo_url=env.str("FUZHEN_MONGO_URL"),
        database=f"{env.str('FUZHEN_DB_PREFIX', 'fuzhen')}_{service}",
        kafka=env.str("FUZHEN_KAFKA"),
        jwks_url=env.str("FUZHEN_JWKS_URL"),
        jwt_issuer=env.str("FUZHEN_JWT_ISSUER", "https://fuzhen.example"),
        token_url=env.str("FUZHEN_TOKEN_URL"),
        client_secret=read_secret(env, "FUZHEN_CLIENT_SECRET_FILE"),
        master_key_file=existing_file(env, "FUZHEN_MASTER_KEY_FILE"),
        clock_file=env.str("FUZHEN_CLOCK_FILE", None),
        web_workers=env.int("FUZHEN_WEB_WORKERS", 1),
        web_threads=env.int("FUZHEN_WEB_THREADS", 16),
    )


def existing_file(env: Env, name: str) -> Path:
    path = env.path(name)
    if not path.is_file():
        raise EnvError(f'Environment variable "{name}" names {path}, which is no file')
    return Path(path)


def read_secret(env: Env, name: str) -> str:
    """A secret is never an environment value itself, only the name of a file that holds it."""
    return existing_file(env, name).read_text(encoding="utf-8").strip()


def or_exit(read: Callable[[], T]) -> T:
    """What `read` returns; a setting it cannot have ends the process with one line that says which."""
    try:
        return read()
    except (EnvError, ValueError) as error:
        stop(str(error))


def stop(reason: str) -> NoReturn:
    print(f"fuzhen cannot start: {reason}", file=sys.stderr)
    sys.exit(EX_CONFIG)
