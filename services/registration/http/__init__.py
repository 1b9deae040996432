"""The HTTP face: parse → command → answer. One blueprint, a module a part of it."""

from services.registration.http import catalog, drafts, entrances, internal, login, people, preferences, visits, waiting
from services.registration.http.base import Desk, routes

__all__ = [
    "Desk", "catalog", "drafts", "entrances", "internal", "login", "people", "preferences", "routes", "visits",
    "waiting",
]
