"""python -m services.pharmacy api | worker | streams dispatch | reconcile dispatch"""

from __future__ import annotations

from environs.exceptions import EnvError

from eventkit.core import Core
from eventkit.erasure import erasing
from eventkit.main import Service, Work, main
from eventkit.signing import partner_secret
from eventkit.web import Routes
from services.pharmacy import catalogue, fhir, policies, read_model
from services.pharmacy.authority import Authority
from services.pharmacy.courier import CourierApi
from services.pharmacy.events import registry
from services.pharmacy.handlers import Handlers
from services.pharmacy.his import Stock
from services.pharmacy.http import Counter, make_routes
from services.pharmacy.jobs import jobs
from services.pharmacy.people import People
from services.pharmacy.read_model import Queue
from services.pharmacy.signatures import Signatures
from services.pharmacy.streams.dispatch import dispatch


def handlers(core: Core) -> Handlers:
    pens = Signatures(core.database, core.vault, authority(core))
    return Handlers(core.store, core.clock, pens, catalogue.drugs(), tuple(catalogue.couriers()))


def authority(core: Core) -> Authority:
    """Raises EnvError when FUZHEN_SECRETS holds none."""
    try:
        return Authority(core.env.path("FUZHEN_SECRETS") / "pharmacy-ca")
    except (OSError, TypeError, ValueError) as error:
        raise EnvError('Environment variable "FUZHEN_SECRETS" names a folder without pharmacy-ca/') from error


def courier(core: Core) -> CourierApi:
    """Raises EnvError naming what is missing."""
    return CourierApi(
        core.env.str("FUZHEN_COURIER_URL"),
        partner_secret(core.env, "courier-api"),
        partner_secret(core.env, "courier-webhook"),
    )


def routes(core: Core) -> list[Routes]:
    stock = Stock(core.env.str("FUZHEN_HIS_URL"), partner_secret(core.env, "his-api"))
    counter = Counter(
        handlers(core),
        Queue(core.database),
        courier(core),
        core.clock,
        stock.of,
        authority(core).pem,
        People(core.service("registration")),
        core.env.str("FUZHEN_PUBLIC_URL"),
        core.audit,
    )
    return [make_routes(counter), fhir.make_routes(counter.handlers, core.audit)]


def work(core: Core) -> Work:
    own = handlers(core)
    return Work(
        jobs=jobs(own, courier(core)),
        views=[Queue(core.database).follow],
        inboxes={policies.GROUP: {**policies.inboxes(own)[policies.GROUP], **erasing(core)}},
    )


SERVICE = Service(
    "pharmacy", registry, routes=routes, work=work, processors=[dispatch], prepare=read_model.prepare
)

if __name__ == "__main__":
    main(SERVICE)
