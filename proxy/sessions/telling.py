"""What is the upstream told about the caller? Header fields that nobody else may send (SPEC 5, 10).

On a fill, whose response others will get, only what those others share: what is not in the key must not influence a
stored response.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol
from urllib.parse import quote

from proxy.policy.cookies import without_reissued
from proxy.policy.identity import CookieSource, Identity, Standing
from proxy.policy.message import Fields, Request, Response
from proxy.policy.route import Scope
from proxy.policy.session import SessionRules

Pairs = tuple[tuple[str, str], ...]

_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%,")
_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")

# Who shares a response of each scope shares these values; None: the request is the caller's alone.
_SHARED: Mapping[Scope | None, frozenset[str]] = {
    None: frozenset({"user", "tenant", "session", "roles", "state"}),
    Scope.USER: frozenset({"user", "tenant", "state"}),
    Scope.ROLE: frozenset({"tenant", "roles", "state"}),
    Scope.TENANT: frozenset({"tenant", "state"}),
    Scope.PUBLIC: frozenset(),
}


class Organisations(Protocol):
    """What is known of organisations."""

    def about(self, identity: Identity, request: Request) -> Mapping[str, str] | None:
        """The fields of this caller's organisation; None: not known now (and asked for in the background)."""


class Signing(Protocol):
    def sign(self, identity: Identity, told: frozenset[str]) -> str: ...


class Telling:
    """Takes out what clients say of themselves under our names, and says it as it is."""

    def __init__(
        self,
        rules: Callable[[], SessionRules],
        organisations: Organisations | None = None,
        signing: Signing | None = None,
        cookie: Callable[[], CookieSource | None] = lambda: None,
    ) -> None:
        self._cookie = cookie
        self._rules = rules
        self._organisations = organisations
        self._signing = signing
        self._known: SessionRules | None = None
        self._ours: frozenset[str] = frozenset()

    @property
    def on(self) -> bool:
        return bool(self._names())

    def stripped(self, request: Request) -> Request:
        """The request without fields under our names, or under names that some servers take for ours."""
        ours = self._names()
        if not ours:
            return request
        names = request.fields.names()
        forged = [name for name in names if name in ours or ("_" in name and name.replace("_", "-") in ours)]
        return request.with_fields(request.fields.without(forged)) if forged else request

    def fields(self, identity: Identity | None, request: Request, scope: Scope | None = None) -> Pairs:
        """What goes along with this request; `scope`: of those who will get its response."""
        rules = self._rules()
        if identity is None or not self._names():
            return ()
        told = _SHARED[scope]
        known = self._organisations.about(identity, request) if self._organisations is not None else {}
        pairs = [
            (name, value)
            for name, what in rules.headers
            if what in told and (value := _value(what, identity, known is not None)) is not None
        ]
        if known and "tenant" in told:
            pairs += known.items()
        if rules.assertion is not None and self._signing is not None and told:
            pairs.append((rules.assertion, self._signing.sign(identity, told)))
        return tuple(pairs)

    def storable(self, response: Response) -> Response:
        """The response without what is its client's alone."""
        return without_reissued(response, self._cookie())

    def _names(self) -> frozenset[str]:
        rules = self._rules()
        if rules is not self._known:
            self._known = rules
            mapped = [name for name, _ in rules.headers] + [name for name, _ in rules.enrich_headers]
            self._ours = frozenset(name.lower() for name in (*mapped, *filter(None, (rules.assertion,))))
        return self._ours


class TellsNothing:
    """The upstream is told nothing, and what clients say passes."""

    on = False

    def stripped(self, request: Request) -> Request:
        return request

    def fields(self, identity: Identity | None, request: Request, scope: Scope | None = None) -> Pairs:
        return ()

    def storable(self, response: Response) -> Response:
        return response


def onward(fields: Fields, pairs: Pairs) -> Fields:
    return fields.plus(*pairs) if pairs else fields


def plain(value: object) -> str | None:
    """A value of a JSON document as a field may carry it: a text, a number or a truth value, percent-encoded."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        return None
    encoded = quote(value, safe=_SAFE + " ,", errors="replace").strip(" ")
    return encoded if _VALUE.fullmatch(encoded) is not None else None


def _value(what: str, identity: Identity, is_known: bool) -> str | None:
    if what == "user":
        return _text(identity.user)
    if what == "tenant":
        return identity.tenant
    if what == "session":
        return _text(identity.presented.session if identity.presented is not None else None)
    if what == "state":
        return "full" if is_known and identity.standing is Standing.GOOD else "degraded"
    if identity.roles is None or identity.standing is not Standing.GOOD:
        return None  # what an older credential says of roles is over
    return ",".join(_encoded(sorted(identity.roles)))


def _encoded(roles: list[str]) -> Iterator[str]:
    return (quote(role, safe=_SAFE, errors="replace") for role in roles)


def _text(value: str | None) -> str | None:
    return None if value is None else quote(value, safe=_SAFE + ",", errors="replace")
