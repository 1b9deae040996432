"""python -m services.pharmacy api | worker | streams dispatch | reconcile dispatch"""

from __future__ import annotations

from pathlib import Path

from environs.exceptions import EnvError

from eventkit.core import Core
from eventkit.main import Service, Work, main
from eventkit.web import Routes
from services.pharmacy import catalogue, policies, read_model
from services.pharmacy.courier import CourierApi
from services.pharmacy.events import registry
from services.pharmacy.handlers import Handlers
from services.pharmacy.http import Counter, make_routes
from services.pharmacy.jobs import jobs
from services.pharmacy.read_model import Queue
from services.pharmacy.signatures import Signatures


def handlers(core: Core) -> Handlers:
    pens = Signatures(core.database, core.vault)
    return Handlers(core.store, core.clock, pens, catalogue.drugs(), tuple(catalogue.couriers()))


def courier(core: Core) -> CourierApi:
    """Raises EnvError naming what is missing."""
    clients = core.env.path("FUZHEN_SECRETS") / "clients"
    return CourierApi(
        core.env.str("FUZHEN_COURIER_URL"), _secret(clients / "courier-api"), _secret(clients / "courier-webhook")
    )


def _secret(path: Path) -> bytes:
    if not path.is_file():
        raise EnvError(f"FUZHEN_SECRETS holds no {path.parent.name}/{path.name}")
    return path.read_bytes().strip()


def routes(core: Core) -> list[Routes]:
    return [make_routes(Counter(handlers(core), Queue(core.database), courier(core), core.clock))]


def work(core: Core) -> Work:
    own = handlers(core)
    return Work(
        jobs=jobs(own, courier(core)),
        views=[Queue(core.database).follow],
        inboxes=policies.inboxes(own),
    )


def dispatch() -> None:
    # Faust is loaded by the processor's process alone.
    from eventkit.streams import run
    from services.pharmacy.streams.dispatch import PROCESSOR

    run(PROCESSOR)


if __name__ == "__main__":
    main(Service("pharmacy", registry, routes, work, {"dispatch": dispatch}, prepare=read_model.prepare))
