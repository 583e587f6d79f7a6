"""A report as JSON and as CSV: nothing in a cell is a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.analytics.questions import Question
from proxy.analytics.reports import Report, Row
from proxy.analytics.shown import document, listing, listing_table, table
from proxy.rules.effects import ReportRule

VIEWS = ReportRule("views", "job-id", True, ("GET /jobs/{job-id}", "GET /j/{job-id}"))
AT = 1_767_571_200  # 2026-01-05


def report(*rows: Row, other: int | None = 0, as_of: float = AT + 86400.0, value: str | None = None) -> Report:
    question = Question(VIEWS, "day", AT, AT + 86400, value, 0 if other is None else 100)
    return Report(question, ((AT, 5),), 5, 3, AT, rows, other, as_of)


def test_a_report_as_json():
    assert document(report(Row("77", 5, 3))) == {
        "report": "views", "bucket": "day", "from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z",
        "count": 5, "exact": True, "error": 0.0, "series": [["2026-01-05T00:00:00Z", 5]],
        "unique": {"count": 3, "exact": False, "error": 0.0081, "from": "2026-01-05T00:00:00Z"},
        "by": "job-id", "rows": [{"value": "77", "count": 5, "unique": 3}], "other": 0,
        "as_of": "2026-01-06T00:00:00Z", "partial": False,
    }  # fmt: skip
    one = document(report(other=None, as_of=AT + 10.9, value="77"))
    assert (one["of"], one["as_of"], one["partial"]) == ({"job-id": "77"}, "2026-01-05T00:00:10Z", True)
    assert "rows" not in one


@pytest.mark.parametrize(
    "value",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "  +1",
        "=cmd|' /C calc'!A0",
        "\uff1d1",
        "\u00a0=1",
    ],
)
def test_no_cell_is_a_formula(value):
    (_, (cell, *_)) = csv.reader(io.StringIO(table(report(Row(value, 1, 1))), newline=""))
    assert cell == f"'{value}"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_every_text_stays_one_cell_that_begins_with_no_formula(value):
    lines = list(csv.reader(io.StringIO(table(report(Row(value, 1, None), Row("last", 2, None))), newline="")))
    assert [line[0] for line in lines[2:]] == ["last"]
    assert lines[1][0].removeprefix("'") == value.removeprefix("'")
    assert not lines[1][0].lstrip().startswith(("=", "+", "-", "@"))


def test_which_reports_there_are():
    assert listing([VIEWS]) == {
        "reports": [{"name": "views", "by": "job-id", "unique": True, "counts": list(VIEWS.routes)}]
    }
    assert listing_table([VIEWS, ReportRule("all", None, False, ("GET /",))]) == (
        'name,by,unique,counts\r\nviews,job-id,yes,"GET /jobs/{job-id}, GET /j/{job-id}"\r\nall,,no,GET /\r\n'
    )
