"""Which header fields of a request select another response, and which of their values are the same? (SPEC 4)

Fields that no list names make a variant, as an upstream may answer by any of them; and what a rule or the origin's Vary
names does, by its normalised value (RFC 9111 4.1).
"""

import re
from functools import lru_cache

from proxy.policy.message import Fields, Request
from proxy.policy.route import Route, Scope

# Headers that do not split a key (SPEC 4): negotiation, credentials (the scope speaks for them), tracing, caching and
# conditional fields, and what is hop-by-hop or rewritten on the way. Anything else makes a variant of its own.
NEUTRAL_HEADERS = frozenset(
    """
    accept accept-charset accept-encoding accept-language authorization baggage b3 cache-control cf-connecting-ip cf-ray
    connection content-length content-type cookie date dnt expect fly-request-id from host if-match if-modified-since
    if-none-match if-range if-unmodified-since keep-alive max-forwards pragma priority proxy-authorization
    proxy-connection range referer save-data sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode
    sec-fetch-site sec-fetch-user te trace-id traceparent tracestate trailer transfer-encoding true-client-ip
    uber-trace-id upgrade-insecure-requests user-agent via x-amz-cf-id x-amzn-trace-id x-b3-flags x-b3-parentspanid
    x-b3-sampled x-b3-spanid x-b3-traceid x-cloud-trace-context x-datadog-origin x-datadog-parent-id
    x-datadog-sampling-priority x-datadog-trace-id x-forwarded-for x-forwarded-host x-forwarded-proto forwarded
    x-real-ip x-request-id x-request-start
    """.split()
)
_ROUTING_PREFIXES = ("x-forwarded-", "x-original-", "x-rewrite-", "x-host", "x-http-", "x-url-")
_PEER_HEADERS = ("x-forwarded-host", "x-forwarded-proto", "forwarded")

_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def splitting_headers(route: Route, request: Request, home: str | None) -> list[tuple[str, str]]:
    """Names and values, in order. `home` is the one host name that makes no variant, if there is one."""
    fields = request.fields
    split: list[tuple[str, str]] = []
    if not NEUTRAL_HEADERS.issuperset(fields.names()):
        names = (name for name in fields.names() if makes_variant(name, route))
        split.extend((name, _lines(name, fields)) for name in names)
    host = fields.get("host")
    if home is None and host:
        split.append(("host", host.lower()))
    if request.peer_trusted:
        split.extend((name, _lines(name, fields)) for name in _PEER_HEADERS if name in fields)
    split.extend((name, normalised(name, fields)) for name in route.vary)
    return sorted(set(split))


def makes_variant(name: str, route: Route) -> bool:
    """Whether a request header of this name makes a variant by itself, whatever Vary says."""
    if name in NEUTRAL_HEADERS or name.startswith("sec-") or name in route.ignore_headers:
        return False
    # a plain shared cache (RFC 9111 4.1): the origin's Vary says what selects, but for what frameworks build URLs from
    routes = name.startswith(_ROUTING_PREFIXES) or "_" in name  # which some servers take for `-`
    return routes or route.ttl is not None or route.scope is not Scope.PUBLIC


def _lines(name: str, fields: Fields) -> str:
    # not the combined value: an upstream may read one line of two
    return "\n".join(fields.get_all(name))


def normalised(name: str, fields: Fields) -> str:
    """A selecting value without what cannot matter: the case of ranges, spaces around commas and parameters."""
    value = fields.get(name)
    return "" if value is None else _normal(name, value)


@lru_cache(maxsize=4096)
def _normal(name: str, value: str) -> str:
    if not value:
        return "\n"  # "absent from a request, it can only match another request if it is also absent there" (4.1)
    if '"' in value:
        return value
    if not name.startswith("accept"):
        # "combining multiple header fields with the same field name" and whitespace (RFC 9111 4.1)
        return ",".join(part.strip(" \t") for part in value.split(","))
    members = [part.strip().replace(" ", "").replace("\t", "").lower() for part in value.split(",")]
    return _ranked(members) if name == "accept-language" else ",".join(members)


def _ranked(members: list[str]) -> str:
    """Accept-Language by weight, then by name: the order of equal ones means nothing (RFC 9110 12.5.4)."""
    weights: dict[str, str] = {}
    for member in members:
        language, mark, weight = member.partition(";q=")
        if not language or (mark and _WEIGHT.fullmatch(weight) is None):
            return ",".join(members)
        plain = (weight or "1").rstrip("0").rstrip(".") if "." in weight else weight or "1"
        if weights.setdefault(language, plain) != plain:
            return ",".join(members)
    ordered = sorted(weights.items(), key=lambda pair: (-float(pair[1]), pair[0]))
    return ",".join(language if weight == "1" else f"{language};q={weight}" for language, weight in ordered)
