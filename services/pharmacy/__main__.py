"""python -m services.pharmacy api | worker | streams dispatch | reconcile dispatch"""

from __future__ import annotations

from datetime import timedelta

from eventkit.core import Core
from eventkit.main import Service, Work, main
from eventkit.signing import partner_secret
from eventkit.web import Routes
from services.pharmacy import catalogue, policies, read_model
from services.pharmacy.courier import CourierApi
from services.pharmacy.events import registry
from services.pharmacy.handlers import Handlers
from services.pharmacy.http import Counter, make_routes
from services.pharmacy.jobs import jobs
from services.pharmacy.read_model import Queue
from services.pharmacy.signatures import Signatures

RECONCILE_SECONDS = 300.0
RECONCILE_WINDOW = timedelta(days=30)  # longer than a prescription takes from its signature to the courier


def handlers(core: Core) -> Handlers:
    pens = Signatures(core.database, core.vault)
    return Handlers(core.store, core.clock, pens, catalogue.drugs(), tuple(catalogue.couriers()))


def courier(core: Core) -> CourierApi:
    """Raises EnvError naming what is missing."""
    return CourierApi(
        core.env.str("FUZHEN_COURIER_URL"),
        partner_secret(core.env, "courier-api"),
        partner_secret(core.env, "courier-webhook"),
    )


def routes(core: Core) -> list[Routes]:
    return [make_routes(Counter(handlers(core), Queue(core.database), courier(core), core.clock))]


def work(core: Core) -> Work:
    # Faust is loaded where the processor is run or checked, not by the API.
    from eventkit.contracts import contracts
    from eventkit.reconcile import Reconciler
    from services.pharmacy.streams.dispatch import PROCESSOR

    own = handlers(core)
    check = Reconciler(PROCESSOR, contracts(), core.settings.kafka, window=RECONCILE_WINDOW)
    return Work(
        jobs=jobs(own, courier(core)),
        views=[Queue(core.database).follow],
        inboxes=policies.inboxes(own),
        periodic={check: RECONCILE_SECONDS},
    )


def run_dispatch() -> None:
    from eventkit.streams import run
    from services.pharmacy.streams.dispatch import PROCESSOR

    run(PROCESSOR)


def reconcile_dispatch() -> int:
    from eventkit.reconcile import reconcile
    from services.pharmacy.streams.dispatch import PROCESSOR

    return reconcile(PROCESSOR)


if __name__ == "__main__":
    main(Service(
        "pharmacy",
        registry,
        routes=routes,
        work=work,
        streams={"dispatch": run_dispatch},
        reconcile={"dispatch": reconcile_dispatch},
        prepare=read_model.prepare,
    ))
