"""python -m services.registration api | worker"""

from __future__ import annotations

from collections.abc import Sequence

from eventkit.calls import Peer
from eventkit.core import Core
from eventkit.deadlines import Again, Row
from eventkit.events import Recorded
from eventkit.main import Service, Work, main
from eventkit.settings import existing_file
from eventkit.store import Request
from eventkit.web import Routes
from services.registration import fhir
from services.registration.devices import Devices, DeviceVerifier
from services.registration.directory import SAMPLE, Directory, read_directory
from services.registration.events import PatientRestricted, registry
from services.registration.handlers.accounts import Accounts
from services.registration.handlers.booking import Booking
from services.registration.handlers.drafts import Drafts
from services.registration.handlers.erasure import Erasure
from services.registration.handlers.messages import Messages
from services.registration.handlers.people import People
from services.registration.handlers.preferences import Preferences
from services.registration.handlers.sessions import Sessions
from services.registration.handlers.visits import Visits
from services.registration.handlers.waiting import WaitingLists
from services.registration.http import Desk
from services.registration.http import routes as http_routes
from services.registration.jobs import jobs
from services.registration.links import PhotoLinks
from services.registration.login import LoginCodes
from services.registration.notice import read_notice
from services.registration.partners import His, Sms, Wechat
from services.registration.photos import PhotoFiles
from services.registration.policies import inboxes
from services.registration.read_model import ReadModel
from services.registration.scanner import Scanner
from services.registration.tokens import Clients, TokenIssuer, read_key


def routes(core: Core) -> Sequence[Routes]:
    env, settings = core.env, core.settings
    issuer = TokenIssuer(read_key(existing_file(env, "FUZHEN_JWT_KEY_FILE")), settings.jwt_issuer)
    devices = Devices(core.database, core.vault)
    core.verifier = DeviceVerifier(issuer, settings.jwt_issuer, devices)
    eligibility = Peer("eligibility", env.str("FUZHEN_ELIGIBILITY_URL"), headers=issuer.headers)
    clients = Clients(existing_file(env, "FUZHEN_CLIENTS_FILE"))
    directory, notice, photos = _directory(core), read_notice(), PhotoFiles(core.database, core.vault)
    people = People(core, His(env), photos, Scanner(env.str("FUZHEN_SCANNER", "")))
    sessions = Sessions(core, directory)
    booking = Booking(core, people, sessions, eligibility, notice)
    http_routes.desk = Desk(
        core=core,
        directory=directory,
        notice=notice,
        issuer=issuer,
        accounts=Accounts(
            core, directory, LoginCodes(core.database, core.vault), devices, issuer, clients, Sms(env)
        ),
        devices=devices,
        preferences=Preferences(core),
        people=people,
        photos=photos,
        links=PhotoLinks(core.vault),
        sessions=sessions,
        booking=booking,
        drafts=Drafts(core, people, booking),
        erasure=Erasure(core, ReadModel(core.database)),
        visits=Visits(core),
        waiting=WaitingLists(core),
        read_model=ReadModel(core.database),
    )
    desk = http_routes.desk
    return [http_routes, fhir.make_routes(desk.visits, desk.sessions, desk.people, core.audit)]


def work(core: Core) -> Work:
    visits = Visits(core)
    messages, read_model = Messages(core, visits, Preferences(core)), ReadModel(core.database)
    erasure = Erasure(core, read_model)

    def erase_patient(row: Row) -> Again | None:
        """§32. Again tomorrow, should a visit have been booked at the very moment of asking."""
        asked = Request(caller="jobs", route=row.job, key=row.id)
        return None if erasure.erase(asked, row.args["patient_id"]) else Again(86400)

    def restrict(recorded: Recorded) -> None:
        if isinstance(recorded.event, PatientRestricted):
            core.audit.restrict(recorded.event.patient_id)

    return Work(
        jobs={
            **jobs(visits, WaitingLists(core), messages, Sms(core.env), Wechat(core.env)),
            "erase_patient": erase_patient,
        },
        views=[read_model.sessions_view, read_model.visits_view, read_model.drafts_view, restrict],
        inboxes=inboxes(visits, messages),
    )


def prepare(core: Core) -> None:
    ReadModel(core.database).ensure_indexes()
    LoginCodes(core.database, core.vault).ensure_indexes()
    Devices(core.database, core.vault).ensure_indexes()


def _directory(core: Core) -> Directory:
    """The hospital's own file where one is named, the sample otherwise."""
    return read_directory(core.env.path("FUZHEN_DIRECTORY_FILE", SAMPLE))


SERVICE = Service("registration", registry, routes=routes, work=work, prepare=prepare)

if __name__ == "__main__":
    main(SERVICE)
