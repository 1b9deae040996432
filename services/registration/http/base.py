"""What the parts of the HTTP face share: the blueprint, and the desk that does the work."""

from __future__ import annotations

from dataclasses import dataclass

from eventkit.audit import Audit, add_readings
from eventkit.core import Core
from eventkit.problems import Catalogue
from eventkit.web import Routes
from services.registration.devices import Devices
from services.registration.directory import Directory
from services.registration.handlers.accounts import Accounts
from services.registration.handlers.booking import Booking
from services.registration.handlers.drafts import Drafts
from services.registration.handlers.erasure import Erasure
from services.registration.handlers.people import People
from services.registration.handlers.preferences import Preferences
from services.registration.handlers.sessions import Sessions
from services.registration.handlers.visits import Visits
from services.registration.handlers.waiting import WaitingLists
from services.registration.links import PhotoLinks
from services.registration.notice import Notice
from services.registration.photos import PhotoFiles
from services.registration.problems import PROBLEMS
from services.registration.read_model import ReadModel
from services.registration.tokens import TokenIssuer


@dataclass(frozen=True, slots=True)
class Desk:
    """All that an operation may need, made once in the process that serves."""

    core: Core
    directory: Directory
    notice: Notice
    issuer: TokenIssuer
    accounts: Accounts
    devices: Devices
    preferences: Preferences
    people: People
    photos: PhotoFiles
    links: PhotoLinks
    sessions: Sessions
    booking: Booking
    drafts: Drafts
    erasure: Erasure
    visits: Visits
    waiting: WaitingLists
    read_model: ReadModel


class RegistrationRoutes(Routes):
    """The blueprint, with the desk that `__main__` puts behind it when the process starts."""

    desk: Desk


routes = RegistrationRoutes(
    "registration",
    Catalogue(PROBLEMS),
    "Accounts and tokens, patients and cards, departments and sessions, and the booking of visits.",
)


def desk() -> Desk:
    return routes.desk


def audit() -> Audit:
    """Called before anything about a patient is answered (§31)."""
    return routes.desk.core.audit


add_readings(routes, audit)
