"""What a refusal looks like."""

import orjson
import pytest

from proxy.admin.problems import Refused, answer, problem, shown


def test_a_problem_names_status_detail_and_field():
    made = problem(404, "not there", field="key")
    assert orjson.loads(made.body) == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "not there", "field": "key",
    }  # fmt: skip
    assert made.content_type == "application/problem+json"


def test_only_a_401_asks_for_a_token():
    assert "WWW-Authenticate" in problem(401, "x").headers
    assert "WWW-Authenticate" not in problem(403, "x").headers


@pytest.mark.parametrize(
    ("value", "said"),
    [("jobs", "'jobs'"), ("a\nb", "'a\\nb'"), ("é", "'\\xe9'"), ("\u202e", "'\\u202e'"), (3, "3"), (None, "None")],
)
def test_a_value_is_shown_in_ascii_on_one_line(value, said):
    assert shown(value) == said


def test_a_long_value_is_cut():
    assert len(shown("x" * 1000)) < 90


def test_answers_are_kept_by_no_cache_and_sniffed_by_no_browser():
    made = answer({"a": 1}, status=202)
    assert (made.status, made.headers["Cache-Control"], made.headers["X-Content-Type-Options"]) == (
        202, "no-store", "nosniff",
    )  # fmt: skip
    assert Refused("x").status == 400
