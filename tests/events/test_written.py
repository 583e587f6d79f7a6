"""The event that a rule makes of one write."""

import json

import pytest

from proxy.events.written import MAX_DATA, repeating_id, written
from proxy.rules.document import Publish
from proxy.rules.references import References
from tests.builders import KEYS, NOW, identity, request, response

ADA = identity(user="ada")
POST = request("/api/jobs/7/applications", method="POST")
CREATED = response(status=201)


def publish(to: str = "tenant", **data: str) -> Publish:
    return Publish.model_validate({"event": "application.submitted", "to": to, "data": data})


def named(answered=None, asked=None, **parameters) -> References:
    return References(parameters, "q=1", {"sub": "ada"}, asked, answered)


def made(rule, references, asked=POST, answered=CREATED):
    return written(rule, asked, answered, references, now=NOW, id="id")


def test_its_data_are_what_the_rule_names():
    rule = publish(job="path.job-id", application="response.id", by="jwt.sub", note="request.note", q="query.q")
    found = made(rule, named({"id": "app_9"}, {"note": "hi"}, **{"job-id": "7"}))
    assert json.loads(found.event.data) == {"job": "7", "application": "app_9", "by": "ada", "note": "hi", "q": "1"}
    assert (found.event.name, found.event.to, found.event.at, found.missing) == (
        "application.submitted", "tenant", NOW, (),
    )  # fmt: skip


def test_what_the_exchange_does_not_have_is_left_out_and_told():
    found = made(publish(application="response.id", at="response.created_at"), named({"id": 9, "created_at": None}))
    assert json.loads(found.event.data) == {"application": 9}
    assert found.missing == ("at",)


@pytest.mark.parametrize("answered", [None, [], "x", 7])
def test_a_response_that_is_no_object_has_nothing(answered):
    assert made(publish(a="response.id"), named(answered)).missing == ("a",)


@pytest.mark.parametrize(
    ("to", "answered", "audience"),
    [
        ("role:read:applications", {}, "role:read:applications"),
        ("user:jwt.sub", {}, "user:ada"),
        ("user:response.owner.id", {"owner": {"id": "u9"}}, "user:u9"),
        ("user:response.owner", {}, None),
        ("user:response.owner", {"owner": ""}, None),
        ("user:response.owner", {"owner": 7}, None),
        ("user:response.owner", {"owner": "x" * 300}, None),
    ],
)
def test_its_audience(to, answered, audience):
    event = made(publish(to), named(answered)).event
    assert (event.to if event is not None else None) == audience


@pytest.mark.parametrize(
    ("location", "ref"),
    [
        ("/api/applications/9", "/api/applications/9"),
        (None, POST.path),
        ("https://elsewhere.test/x", POST.path),
    ],
)
def test_data_that_are_too_large_become_a_reference(location, ref):
    answered = response({"Location": location} if location else {}, status=201)
    found = made(publish(text="response.text"), named({"text": "x" * MAX_DATA}), answered=answered)
    assert found.referred
    assert json.loads(found.event.data) == {"ref": ref}
    assert not made(publish(t="response.text"), named({"text": "x" * (MAX_DATA - 20)}), answered=answered).referred


def id_of(headers=(), status=201, answered=None, user="ada", event="application.submitted", target=POST.target):
    rule = Publish.model_validate({"event": event, "to": "tenant"})
    asked = request(target, headers, method="POST")
    who = identity(user=user)
    return repeating_id(rule, asked, response(status=status), who, named(answered), KEYS.digest)


def test_a_submission_that_is_repeated_is_known_by_its_key_or_by_what_it_made():
    key = {"Idempotency-Key": "k-1"}
    assert id_of(key) == id_of(key, answered={"id": "another"}) is not None
    assert len({id_of(key), id_of({"Idempotency-Key": "k-2"}), id_of(key, user="eve"), id_of(key, event="b.c"),
                id_of(key, target="/api/jobs/8/applications")}) == 5  # fmt: skip
    made = {"id": "app_9"}
    assert id_of(answered=made) == id_of(answered=made, user="eve") is not None
    assert id_of(answered=made) != id_of(answered={"id": "app_8"})


@pytest.mark.parametrize(
    "more",
    [
        {"status": 200, "answered": {"id": "app_9"}},  # changed, perhaps for the second time
        {"answered": None}, {"answered": {"id": None}}, {"answered": {"id": True}}, {"answered": {"id": [1]}},
        {"headers": {"Idempotency-Key": ""}}, {"headers": {"Idempotency-Key": "x" * 300}},
    ],
)  # fmt: skip
def test_nothing_else_tells_a_repetition(more):
    assert id_of(**more) is None
