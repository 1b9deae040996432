"""`python -m services.payment api | worker | streams refunds|insurance | reconcile refunds|insurance`"""

from __future__ import annotations

from pathlib import Path

from environs.exceptions import EnvError

from eventkit.core import Core
from eventkit.main import Service, Work, main
from eventkit.signing import partner_secret
from eventkit.web import Routes
from services.payment import fhir
from services.payment.checkout import Checkout
from services.payment.events import registry
from services.payment.handlers import Handlers
from services.payment.http import Parts, routes_for
from services.payment.insurer import InsurerAdapter
from services.payment.jobs import Jobs
from services.payment.policies import inboxes
from services.payment.read_model import ReadModel
from services.payment.statements import Statements
from services.payment.streams.insurance import insurance
from services.payment.streams.refunds import refunds
from services.payment.wechatpay import WeChatPayAdapter

NOTICES = "/api/payment/notices/wechatpay"


def secret(core: Core, name: str) -> Path:
    """Raises EnvError naming what is missing."""
    path: Path = core.env.path("FUZHEN_SECRETS") / name
    if not path.is_file():
        raise EnvError(f"FUZHEN_SECRETS holds no {name}")
    return path


def provider(core: Core) -> WeChatPayAdapter:
    folder = secret(core, "wechatpay/merchant.json").parent
    return WeChatPayAdapter(core.env.str("FUZHEN_WECHATPAY_URL"), folder, core.env.str("FUZHEN_PUBLIC_URL") + NOTICES)


def insurer(core: Core) -> InsurerAdapter:
    key = partner_secret(core.env, "insurer")
    return InsurerAdapter(core.env.str("FUZHEN_INSURER_URL"), key, core.env.str("FUZHEN_HOSPITAL_CODE", "H1100001"))


def routes(core: Core) -> list[Routes]:
    handlers, wechatpay = Handlers(core), provider(core)
    checkout = Checkout(handlers, wechatpay, core.service("registration"))
    read_model = ReadModel(core.database)
    parts = Parts(handlers, checkout, wechatpay, read_model, core.audit)
    return [routes_for(parts), fhir.make_routes(handlers, read_model, core.audit)]


def work(core: Core) -> Work:
    handlers, read_model = Handlers(core), ReadModel(core.database)
    wechatpay, fund = provider(core), insurer(core)
    statements = Statements(handlers, wechatpay, fund, read_model, core.clock)
    return Work(
        jobs=Jobs(handlers, wechatpay, fund).by_name() | statements.by_name(),
        views=[read_model.project],
        inboxes=inboxes(handlers, read_model),
    )


def prepare(core: Core) -> None:
    ReadModel(core.database).ensure_indexes()
    Handlers(core).begin_reconciling()


SERVICE = Service(
    "payment",
    registry,
    routes=routes,
    work=work,
    processors=[refunds, insurance],
    prepare=prepare,
)

if __name__ == "__main__":
    main(SERVICE)
