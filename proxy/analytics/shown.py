"""How does a report look? JSON for programs, CSV for spreadsheets."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from proxy.analytics import names
from proxy.analytics.reports import ERROR, Report
from proxy.rules.effects import ReportRule

# What a spreadsheet would take for a formula (OWASP, CSV injection); behind white space, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def document(report: Report) -> dict[str, Any]:
    question = report.question
    shown: dict[str, Any] = {"report": question.report.name}
    if question.value is not None and question.report.by is not None:
        shown["of"] = {question.report.by: question.value}
    shown |= {
        "bucket": question.bucket, "from": names.told(question.begin), "to": names.told(question.end),
        "count": report.count, "exact": not report.other, "error": 0.0,
        "series": [[names.told(begin), count] for begin, count in report.series],
    }  # fmt: skip
    if report.unique is not None:
        shown["unique"] = {
            "count": report.unique, "exact": False, "error": ERROR, "from": names.told(report.unique_from),
        }  # fmt: skip
    if report.other is not None:
        shown["by"] = question.report.by
        shown["rows"] = [
            {"value": row.value, "count": row.count, **({} if row.unique is None else {"unique": row.unique})}
            for row in report.rows
        ]
        shown["other"] = report.other
    return shown | {"as_of": names.told(report.as_of), "partial": report.partial}


def table(report: Report) -> str:
    """The series, or the rows where there are some."""
    if report.other is None:
        lines: list[list[object]] = [["time", "count"]]
        lines += [[names.told(begin), count] for begin, count in report.series]
        return _csv(lines)
    unique = report.question.report.unique
    lines = [[report.question.report.by, "count", *(["unique"] if unique else [])]]
    lines += [[row.value, row.count, *([row.unique] if unique else [])] for row in report.rows]
    if report.other:
        lines.append(["(other)", report.other, *([""] if unique else [])])
    return _csv(lines)


def listing(reports: Iterable[ReportRule]) -> dict[str, Any]:
    return {
        "reports": [
            {"name": each.name, "by": each.by, "unique": each.unique, "counts": list(each.routes)} for each in reports
        ]
    }


def listing_table(reports: Iterable[ReportRule]) -> str:
    lines: list[list[object]] = [["name", "by", "unique", "counts"]]
    lines += [[each.name, each.by or "", "yes" if each.unique else "no", ", ".join(each.routes)] for each in reports]
    return _csv(lines)


def _csv(lines: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows([_cell(each) for each in line] for line in lines)
    return out.getvalue()


def _cell(value: object) -> object:
    """Text that a spreadsheet takes for text, whatever it begins with."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.lstrip(" \u00a0").startswith(_FORMULA) else value
