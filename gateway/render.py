"""Renders gateway/envoy.yaml.j2 for one place: devstack on one machine, Kubernetes with the services' DNS names.

    python -m gateway.render > envoy.yaml        # with the devstack's ports of this environment
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.problems import refusals


@dataclass(frozen=True)
class Limits:
    """Seconds, bytes and counts; the defaults are for the hospital, the devstack lets one address log in more often."""

    per_second: int = 1000  # requests of everybody together; twice as many in a burst
    login_per_minute: int = 30  # login codes and tokens of one client address, each
    retry_after_s: int = 10
    body_bytes: int = 1024 * 1024
    photo_bytes: int = 8 * 1024 * 1024
    route_s: float = 15
    per_try_s: float = 5
    upload_s: float = 60
    idle_s: float = 75  # no byte either way
    socket_idle_s: float = 2 * 3600  # a consult may be silent for an hour (§17)
    connections: int = 512
    pending: int = 256
    upstream_idle_s: float = 60


@dataclass(frozen=True)
class Place:
    """`services`: name → (host, port), the five to route to. `trusted_hops`: proxies of ours that stand in front."""

    services: Mapping[str, tuple[str, int]]
    listen_port: int
    admin_port: int
    listen_address: str = "127.0.0.1"
    trusted_hops: int = 0
    jwt_issuer: str = "https://fuzhen.example"
    limits: Limits = field(default_factory=Limits)


def render(place: Place) -> str:
    """The whole Envoy configuration as YAML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # YAML, and nothing in it comes from a client
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    template = environment.get_template("envoy.yaml.j2")
    return template.render(**vars(place), refusals=refusals(place.limits.retry_after_s))


if __name__ == "__main__":
    import os

    from devstack.table import gateway_place

    print(render(gateway_place(int(os.environ.get("FUZHEN_PORT_BASE") or 18000))))
