"""How is one value of rules.yaml written? Durations, sizes, names and references, each with its JSON Schema."""

import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

RESERVED_NAMES = frozenset({"events", "metrics", "uniques", "epochs", "leases", "org-profile", "list"})
MAX_NAME = 32
# What streams say of themselves, and what browsers call their own events.
RESERVED_EVENTS = frozenset(
    (
        "open message error hello drain overflow unavailable metrics session.revoked session.expired session.changed"
    ).split()
)
MAX_EVENT = 64

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})(ms|s|m|h|d)")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,8})(B|KiB|MiB|GiB)")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_SOURCE = re.compile(r"(jwt|header|path)\.[!-~]{1,200}")
_PERMISSION = re.compile(r"[!-~]{1,128}")
_REFERENCE = re.compile(r"(path|query|jwt|request|response)\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_AUDIENCE = re.compile(r"tenant|role:[!-~]{1,128}|user:(path|query|jwt|request|response)\.[A-Za-z0-9_.-]+")
_ASSERT = re.compile(r"response\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)* == (tenant|user)")
_EVENT = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")
MAX_SECONDS = 365 * 86400


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("value", "{message}", {"message": message})


def seconds(value: object) -> float:
    """`15m` -> 900.0"""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong("is not a duration such as 30s, 15m, 1h")
    duration = int(found[1]) * _SECONDS[found[2]]
    if duration > MAX_SECONDS:
        raise _wrong("is longer than 365d")
    return float(duration)


def duration_text(duration: float) -> str:
    """900.0 -> `15m`"""
    units = [(unit, size) for unit, size in _SECONDS.items() if size >= 1 and duration and duration % size == 0]
    unit, size = units[-1] if units else ("s", 1)
    return f"{duration / size:g}{unit}"


def _ttl(value: object) -> float | None:
    if value == "origin":
        return None
    try:
        return seconds(value)
    except PydanticCustomError:
        raise _wrong("is not a duration such as 30s, 15m, 1h, nor 'origin'") from None


def size(value: object) -> int:
    """`64KiB` -> 65536"""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong("is not a size such as 512B, 64KiB, 1MiB")
    return int(found[1]) * _BYTES[found[2]]


def _text(pattern: re.Pattern[str], what: str, *, limit: int = 256) -> PlainValidator:
    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > limit or pattern.fullmatch(value) is None:
            raise _wrong(f"is not {what}")
        return value

    return PlainValidator(check)


def _name(value: object) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise _wrong("is not a kebab-case name such as company-profiles")
    if len(value) > MAX_NAME:
        raise _wrong(f"is longer than {MAX_NAME} characters")
    if value in RESERVED_NAMES:
        raise _wrong("is reserved: sidecache keeps its own data under this name")
    return value


def _event_name(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_EVENT or _EVENT.fullmatch(value) is None:
        raise _wrong("is not an event name such as application.submitted")
    if value in RESERVED_EVENTS:
        raise _wrong("is reserved: streams tell something else by this name")
    return value


def _status(value: object) -> str:
    if not isinstance(value, str) or re.fullmatch("[45][0-9][0-9]", value) is None:
        raise _wrong("is not a status from 400 to 599")
    if value in {"401", "403", "407", "429"}:
        raise _wrong("says something about the caller, not about the resource: it is never stored")
    return value


def _schema(kind: str = "string", **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


_TIME_PATTERN = f"^{_DURATION.pattern}$"
Duration = Annotated[
    float, PlainValidator(seconds), _schema(pattern=_TIME_PATTERN, examples=["0s", "30s", "15m", "1h", "2d"])
]
Ttl = Annotated[
    float | None,
    PlainValidator(_ttl),
    _schema(pattern=f"^(origin|{_DURATION.pattern})$", examples=["30s", "5m", "15m", "1h", "origin"]),
]
Size = Annotated[
    int, PlainValidator(size), _schema(pattern=f"^{_SIZE.pattern}$", examples=["1KiB", "64KiB", "1MiB", "64MiB"])
]
Name = Annotated[
    str, PlainValidator(_name), _schema(pattern=f"^{_NAME.pattern}$", maxLength=MAX_NAME, examples=["company-profiles"])
]
Status = Annotated[str, PlainValidator(_status), _schema(pattern="^[45][0-9][0-9]$")]
Header = Annotated[
    str,
    _text(_HEADER, "a header name such as accept-language"),
    _schema(pattern=f"^{_HEADER.pattern}$", examples=["accept-language"]),
]
Parameter = Annotated[
    str,
    _text(re.compile(r"[^&=#?*\s]{1,128}"), "a query parameter's name, such as page"),
    _schema(examples=["page"]),
]
IgnoredParameter = Annotated[
    str,
    _text(
        re.compile(r"[^&=#?*\[\]\s]{1,127}\*?"), "a query parameter's name, such as gclid, or a prefix such as utm_*"
    ),
    _schema(examples=["gclid", "utm_*"]),
]
CookieName = Annotated[
    str,
    _text(re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}"), "a cookie's name such as __session"),
    _schema(examples=["__session", "appSession"]),
]
Permission = Annotated[
    str,
    _text(_PERMISSION, "a permission such as read:applications"),
    _schema(examples=["read:applications"]),
]
Source = Annotated[
    str,
    _text(_SOURCE, "jwt.<claim>, header.<name> or path.<parameter>"),
    _schema(pattern=f"^{_SOURCE.pattern}$", examples=["jwt.org_id", "header.x-org-id", "path.org-id"]),
]
Reference = Annotated[
    str,
    _text(_REFERENCE, "a reference such as path.job-id, jwt.sub or response.id"),
    _schema(pattern=f"^{_REFERENCE.pattern}$", examples=["path.job-id", "response.id", "jwt.sub"]),
]
Audience = Annotated[
    str,
    _text(_AUDIENCE, "tenant, role:<permission> or user:<reference>"),
    _schema(pattern=f"^({_AUDIENCE.pattern})$", examples=["tenant", "role:read:applications", "user:path.user-id"]),
]
Comparison = Annotated[
    str,
    _text(_ASSERT, "a comparison such as response.org_id == tenant"),
    _schema(pattern=f"^{_ASSERT.pattern}$", examples=["response.org_id == tenant"]),
]
EventName = Annotated[
    str,
    PlainValidator(_event_name),
    _schema(pattern=f"^{_EVENT.pattern}$", maxLength=MAX_EVENT, examples=["application.submitted"]),
]
RouteText = Annotated[
    str,
    _schema(
        pattern=r"^[A-Z]+(\|[A-Z]+)* /\S*$",
        examples=["GET /api/jobs", "GET /api/jobs/{job-id}", "PUT|PATCH|DELETE /api/jobs/{job-id}", "GET /api/**"],
    ),
]
Tag = Annotated[str, _schema(examples=["search", "jobs:{job-id}", "jobs:list"])]
Dimension = Annotated[str, _schema(examples=["job-id", "query.q", "jwt.plan"])]
Distinct = Annotated[str, _schema(examples=["user", "path.job-id"])]
FieldValue = Annotated[
    str,
    _text(re.compile(r"[ -~]{1,200}"), "a header value in printable ASCII"),
    _schema(examples=["private, max-age=60"]),
]
DottedPath = Annotated[
    str,
    _text(re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"), "a dotted path into a JSON document, such as plan.name"),
    _schema(examples=["name", "plan.name"]),
]
