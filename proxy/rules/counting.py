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


def counted(request: Request, match: Match, identity: Identity, status: int) -> Counted | None:
    """None: nothing. Only what a person was answered well counts: no failure, no HEAD, nothing fetched ahead."""
    rule, tenant = match.route.count, identity.tenant
    if rule is None or tenant is None or not (200 <= status < 300 or status == 304):
        return None
    if request.method == "HEAD" or is_ahead(request):
        return None
    by, unique = rule.by, rule.unique
    value = None if by is None else _value(by, request, match, identity)
    if unique == "user":
        who = identity.user or ""
    else:
        who = "" if unique is None else _value(unique, request, match, identity)
    return Counted(tenant, rule.name, value, who)


def is_ahead(request: Request) -> bool:
    """Whether a browser fetches this before anybody wants to see it."""
    names = request.fields.names()
    if "sec-purpose" not in names and "purpose" not in names and "x-moz" not in names:  # nearly always
        return False
    purposes = map(request.fields.get, ("sec-purpose", "purpose", "x-moz"))
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
