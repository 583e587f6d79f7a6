"""What is to be counted of one request, by its rule? (SPEC 12) Pure: what becomes of it is analytics' concern."""

import json
from typing import NamedTuple
from urllib.parse import unquote

from proxy.policy.agreement import ABSENT
from proxy.policy.identity import Identity
from proxy.policy.message import Request
from proxy.policy.route import Match
from proxy.rules.references import References


class Counted(NamedTuple):
    """One request, as it is counted. `value`: of what the rule counts by, if it does; `who`: whom it counts once."""

    tenant: str
    name: str
    value: str | None
    who: str


_AHEAD = ("sec-purpose", "purpose", "x-moz")
_made = tuple.__new__  # past the function that a NamedTuple has for it: each hit that is decided anew pays for it


def counted(request: Request, match: Match, identity: Identity, status: int) -> Counted | None:
    """None: nothing. Only what a person was answered well counts: no failure, no HEAD, nothing fetched ahead."""
    rule, tenant = match.route.count, identity.tenant
    if rule is None or tenant is None or not (200 <= status < 300 or status == 304):
        return None
    if request.method == "HEAD" or (not request.fields.has_none(_AHEAD) and is_ahead(request)):
        return None
    if rule.parameter is not None:
        value: str | None = match.parameters.get(rule.parameter, "")
        if value and "%" in value:
            value = unquote(value)
    else:
        value = None if rule.by is None else _value(rule.by, request, match, identity)
    if rule.users:
        who = identity.user or ""
    else:
        who = "" if rule.unique is None else _value(rule.unique, request, match, identity)
    return _made(Counted, (tenant, rule.name, value, who))


def is_ahead(request: Request) -> bool:
    """Whether a browser fetches this before anybody wants to see it."""
    purposes = map(request.fields.get, _AHEAD)
    return any((purpose or "").lower().startswith(("prefetch", "prerender")) for purpose in purposes)


def _value(reference: str, request: Request, match: Match, identity: Identity) -> str:
    """Nothing is the empty text."""
    if reference.startswith("path."):
        raw = match.parameters.get(reference[5:], "")
        return unquote(raw) if "%" in raw else raw
    found = References(match.parameters, request.query, identity.claims).value(reference)
    if found is ABSENT:
        return ""
    return found if isinstance(found, str) else json.dumps(found, sort_keys=True)
