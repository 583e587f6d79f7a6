"""When a session event has succeeded, and whom a body names. The routes are tried in tests/rules/test_session.py."""

import pytest

from proxy.policy.message import Request
from proxy.policy.session import Change, Ending, SessionRules, succeeded, user_in


@pytest.mark.parametrize(
    ("status", "ending", "change"),
    [(199, False, False), (200, True, True), (299, True, True), (302, True, False), (399, True, False),
     (400, False, False), (500, False, False)],
)  # fmt: skip
def test_a_logout_may_redirect_and_a_change_says_that_it_was_made(status, ending, change):
    assert succeeded(Ending(), status) is ending
    assert succeeded(Change(), status) is change


@pytest.mark.parametrize(
    ("document", "expected"),
    [({"a": {"b": "u1"}}, "u1"), ({"a.b": "u1"}, "u1"), ({"a": {"b": ""}}, None), ({"a": {"b": 1}}, None),
     ({"a": []}, None), ([], None), (None, None), ("a", None)],
)  # fmt: skip
def test_the_user_that_a_body_names(document, expected):
    assert user_in(document, "a.b") == expected


def test_no_rules_are_no_events():
    assert SessionRules().event(Request("POST", "/api/logout")) is None
    assert SessionRules().find("POST", "/api/logout") is None
