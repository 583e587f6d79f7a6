"""How old is a response already, and for how long is it fresh? (RFC 9111 4.2)"""

from dataclasses import dataclass

from proxy.policy.cache_control import MAX_DELTA, CacheControl
from proxy.policy.fields import list_members, parse_http_date
from proxy.policy.message import Fields, Response

# RFC 9110 15.1, without 206, which is never stored
HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})

_HEURISTIC_FRACTION = 0.1  # "a typical setting of this fraction might be 10%" (RFC 9111 4.2.2)
_HEURISTIC_LIMIT = 86_400.0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """freshness_lifetime in seconds, counted from when the origin generated the response."""

    seconds: float
    heuristic: bool = False


def corrected_initial_age(response: Response, requested_at: float, received_at: float) -> float:
    """The age of a response when it arrived, in seconds (RFC 9111 4.2.3)."""
    apparent = max(0.0, received_at - _date(response.fields, received_at))
    delay = max(0.0, received_at - requested_at)
    return max(apparent, _age_value(response.fields) + delay)


def lifetime(response: Response, control: CacheControl, received_at: float) -> Lifetime | None:
    """Explicit, else heuristic; None when there is no ground for either. `control`: what the origin says of it."""
    explicit = _explicit(response.fields, control, received_at)
    if explicit is not None:
        return Lifetime(explicit)
    return _heuristic(response, control, received_at)


def _explicit(fields: Fields, control: CacheControl, received_at: float) -> float | None:
    """s-maxage, max-age, Expires: the first that is present decides in a shared cache (4.2.1)."""
    if control.s_maxage is not None:
        return float(control.s_maxage)
    if control.max_age is not None:
        return float(control.max_age)
    expires = fields.get("expires")
    if expires is None or control.targeted:
        return None
    moment = parse_http_date(expires)
    # "invalid date formats, especially including the value "0"" are "already expired" (5.3)
    return 0.0 if moment is None else max(0.0, moment - _date(fields, received_at))


def _heuristic(response: Response, control: CacheControl, received_at: float) -> Lifetime | None:
    if response.status not in HEURISTICALLY_CACHEABLE and not control.public:
        return None
    modified = parse_http_date(response.fields.get("last-modified") or "")
    if modified is None:
        return None
    unchanged = max(0.0, _date(response.fields, received_at) - modified)
    return Lifetime(min(unchanged * _HEURISTIC_FRACTION, _HEURISTIC_LIMIT), heuristic=True)


def _date(fields: Fields, received_at: float) -> float:
    moment = parse_http_date(fields.get("date") or "")
    return received_at if moment is None else moment


def _age_value(fields: Fields) -> float:
    value = fields.get("age")
    if value is None:
        return 0.0
    # "SHOULD use the first member ... if the field value is invalid, a cache SHOULD ignore the field" (5.1)
    first = next(iter(list_members(value)), "")
    if not (first.isascii() and first.isdigit()):
        return 0.0
    return float(MAX_DELTA) if len(first) > 15 else float(min(int(first), MAX_DELTA))
