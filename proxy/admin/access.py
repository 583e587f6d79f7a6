"""Who may do what on the admin port? A token says so; without one only this machine does, and only in development.

Four questions, in this order, and no request is looked at before all are answered:

    address   is the peer on the allow-list, where there is one?                         403
    page      does a browser ask on behalf of another page (a foreign Origin)?           403
    person    whose token is it, or whose session (the dashboard's cookie)? A change     401
              that a cookie speaks for must come from our own page                       403
              None, in development on loopback: this machine's, if it asks for this
              port by its address (a name may have been made to resolve to it: DNS
              rebinding)                                                                 403
    role      may they do this?                                                          403
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import urlsplit

from proxy.addresses import Address
from proxy.credentials import AdminEntry

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Role(StrEnum):
    """What somebody may do. Each of the first three includes those before it; a backend is none of them."""

    VIEWER = "viewer"  # look at figures and decisions
    OPERATOR = "operator"  # purge, switch off, reload
    INSPECTOR = "inspector"  # see keys, entries and the audit log
    BACKEND = "backend"  # keep values, tell of changes


_RANKS = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.INSPECTOR: 2}
_LONGEST_TOKEN = 512


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `role` None: this machine in development, which may do everything."""

    name: str
    role: Role | None = None
    tenant: str | None = None  # the only one they may see and change
    peer: str = ""

    def may(self, *needed: Role) -> bool:
        """Whether they may do what any one of these roles may."""
        if self.role is None:
            return True
        own = _RANKS.get(self.role)
        return any(role is self.role or (own is not None and role in _RANKS and _RANKS[role] <= own) for role in needed)


NOBODY = Actor("nobody", Role.VIEWER)  # of whom nothing is known; it may only what needs no role


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request is refused, in words for who sent it."""

    status: int
    detail: str
    actor: Actor | None = None  # where it is known who it was


@dataclass(frozen=True, slots=True)
class Asking:
    """What of a request says who asks."""

    peer: str
    host: str | None
    origin: str | None
    authorization: str | None
    session: str | None = None  # of the dashboard's cookie
    changes: bool = False  # by its method


class Gate:
    """Judges requests to one admin port. `lenient`: loopback needs no token (development)."""

    def __init__(
        self,
        tokens: tuple[AdminEntry, ...] = (),
        *,
        lenient: bool = False,
        listens_on_loopback: bool = True,
        allowed: tuple[Network, ...] = (),
        session: Callable[[str], Actor | None] = lambda _: None,
    ) -> None:
        self._tokens = tokens
        self._lenient = lenient and listens_on_loopback
        self._inside = listens_on_loopback
        self._allowed = allowed
        self._session = session

    def judge(self, asking: Asking, needed: tuple[Role, ...], *, harmless: bool = False) -> Actor | Denied:
        """Who asks, if they may do what one of these roles may. None needed: anybody who may reach the port.

        `harmless`: what is asked for is the same for everybody and tells nothing, whatever the port is called.
        """
        if not self._is_allowed(asking.peer):
            return Denied(403, "This address is not in SIDECACHE_ALLOWED_IPS.")
        if asking.origin is not None and not _is_own(asking.origin, asking.host):
            return Denied(403, "Another page's requests are not answered here (Origin).")
        found = self._person(asking, needed, harmless=harmless and not self._lenient)
        if isinstance(found, Actor) and needed and not found.may(*needed):
            return Denied(403, f"This needs the role {' or '.join(needed)}; {found.name} is {found.role}.", found)
        return found

    def _person(self, asking: Asking, needed: tuple[Role, ...], *, harmless: bool) -> Actor | Denied:
        if asking.authorization is not None:
            holder = self.holder(asking.authorization, asking.peer)
            if needed or isinstance(holder, Actor):
                return holder
            # what is open to everybody is open to whoever sends a portal's token along
        if asking.session is not None and (logged_in := self._session(asking.session)) is not None:
            if asking.changes and asking.origin is None:
                return Denied(403, "A change by a cookie must say which page it comes from (Origin).", logged_in)
            return replace(logged_in, peer=asking.peer)
        if (self._inside or needed) and not harmless and not _names_loopback(asking.host):
            # without a token the address is all that shows who is meant
            return Denied(403 if self._inside else 401, _BY_ADDRESS if self._inside else _TOKEN_NEEDED)
        if self._lenient and _is_loopback(asking.peer):
            return Actor("local", None, None, asking.peer)
        if not needed:
            return Actor(NOBODY.name, NOBODY.role, None, asking.peer)
        return Denied(401, _TOKEN_NEEDED if self._tokens else _NO_TOKENS)

    def holder(self, authorization: str, peer: str) -> Actor | Denied:
        """Whose token these words of an Authorization field hold."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token.strip()) <= _LONGEST_TOKEN:
            return Denied(401, "Authorization must be: Bearer, a space, and the token.")
        shown = sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for entry in self._tokens:  # all of them, so that the time tells nothing
            if compare_digest(entry.digest, shown):
                found = entry
        if found is None:
            return Denied(401, "This token is not known here.")
        return Actor(found.name, Role(found.role), found.tenant, peer)

    def _is_allowed(self, peer: str) -> bool:
        if not self._allowed:
            return True
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allowed)


_BY_ADDRESS = "Ask for this port by its address, or with a token."
_TOKEN_NEEDED = "A token is needed: Authorization: Bearer ... (commands send SIDECACHE_TOKEN)."
_NO_TOKENS = (
    "A token is needed and none is known here: `sidecache keygen --admin NAME ROLE` makes one for "
    "SIDECACHE_ADMIN_TOKENS."
)


def _names_loopback(host: str | None) -> bool:
    """No Host at all is HTTP/1.0's way, and no browser's."""
    return host is None or ("@" not in host and _has_loopback(f"//{host}"))


def _has_loopback(url: str) -> bool:
    try:
        return _is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    return Address(host, 0).loopback


def _is_own(origin: str, host: str | None) -> bool:
    """Whether this is the origin of the very port that is asked: the same host and port."""
    scheme, _, authority = origin.partition("://")
    return scheme in ("http", "https") and host is not None and authority.lower() == host.lower()
