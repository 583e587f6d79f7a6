"""Under which names are counts kept in the store, and in which stretches of time?

    tenant:{org}:metrics:{name}.{value}.{yyyymmdd}      a hash: requests by hour (UTC) of five days from this one on
    tenant:{org}:metrics:{name}.{value}.{yyyymmddhh}    a hash: requests by minute of the hour
    tenant:{org}:metrics:{name}.=.{yyyymmdd}            a hash: requests of the day by value
    tenant:{org}:uniques:{{name}.{value}}.{yyyymmdd}    a HyperLogLog: who asked

Five days together, as a name and what a server keeps beside it cost as much as a day's numbers; 120 numbers are still
kept in one piece (128 are the least that servers are set to), each hour in one byte.

The braces of the last one are part of the name: they keep the days of one value together in a cluster. A value is
written in letters, digits, `_`, `-` and `%xx`, so that nothing that is counted by can meet the marks `*` (all values
together), `~` (those beyond the cap) and `=`.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

ALL: Final = "*"
OTHER: Final = "~"
_BY_VALUE: Final = "="
MAX_VALUE = 100  # characters as written; longer ones are counted among the others

MINUTE, HOUR, DAY = 60, 3600, 86400
_TOGETHER: Final = 5
DAYS: Final = _TOGETHER * DAY  # whose hours stand in one hash

DAYS_KEPT = 400 * DAY
MINUTES_KEPT = 3 * HOUR
UNIQUES_KEPT = 90 * DAY

_PLAIN = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPED = re.compile(rb"[^A-Za-z0-9_-]")


def written(value: str) -> str:
    """A value as it stands in names; OTHER when it is too long for one."""
    if _PLAIN.fullmatch(value) is None:
        encoded = value[: MAX_VALUE + 1].encode("utf-8", "replace")
        value = _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], encoded).decode("ascii")
    return value if len(value) <= MAX_VALUE else OTHER


def read(text: str) -> str:
    """The value that is written so."""
    return unquote(text)


def by_hour(tenant: str, name: str, value: str, at: float) -> str:
    return f"tenant:{tenant}:metrics:{name}.{value}.{_written_day(int(at) // DAYS * _TOGETHER)}"


def by_minute(tenant: str, name: str, value: str, at: float) -> str:
    return f"tenant:{tenant}:metrics:{name}.{value}.{_day(at)}{int(at) % DAY // HOUR:02}"


def by_value(tenant: str, name: str, at: float) -> str:
    return f"tenant:{tenant}:metrics:{name}.{_BY_VALUE}.{_day(at)}"


def uniques(tenant: str, name: str, value: str, at: float) -> str:
    return f"tenant:{tenant}:uniques:{{{name}.{value}}}.{_day(at)}"


def hour_of(at: float) -> str:
    """The field of its hour. Not padded: a server keeps a whole number up to 127 in two bytes."""
    return str(int(at) % DAYS // HOUR)


def minute_of(at: float) -> str:
    return str(int(at) % HOUR // MINUTE)


def told(at: float) -> str:
    """An instant as reports tell it."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(at: float) -> str:
    return _written_day(int(at) // DAY)


@lru_cache(maxsize=1024)
def _written_day(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y%m%d")
