"""What do the rules say of sessions: which requests end one or change its rights, and whose?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from proxy.policy.agreement import ABSENT, claim
from proxy.policy.lookup import is_ambiguous_path, methods_meant, plain_path
from proxy.policy.message import Request
from proxy.policy.route import Match

Find = Callable[[str, str], Match | None]


def _nothing(method: str, path: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Ending:
    """A request that, when it succeeds (2xx, 3xx), has ended the caller's session."""


@dataclass(frozen=True, slots=True)
class Change:
    """A request that, when it succeeds (2xx), has changed somebody's rights.

    `user` is what it names; None: somebody's of the caller's organisation. `body_path`: the response's body says whose.
    """

    user: str | None = None
    body_path: str | None = None
    rejects: bool = False


Event = Ending | Change


@dataclass(frozen=True, slots=True)
class Enrichment:
    """The GET that tells of the caller's organisation: its fields for the upstream, and where it says whose it is."""

    path: str
    headers: tuple[tuple[str, str], ...]  # a field, and the dotted path of its value
    every: float = 900.0
    tenant: str = "id"


@dataclass(frozen=True, slots=True, eq=False)
class SessionRules:
    """`session` of the rules. `personal`: features whose answers depend on rights or on who asks."""

    on: bool = False  # the rules speak of sessions
    token_lifetime: float = 86400.0
    events: dict[str, Event] = field(default_factory=dict)  # by Route.where
    find: Find = _nothing
    personal: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # a field for the upstream, and what it says of the caller
    assertion: str | None = None  # the field of the signed assertion
    enrich: Enrichment | None = None

    @property
    def enrich_headers(self) -> tuple[tuple[str, str], ...]:
        return self.enrich.headers if self.enrich is not None else ()

    def event(self, request: Request) -> Event | None:
        """What this request does to a session. A path that servers may read differently is looked at in both ways."""
        if not self.events:
            return None
        path = request.path
        for method in methods_meant(request):
            found = self.find(method, path)
            if found is not None:
                return _meant(self.events[found.route.where], found)
        if path.endswith("/") or is_ambiguous_path(path):
            for method in methods_meant(request):
                found = self.find(method, plain_path(path))
                if found is not None:
                    return _doubtful(self.events[found.route.where])
        return None


def succeeded(event: Event, status: int) -> bool:
    return 200 <= status < (400 if isinstance(event, Ending) else 300)


def user_in(document: Any, path: str) -> str | None:
    """The user that a JSON body names."""
    found = claim(document, path) if isinstance(document, dict) else ABSENT
    return found if isinstance(found, str) and found else None


def _meant(event: Event, match: Match) -> Event:
    if isinstance(event, Change) and event.user is not None:
        raw = match.parameters.get(event.user, "")
        return Change(_decoded(raw), event.body_path, event.rejects)
    return event


def _doubtful(event: Event) -> Event:
    """Whose rights a path names is not certain where it can be read in two ways: somebody's."""
    return Change(None, None, event.rejects) if isinstance(event, Change) else event


def _decoded(raw: str) -> str | None:
    try:
        return unquote(raw.encode("latin-1").decode("utf-8"), errors="strict") or None
    except UnicodeError:
        return None
