"""What a report may be asked for: each wrong parameter is named, and each question is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.analytics.questions import LONGEST, MOST_ROWS, SECONDS, Question, Wrong, asked
from proxy.rules.effects import ReportRule

NOW = 1_767_603_754.5  # 2026-01-05T09:02:34.5Z
DAY = 86400
VIEWS = ReportRule("views", "job-id", True, ("GET /jobs/{job-id}",))
WHOLE = ReportRule("whole", None, False, ("GET /all",))


def at(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


@pytest.mark.parametrize(
    ("query", "bucket", "begin", "end"),
    [
        ("", "hour", "2026-01-04T10:00", "2026-01-05T10:00"),
        ("bucket=day", "day", "2025-12-07", "2026-01-06"),
        ("bucket=minute", "minute", "2026-01-05T08:03", "2026-01-05T09:03"),
        ("bucket=hour", "hour", "2026-01-04T10:00", "2026-01-05T10:00"),
        ("from=2026-01-05", "hour", "2026-01-05", "2026-01-05T10:00"),
        ("from=2026-01-01&to=2026-01-03", "hour", "2026-01-01", "2026-01-03"),
        ("from=2026-01-01&to=2026-01-05", "day", "2026-01-01", "2026-01-05"),
        ("from=2026-01-01&to=2026-01-05&bucket=hour", "hour", "2026-01-01", "2026-01-05"),
        ("to=2026-01-03", "hour", "2026-01-02", "2026-01-03"),
        ("from=2026-01-05T07:59:59Z&to=2026-01-05T08:00:01Z", "hour", "2026-01-05T07:00", "2026-01-05T09:00"),
        ("from=2026-01-05T08:30:00%2B01:00&to=2026-01-05T09:00:00Z", "hour", "2026-01-05T07:00", "2026-01-05T09:00"),
        ("from=2026-01-05&to=2026-01-06", "hour", "2026-01-05", "2026-01-06"),  # the rest of today is empty
        ("from=2024-12-01&to=2026-01-05&bucket=day", "day", "2024-12-01", "2026-01-05"),
    ],
)
def test_time_is_rounded_to_whole_buckets_and_has_usual_bounds(query, bucket, begin, end):
    assert asked(query, VIEWS, NOW) == Question(VIEWS, bucket, at(begin), at(end))


@pytest.mark.parametrize(
    ("query", "value", "rows"),
    [
        ("job-id=77", "77", 0),
        ("job-id=", "", 0),
        ("job-id=a%20b%2Bc", "a b+c", 0),
        ("by=job-id", None, 100),
        ("by=job-id&limit=5", None, 5),
        ("by=job-id&bucket=day&limit=1000", None, 1000),
    ],
)
def test_one_value_or_the_first_of_all(query, value, rows):
    question = asked(query, VIEWS, NOW)
    assert isinstance(question, Question)
    assert (question.value, question.rows) == (value, rows)


@pytest.mark.parametrize(
    ("report", "query", "field", "detail"),
    [
        # realistic
        (VIEWS, "by=job", "by", "'job' is not what this report is counted by: write by=job-id"),
        (WHOLE, "by=job-id", "by", "this report is counted as a whole, not by 'job-id'"),
        (WHOLE, "job-id=7", "job-id", "is not known here: this report takes bucket, by, from, limit, to"),
        (VIEWS, "by=job-id&job-id=7", "by", "asks for every job-id, and job-id for one"),
        (VIEWS, "bucket=week", "bucket", "is minute, hour or day"),
        (VIEWS, "by=job-id&bucket=hour", "bucket", "is day for a report with by"),
        (VIEWS, "limit=5", "limit", "bounds the rows of a report with by"),
        (VIEWS, "by=job-id&limit=0", "limit", "is a whole number from 1 to 1000"),
        (VIEWS, "by=job-id&limit=1001", "limit", "is a whole number from 1 to 1000"),
        (VIEWS, "from=yesterday", "from", "is a date such as 2026-01-31"),
        (VIEWS, "from=2026-01-05T09:00:00", "from", "is a date such as 2026-01-31"),  # whose nine o'clock?
        (VIEWS, "to=05.01.2026", "to", "is a date such as 2026-01-31"),
        (VIEWS, "from=2026-01-04&to=2026-01-03", "from", "is not before to"),
        (VIEWS, "from=2026-01-03&to=2026-01-03", "from", "is not before to"),
        (VIEWS, "to=2026-02-01", "to", "lies in the future"),
        (VIEWS, "from=2024-01-01&bucket=day", "from", "is too early: a report by day reaches over 400 days at most"),
        (VIEWS, "from=2025-12-01&bucket=hour", "from", "is too early: a report by hour reaches over 31 days at most"),
        (VIEWS, "from=2025-12-01&by=job-id", "from", "is too early: a report with by reaches over 31 days at most"),
        (VIEWS, "from=2026-01-05&bucket=minute", "from", "is too early: minutes are kept for three hours"),
        (VIEWS, "from=2026-01-04&to=2026-01-04T01:00:00Z&bucket=minute", "from", "is too early: minutes are kept"),
        (VIEWS, "frm=2026-01-04", "frm", "is not known here: this report takes bucket, by, from, job-id, limit, to"),
        (VIEWS, "from=2026-01-04&from=2026-01-03", "from", "is given more than once"),
        # pathological
        (VIEWS, "tenant=org_b", "tenant", "is not known here"),
        (VIEWS, "x" * 500 + "=1", "x" * 60 + "...", "is not known here"),
        (VIEWS, "by=" + "y" * 500, "by", "'" + "y" * 60 + "...' is not what this report is counted by"),
        (VIEWS, "by=job-id&limit=" + "9" * 10_000, "limit", "is a whole number"),
        (VIEWS, "by=job-id&limit=%D9%A3", "limit", "is a whole number"),
        (VIEWS, "by=job-id&limit=-1", "limit", "is a whole number"),
        (VIEWS, "from=0001-01-01", "from", "lies before anything was counted"),
        (VIEWS, "to=9999-12-31", "to", "lies in the future"),
        (VIEWS, "from=9999-12-31T23:59:59-23:59", "from", "lies in the future"),
        (VIEWS, "from=2026-W01-1", "from", "is a date such as 2026-01-31"),
        (VIEWS, "from=%00", "from", "is a date such as 2026-01-31"),
        (VIEWS, "from=2026-01-05T09:00:00Z%0a", "from", "is a date such as 2026-01-31"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(report, query, field, detail):
    wrong = asked(query, report, NOW)
    assert isinstance(wrong, Wrong)
    assert wrong.field == field
    assert wrong.detail.startswith(detail)
    assert len(wrong.detail) < 200


@given(st.text(max_size=80), st.sampled_from(["by", "from", "to", "bucket", "limit", "job-id", "x"]))
def test_any_text_is_a_question_or_a_wrong_parameter(text, name):
    from urllib.parse import quote

    for query in (text, f"{name}={quote(text, errors='replace')}"):
        found = asked(query, VIEWS, NOW)
        if isinstance(found, Question):
            size = SECONDS[found.bucket]
            assert found.begin % size == found.end % size == 0
            assert 0 < found.end - found.begin <= LONGEST[found.bucket] + size
            assert found.rows <= MOST_ROWS
