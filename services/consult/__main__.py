"""`python -m services.consult api | worker`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from types import FrameType

from eventkit.core import Core
from eventkit.erasure import erasing
from eventkit.main import Service, Work, main
from eventkit.web import Routes
from services.consult import fhir, live
from services.consult.events import registry
from services.consult.handlers import Handlers
from services.consult.http import routes_for
from services.consult.jobs import jobs
from services.consult.livekit import LiveKit
from services.consult.policies import GROUP, inboxes
from services.consult.read_model import Consults


def web(core: Core) -> Sequence[Routes]:
    routes = routes_for(core)
    _close_when_stopping(routes.desk.hub)
    return [routes, fhir.make_routes(core.store, core.audit)]


def _close_when_stopping(hub: live.Hub) -> None:
    """gunicorn waits for its threads when it stops, and live connections would keep them to the last second."""
    stop = signal.getsignal(signal.SIGTERM)

    def close(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=hub.close, name="live-close", daemon=True).start()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, close)


def work(core: Core) -> Work:
    handlers = Handlers(core)
    return Work(
        jobs=jobs(handlers, LiveKit.from_env(core.env)),
        views=[Consults(core).view],
        inboxes={GROUP: {**inboxes(handlers)[GROUP], **erasing(core)}},
    )


def prepare(core: Core) -> None:
    Consults(core).ensure_indexes()


SERVICE = Service("consult", registry, routes=web, work=work, prepare=prepare)

if __name__ == "__main__":
    main(SERVICE)
