"""python -m services.eligibility api | worker"""

from __future__ import annotations

from collections.abc import Sequence

from eventkit.core import Core
from eventkit.main import Service, Work, main
from eventkit.web import Routes
from services.eligibility.events import registry
from services.eligibility.handlers import Handlers
from services.eligibility.his import His
from services.eligibility.http import routes as http_routes
from services.eligibility.red_flags import read_red_flags


def routes(core: Core) -> Sequence[Routes]:
    http_routes.handlers = Handlers(core, His(core.env), read_red_flags())
    return [http_routes]


SERVICE = Service("eligibility", registry, routes=routes, work=lambda core: Work())

if __name__ == "__main__":
    main(SERVICE)
