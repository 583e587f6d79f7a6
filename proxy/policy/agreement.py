"""Who do the verified token, the headers and the path agree on? (SPEC 5; DESIGN 3.1)

Only a verified claim or a trusted peer's header establishes a tenant. Everything else that names one, a path parameter,
an untrusted header, or a look-alike such as `X_Org_Id`, can only contradict it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.policy.identity import Identity, IdentitySources, Presented
from proxy.policy.message import Fields
from proxy.policy.outcome import Reason

MAX_USER = 256

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ABSENT: Final = object()  # no such claim; None is the JSON null
_NO_FIELDS = Fields()
_LATEST = 1e12  # NaN, infinity and integers that no float holds compare as not below it


def agree(
    sources: IdentitySources,
    *,
    claims: Mapping[str, Any] | None,
    headers: Fields,
    peer_trusted: bool,
    parameters: Mapping[str, str],
) -> Identity | Reason:
    """The caller, or why nobody is known. `claims` are those of a verified token; None means there is no token."""
    establishing: list[object] = []
    contradicting: list[str] = []
    for source in sources.tenant:
        kind, _, name = source.partition(".")
        if kind == "jwt":
            value = claim(claims, name)
            if value is not ABSENT:
                establishing.append(value)
        elif kind == "header":
            own, alike = _header_values(headers, name)
            (establishing if peer_trusted else contradicting).extend(own)
            contradicting.extend(alike)
        elif name in parameters:
            contradicting.append(parameters[name])
    if not establishing:
        return Reason.NO_CREDENTIALS if claims is None else Reason.NO_TENANT
    tenant = establishing[0]
    if any(value != tenant for value in (*establishing, *contradicting)):
        return Reason.TENANT_CONFLICT
    # fullmatch: `$` would accept a trailing newline
    if not isinstance(tenant, str) or _TENANT.fullmatch(tenant) is None:
        return Reason.NO_TENANT
    return Identity(
        tenant=tenant,
        user=_user(_single(sources.user, claims, headers, peer_trusted)),
        roles=_roles(_single(sources.roles, claims, headers, peer_trusted, joined=True)),
        expires=_expires(claims),
        claims=claims if claims is not None else {},
    )


def presented(sources: IdentitySources, claims: Mapping[str, Any], digest: bytes = b"") -> Presented:
    """What these verified claims say that a revocation can name, whether the request agrees with them or not."""
    issued, session = claims.get("iat"), _single(sources.session, claims, _NO_FIELDS, False)
    said = (_single(source, claims, _NO_FIELDS, False) for source in sources.tenant)
    tenant = next((each for each in said if each is not ABSENT), None)
    return Presented(
        user=_user(_single(sources.user, claims, _NO_FIELDS, False)),
        tenant=tenant if isinstance(tenant, str) and _TENANT.fullmatch(tenant) is not None else None,
        session=session if isinstance(session, str) and 0 < len(session) <= MAX_USER else None,
        issued=float(issued) if isinstance(issued, (int, float)) and not isinstance(issued, bool) else None,
        expires=_expires(claims),
        digest=digest,
    )


def claim(claims: Mapping[str, Any] | None, path: str) -> Any:
    """A claim by its literal name (which may hold dots: `https://ns.example/org`), else by a dotted path."""
    if claims is None:
        return ABSENT
    if path in claims:
        return claims[path]
    for dot in reversed([index for index, character in enumerate(path) if character == "."]):
        inner = claims.get(path[:dot])
        if isinstance(inner, Mapping):
            found = claim(inner, path[dot + 1 :])
            if found is not ABSENT:
                return found
    return ABSENT


def _header_values(headers: Fields, name: str) -> tuple[list[str], list[str]]:
    """The values of this field, and those of fields that CGI-like servers would take for it (`_` for `-`)."""
    own = list(_members(headers.get_all(name))) if name in headers else []
    wanted = name.replace("_", "-")
    alike = [other for other in headers.names() if other != name and other.replace("_", "-") == wanted]
    return own, [value for other in alike for value in _members(headers.get_all(other))]


def _members(lines: tuple[str, ...]) -> Iterator[str]:
    return (member.strip(" \t") for line in lines for member in line.split(","))


def _single(
    source: str | None,
    claims: Mapping[str, Any] | None,
    headers: Fields,
    peer_trusted: bool,
    *,
    joined: bool = False,
) -> Any:
    """What one source says. `joined`: the several members of a header are one value, rather than none."""
    kind, _, name = (source or "").partition(".")
    if kind == "jwt":
        return claim(claims, name)
    if kind == "header" and peer_trusted:
        own, alike = _header_values(headers, name)
        # anybody can send a look-alike through the trusted peer: then nothing is known
        return ",".join(own) if not alike and (len(own) == 1 or (own and joined)) else ABSENT
    return ABSENT


def _user(value: object) -> str | None:
    if isinstance(value, str) and 0 < len(value) <= MAX_USER and _CONTROL.search(value) is None:
        return value
    return None


def _roles(value: object) -> frozenset[str] | None:
    """A list of strings, or one string separated by spaces (an OAuth `scope`) or commas (a header)."""
    if isinstance(value, str):
        return frozenset(value.replace(",", " ").split())
    if isinstance(value, (list, tuple)) and all(isinstance(role, str) for role in value):
        return frozenset(value)
    return None


def _expires(claims: Mapping[str, Any] | None) -> float:
    """`exp` as unix seconds. One that is present but no number has passed: such a token never gets a hit."""
    value = (claims or {}).get("exp", ABSENT)
    if value is ABSENT:
        return float("inf")
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LATEST
    return float(value) if known else 0.0
