"""What a reference of the rules leads to, and what leads nowhere."""

import pytest

from proxy.policy.agreement import ABSENT
from proxy.rules.references import References, reads

HERE = References(
    {"job-id": "a%20b"},
    "page=2&q=c%2B%2B&q=second&flag",
    {"sub": "u1", "https://ns/plan": {"name": "gold"}},
    {"note": "hi", "deep": {"er": [1, 2]}},
    {"id": 7, "nothing": None, "owner": {"id": "u9"}, "ok": False},
)


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("path.job-id", "a b"),
        ("path.other", ABSENT),
        ("query.page", "2"),
        ("query.q", "c++"),
        ("query.flag", ""),
        ("query.none", ABSENT),
        ("jwt.sub", "u1"),
        ("jwt.https://ns/plan.name", "gold"),
        ("jwt.sub.more", ABSENT),
        ("request.note", "hi"),
        ("request.deep.er", [1, 2]),
        ("request.deep.er.0", ABSENT),
        ("response.id", 7),
        ("response.ok", False),
        ("response.owner.id", "u9"),
        ("response.nothing", ABSENT),
        ("response.none.at.all", ABSENT),
    ],
)
def test_a_reference_leads_to(reference, value):
    assert HERE.value(reference) == value


@pytest.mark.parametrize("reference", ["query.q", "jwt.sub", "request.a", "response.a"])
@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_where_there_is_no_object_there_is_nothing(reference, document):
    assert References({}, None, None, document, document).value(reference) is ABSENT


def test_which_parts_of_an_exchange_are_read():
    assert reads(["path.id", "response.id"], "response")
    assert not reads(["path.id", "responses.id"], "response")
    assert not reads([], "request")
