"""What does a report's reader ask for? A query string becomes a question, or the name of what is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qsl

from proxy.analytics import names
from proxy.rules.effects import ReportRule

Bucket = Literal["minute", "hour", "day"]
SECONDS: Mapping[Bucket, int] = {"minute": names.MINUTE, "hour": names.HOUR, "day": names.DAY}
# How far a question may reach, and how far it does when it does not say.
LONGEST: Mapping[Bucket, int] = {"minute": names.MINUTES_KEPT, "hour": 31 * names.DAY, "day": names.DAYS_KEPT}
USUAL: Mapping[Bucket, int] = {"minute": names.HOUR, "hour": names.DAY, "day": 30 * names.DAY}
LONGEST_BY_VALUE = 31 * names.DAY
MOST_ROWS, USUAL_ROWS = 1000, 100
_SHOWN = 60
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2}))?"
)
_EARLIEST = 0.0
_AHEAD = names.DAY  # a question about tomorrow is one about today's rest


@dataclass(frozen=True, slots=True)
class Question:
    """From `begin` to before `end`, whole buckets. `value`: of this one only; `rows`: so many of all values."""

    report: ReportRule
    bucket: Bucket
    begin: int
    end: int
    value: str | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Wrong:
    """`field` is the parameter to change."""

    field: str
    detail: str


def asked(query: str, report: ReportRule, now: float) -> Question | Wrong:
    """The question that this raw query string stands for."""
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=None)
    given = dict(pairs)
    if len(given) != len(pairs):
        doubled = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        return Wrong(_short(doubled), "is given more than once")
    known = {"by", "from", "to", "bucket", "limit"} | ({report.by} if report.by is not None else set())
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        return Wrong(_short(unknown), f"is not known here: this report takes {', '.join(sorted(known))}")
    by = given.get("by")
    if by is not None and by != report.by:
        return Wrong("by", _not_by(by, report))
    value = given.get(report.by) if report.by is not None else None
    if value is not None and by is not None:
        return Wrong("by", f"asks for every {report.by}, and {report.by} for one: leave one of them out")
    rows = _rows(given, by)
    if isinstance(rows, Wrong):
        return rows
    return _within(given, Question(report, "day", 0, 0, value, rows), now)


def _not_by(by: str, report: ReportRule) -> str:
    if report.by is None:
        return f"this report is counted as a whole, not by {_short(by)!r}"
    return f"{_short(by)!r} is not what this report is counted by: write by={report.by}"


def _rows(given: Mapping[str, str], by: str | None) -> int | Wrong:
    limit = given.get("limit")
    if by is None:
        return 0 if limit is None else Wrong("limit", "bounds the rows of a report with by")
    if limit is None:
        return USUAL_ROWS
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_ROWS):
        return Wrong("limit", f"is a whole number from 1 to {MOST_ROWS}")
    return int(limit)


def _within(given: Mapping[str, str], question: Question, now: float) -> Question | Wrong:
    """The same question with its time."""
    instants: dict[str, int] = {}
    for name in ("from", "to"):
        if name in given:
            instant = _instant(given[name])
            if instant is None:
                return Wrong(name, "is a date such as 2026-01-31, or a time such as 2026-01-31T09:00:00Z")
            if not _EARLIEST <= instant <= now + _AHEAD:
                return Wrong(name, "lies in the future" if instant > now else "lies before anything was counted")
            instants[name] = instant
    bucket = _bucket(given.get("bucket"), instants, question)
    if isinstance(bucket, Wrong):
        return bucket
    size, longest = SECONDS[bucket], LONGEST_BY_VALUE if question.rows else LONGEST[bucket]
    end = -(-instants.get("to", int(now) + 1) // size) * size
    begin = instants.get("from", max(0, end - USUAL[bucket])) // size * size
    if begin >= end:
        return Wrong("from", "is not before to")
    if end - begin > longest + size:
        return Wrong("from", f"is too early: {_why_bounded(question, bucket)}")
    if bucket == "minute" and begin < now - names.MINUTES_KEPT - size:
        return Wrong("from", "is too early: minutes are kept for three hours")
    return Question(question.report, bucket, begin, end, question.value, question.rows)


def _why_bounded(question: Question, bucket: Bucket) -> str:
    days = (LONGEST_BY_VALUE if question.rows else LONGEST[bucket]) // names.DAY
    if question.rows:
        return f"a report with by reaches over {days} days at most"
    return "minutes are kept for three hours" if not days else f"a report by {bucket} reaches over {days} days at most"


def _bucket(text: str | None, instants: Mapping[str, int], question: Question) -> Bucket | Wrong:
    if text is not None and text not in SECONDS:
        return Wrong("bucket", "is minute, hour or day")
    if question.rows:
        return "day" if text in (None, "day") else Wrong("bucket", "is day for a report with by")
    if text is None:
        far = "from" in instants and instants.get("to", instants["from"]) - instants["from"] > 3 * names.DAY
        return "day" if far else "hour"
    return next(bucket for bucket in SECONDS if bucket == text)


def _instant(text: str) -> int | None:
    """Unix seconds. A time without an offset would be anybody's guess; a date is one of UTC."""
    if _INSTANT.fullmatch(text) is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp())
    except (OverflowError, ValueError):
        return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
