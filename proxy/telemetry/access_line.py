"""What does the access log say of one request? Enough to decide it again under other rules (`sidecache plan --replay`).

What clients send stands in it as a keyed hash wherever it could be a secret or personal: values of the query and of
header fields, the user, the roles. Equal values have equal hashes; without the name key nobody can try them out.
Credentials are no part of it, not even so.
"""

import re
from collections.abc import Iterator
from typing import Any

from proxy.policy.identity import Identity
from proxy.policy.key import Keyring
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome
from proxy.policy.variant import NEUTRAL_HEADERS, normalised

HASHED = 12  # characters of a hash: 72 bits

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-\[\]]{0,39}")
_MOST_FIELDS = 16
_MOST_PARAMETERS = 64


def access_line(
    request: Request, outcome: Outcome, status: int, seconds: float, who: Identity | None, keys: Keyring
) -> dict[str, Any]:
    """The fields of the line `request`. `who` is asking, as far as it was verified."""
    line: dict[str, Any] = {
        "method": request.method, "path": request.path, "status": status, "cache": outcome.cache_status(),
        "reason": outcome.reason.value, "feature": outcome.feature,
        "tenant": outcome.tenant or (who.tenant if who is not None else None), "ms": round(seconds * 1e3, 2),
    }  # fmt: skip
    if request.query:
        line["query"] = "&".join(_parameters(request.query, keys))
    if who is not None:
        for name, value in (("user", who.user), ("roles", who.roles)):
            if value is not None:
                line[name] = _hash(keys, name, *([value] if isinstance(value, str) else sorted(value)))
    fields = dict(_fields(request, keys))
    if fields:
        line["fields"] = fields
    if host := request.fields.get("host"):
        line["host"] = host
    if request.method in ("POST", "QUERY") and outcome.key is not None:
        line["body"] = _hash(keys, "body", outcome.key)  # the key was made from it
    return line


def _parameters(query: str, keys: Keyring) -> Iterator[str]:
    for pair in query.split("&")[:_MOST_PARAMETERS]:
        name, equals, value = pair.partition("=")
        # what has no value may be one
        if not equals or _NAME.fullmatch(name) is None:
            yield f"~{_hash(keys, 'parameter', pair)}"
        else:
            yield f"{name}={_hash(keys, 'value', value)}"


def _fields(request: Request, keys: Keyring) -> Iterator[tuple[str, str]]:
    """The fields that may split a key, and the language, which rules may list under `vary`."""
    names = [name for name in request.fields.names() if name not in NEUTRAL_HEADERS and not name.startswith("sec-")]
    for name in [*names[:_MOST_FIELDS], "accept-language"]:
        value = normalised(name, request.fields) if name == "accept-language" else request.fields.get(name)
        if value and name in request.fields:
            yield name, _hash(keys, "field", value)


def _hash(keys: Keyring, *parts: str) -> str:
    return keys.digest("access-log", *parts)[:HASHED]
