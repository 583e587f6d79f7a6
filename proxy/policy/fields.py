"""How are header fields read? Lists, dates, and what belongs to one connection only (RFC 9110 5.6, 7.6.1)."""

import re
from collections.abc import Container
from datetime import UTC, datetime
from functools import lru_cache

from proxy.policy.message import Fields

# What one connection's two ends tell each other (RFC 9110 7.6.1). Proxy-* are for the next proxy only (11.7); Trailer
# goes because trailers are dropped, HTTP2-Settings because HTTP/1.1 is all that is spoken here.
HOP_BY_HOP = frozenset(
    """
    connection http2-settings keep-alive proxy-authenticate proxy-authentication-info proxy-authorization
    proxy-connection te trailer transfer-encoding upgrade
    """.split()
)

# "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients" (7.6.1):
# removing one of these on a client's word would change who asks, for what, or where the message ends.
_PROTECTED = frozenset(
    """
    accept authorization cache-control content-encoding content-length content-type cookie date expect forwarded host
    if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma range set-cookie traceparent
    vary via x-forwarded-for x-forwarded-host x-forwarded-proto x-org-id x-portal-assertion x-roles x-session-id
    x-session-state x-tenant x-tenant-id x-user-id
    """.split()
)

_NOMINATES_NOTHING = frozenset({"keep-alive", "close", "upgrade"})

_LONGEST_CONNECTION = 1024

_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+')


def list_members(value: str) -> list[str]:
    """The members of a comma-separated list, quoted strings kept whole, empty members left out (RFC 9110 5.6.1)."""
    members = value.split(",") if '"' not in value else _MEMBER.findall(value)
    return [stripped for member in members if (stripped := member.strip(" \t"))]


def end_to_end(fields: Fields) -> Fields:
    """The fields for the other side: without the hop-by-hop ones and those that Connection nominates."""
    return fields.without(for_this_side(fields))


def for_this_side(fields: Fields) -> frozenset[str]:
    """The names, in lower case, of fields that end here: the hop-by-hop ones and those that Connection nominates."""
    nominated = _nominated(fields)
    return HOP_BY_HOP.union(nominated) if nominated else HOP_BY_HOP


def for_the_other_side(fields: Fields) -> Fields:
    """The fields as far as the other side gets to see them, which nothing here may then be decided by either.

    Otherwise `Connection: x-theme` would have the answer without X-Theme stored as the one with it. What belongs to the
    connection itself is left in: it is decided about, and goes later.
    """
    nominated = {name for name in _nominated(fields) if name not in HOP_BY_HOP and name in fields}
    return fields.without(nominated) if nominated else fields


def protected_nomination(fields: Fields, identity_headers: Container[str] = ()) -> bool:
    """Whether Connection names a field that must arrive: the request is then refused.

    `identity_headers` are the further names that the rules read a caller from, in lower case.
    """
    # an endless list takes longer to read than it can be worth
    too_long = len(fields.get("connection") or "") > _LONGEST_CONNECTION
    return too_long or any(name in _PROTECTED or name in identity_headers for name in _nominated(fields))


def _nominated(fields: Fields) -> list[str]:
    value = fields.get("connection")
    if value is None or value.lower() in _NOMINATES_NOTHING:
        return []
    return [name.lower() for name in list_members(value)]


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower(): number for number, name in enumerate(_MONTHS, start=1)}
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# "SHOULD consider a date with a zone abbreviation other than "GMT" to be invalid" (RFC 9111 4.2): UTC, or none, too
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"[A-Z]{{3}}, (?P<day>[0-9]{{2}}) (?P<month>[A-Z]{{3}}) (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"[A-Z]{{6,9}}, (?P<day>[0-9]{{2}})-(?P<month>[A-Z]{{3}})-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        rf"[A-Z]{{3}} (?P<month>[A-Z]{{3}}) (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
]


_LONGEST_DATE = 40


def parse_http_date(value: str) -> float | None:
    """Unix seconds of a date in any of the three formats (RFC 9110 5.6.7); None for anything else."""
    return _parsed_date(value) if len(value) <= _LONGEST_DATE else None  # what is longer is not remembered either


@lru_cache(maxsize=1024)
def _parsed_date(value: str) -> float | None:
    found = next((match for pattern in _DATES if (match := pattern.fullmatch(value))), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        # "more than 50 years in the future" means the past (5.6.7); a fixed turn at 70 keeps this free of a clock
        year += 1900 if year >= 70 else 2000
    second = min(int(found["second"]), 59) if found["second"] == "60" else int(found["second"])  # a leap second
    try:
        moment = datetime(
            year, _MONTH[found["month"].lower()], int(found["day"]), int(found["hour"]), int(found["minute"]), second
        )
    except (KeyError, ValueError):
        return None
    return moment.replace(tzinfo=UTC).timestamp()


def format_http_date(seconds: float) -> str:
    """The IMF-fixdate of a unix time, to the whole second below."""
    return _format(int(seconds // 1))


@lru_cache(maxsize=64)
def _format(seconds: int) -> str:
    # not strftime: it speaks the locale's language
    moment = datetime.fromtimestamp(seconds, UTC)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment.year:04} {moment:%H:%M:%S} GMT"
