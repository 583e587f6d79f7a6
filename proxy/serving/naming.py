"""Under which key is a request's response looked up, and under which is it kept? (SPEC 4)

The request and its rule say it alone, but for one thing: which query parameters matter an origin may say in its
response (No-Vary-Search). What it said last of a path is remembered here, for this process. That finds a response; it
does not decide: each is kept under what it says itself, and a key tells by whose word it was made. So whoever finds an
entry has its own word that the parameters left out do not matter.
"""

from collections import OrderedDict

from proxy.policy import search
from proxy.policy.identity import Identity
from proxy.policy.key import Frame, Key, Keyring, derive, frame, plainly
from proxy.policy.message import Request
from proxy.policy.outcome import Reason
from proxy.policy.route import Match, Route
from proxy.policy.search import Variance

MAX_PATHS = 4096
_LONGEST_PATH = 1024

_Place = tuple[bytes, str, str, str]  # route, tenant, host and path: nobody learns from anybody else


class Naming:
    """Makes keys. `home` is the one host name that makes no variant of them, if there is one."""

    def __init__(self, keys: Keyring, home: str | None) -> None:
        self._keys = keys
        self._home = home
        self._said: OrderedDict[_Place, Variance] = OrderedDict()  # the path asked for longest ago first

    def frame(self, match: Match, request: Request, identity: Identity | None) -> Frame | Reason:
        """What all keys of this caller on this route have in common."""
        return frame(match.route, request, identity, self._keys, self._home)

    def key(
        self, match: Match, request: Request, identity: Identity | None, framed: Frame | Reason | None = None
    ) -> Key | Reason:
        """The key to look under, or why there is none."""
        key = derive(match, request, identity, self._keys, self._home, framed=framed)
        if not self._said or isinstance(key, Reason) or not _heeds(match.route, request):
            return key
        place = self._place(key, match.route, request)
        said = self._said.get(place)
        if said is None:
            return key
        self._said.move_to_end(place)
        return derive(match, request, identity, self._keys, self._home, said, framed)

    def hears_origin(self, route: Route) -> bool:
        """Whether the origin has a say in what reads of this route are looked up under."""
        return _hears(route)

    def plain(self, match: Match, path: str, framed: Frame) -> Key:
        """The same for a plain path, on a route whose origin has none."""
        return plainly(match, path, framed, self._keys)

    def kept(self, key: Key, match: Match, request: Request, identity: Identity | None, head: bytes) -> Key:
        """The key for a response with this stored head to the request that was looked up under `key`."""
        variance = search.of_head(head) if _heeds(match.route, request) else None
        if variance == key.search:
            return key
        named = derive(match, request, identity, self._keys, self._home, variance)
        assert isinstance(named, Key), "it had a key before"
        return key._replace(primary=named.primary, request=named.request, search=variance)

    def learn(self, kept: Key, route: Route, request: Request) -> None:
        """A response was stored under this key: later requests of its path are looked up by the same word."""
        if not _heeds(route, request) or len(request.path) > _LONGEST_PATH:
            return
        place = self._place(kept, route, request)
        if kept.search is None:
            self._said.pop(place, None)
            return
        self._said[place] = kept.search
        self._said.move_to_end(place)
        if len(self._said) > MAX_PATHS:
            self._said.popitem(last=False)

    def _place(self, key: Key, route: Route, request: Request) -> _Place:
        host = "" if self._home is not None else (request.fields.get("host") or "").lower()
        return route.digest, key.space, host, request.path


def _heeds(route: Route, request: Request) -> bool:
    """Whether the origin has a say: a rule's own `query` is the operator's, a lifetime of ours not the origin's.

    Never about a query with `;`: where the upstream takes that for a separator, what is left out hides others.
    """
    return _hears(route) and request.method in ("GET", "HEAD") and ";" not in (request.query or "")


def _hears(route: Route) -> bool:
    return route.ttl is None and route.honour and route.query is None
