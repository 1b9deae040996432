"""`python -m services.payment api | worker | streams refunds|insurance | reconcile refunds|insurance`"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from environs.exceptions import EnvError

from eventkit.core import Core
from eventkit.main import Service, Work, main
from eventkit.web import Routes
from services.payment.checkout import Checkout
from services.payment.events import registry
from services.payment.handlers import Handlers
from services.payment.http import Parts, routes_for
from services.payment.insurer import InsurerAdapter
from services.payment.jobs import Jobs
from services.payment.policies import inboxes
from services.payment.read_model import ReadModel
from services.payment.wechatpay import WeChatPayAdapter

NOTICES = "/api/payment/notices/wechatpay"
RECONCILE_SECONDS = 300.0
RECONCILE_WINDOW = timedelta(days=60)  # longer than a visit is booked ahead and its prescription lives


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
    key = secret(core, "clients/insurer").read_bytes().strip()
    return InsurerAdapter(core.env.str("FUZHEN_INSURER_URL"), key, core.env.str("FUZHEN_HOSPITAL_CODE", "H1100001"))


def routes(core: Core) -> list[Routes]:
    handlers, wechatpay = Handlers(core), provider(core)
    checkout = Checkout(handlers, wechatpay, core.service("registration"))
    return [routes_for(Parts(handlers, checkout, wechatpay, ReadModel(core.database)))]


def work(core: Core) -> Work:
    # Faust is loaded where processors are run or checked, not by the API.
    from eventkit.contracts import contracts
    from eventkit.reconcile import Reconciler
    from services.payment.streams.insurance import insurance
    from services.payment.streams.refunds import refunds

    handlers, read_model = Handlers(core), ReadModel(core.database)
    return Work(
        jobs=Jobs(handlers, provider(core), insurer(core)).by_name(),
        views=[read_model.project],
        inboxes=inboxes(handlers, read_model),
        periodic={
            Reconciler(processor, contracts(), core.settings.kafka, window=RECONCILE_WINDOW): RECONCILE_SECONDS
            for processor in (refunds, insurance)
        },
    )


def run_refunds() -> None:
    from eventkit.streams import run
    from services.payment.streams.refunds import refunds

    run(refunds)


def run_insurance() -> None:
    from eventkit.streams import run
    from services.payment.streams.insurance import insurance

    run(insurance)


def reconcile_refunds() -> int:
    from eventkit.reconcile import reconcile
    from services.payment.streams.refunds import refunds

    return reconcile(refunds)


def reconcile_insurance() -> int:
    from eventkit.reconcile import reconcile
    from services.payment.streams.insurance import insurance

    return reconcile(insurance)


if __name__ == "__main__":
    main(Service(
        "payment",
        registry,
        routes=routes,
        work=work,
        streams={"refunds": run_refunds, "insurance": run_insurance},
        reconcile={"refunds": reconcile_refunds, "insurance": reconcile_insurance},
        prepare=lambda core: ReadModel(core.database).ensure_indexes(),
    ))
