"""The access log's line: enough to decide the request again, and nothing that is secret."""

import json

import pytest

from proxy.policy.identity import Identity
from proxy.policy.key import Keyring
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.access_line import access_line

KEYS = Keyring(b"a name key of tests")
SOMEBODY = Identity("org_a", "auth0|u1", frozenset({"read:jobs"}))
STORED = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", key="k", tenant="org_a")


def line(
    target: str = "/api/jobs", *pairs: tuple[str, str], method: str = "GET", who: Identity | None = SOMEBODY, **more
):
    outcome = more.pop("outcome", STORED)
    return access_line(Request(method, target, Fields(pairs)), outcome, 200, 0.0123, who, more.pop("keys", KEYS))


def test_it_says_what_was_asked_and_how_it_went():
    found = line("/api/jobs/77")
    assert {name: found[name] for name in ("method", "path", "status", "reason", "feature", "tenant", "ms")} == {
        "method": "GET", "path": "/api/jobs/77", "status": 200, "reason": "cold", "feature": "jobs",
        "tenant": "org_a", "ms": 12.3,
    }  # fmt: skip
    assert found["cache"] == "sidecache; fwd=uri-miss; stored"


def test_the_tenant_is_told_where_no_rule_matched_too():
    assert line(outcome=Outcome(Reason.NO_RULE, forward=Forward.BYPASS))["tenant"] == "org_a"
    assert line(outcome=Outcome(Reason.NO_RULE, forward=Forward.BYPASS), who=None)["tenant"] is None


@pytest.mark.parametrize("secret", ["s3cret-value", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "auth0|u1", "read:jobs"])
def test_nothing_secret_or_personal_stands_in_it(secret):
    found = line(
        f"/api/jobs?q={secret}&{secret}&x={secret}", ("Authorization", f"Bearer {secret}"), ("Cookie", f"s={secret}"),
        ("X-Api-Key", secret), ("Host", "api.example"), ("Accept-Language", secret),
    )  # fmt: skip
    assert secret not in json.dumps(found)
    assert "authorization" not in json.dumps(found).lower()
    assert "cookie" not in json.dumps(found).lower()


def test_equal_values_have_equal_hashes_and_others_do_not():
    one, same, other = (line(f"/a?page={value}", ("X-Unit", value)) for value in ("1", "1", "2"))
    assert (one["query"], one["fields"]) == (same["query"], same["fields"])
    assert one["query"] != other["query"]
    assert one["fields"]["x-unit"] != other["fields"]["x-unit"]
    assert one["query"].startswith("page=")


def test_without_the_name_key_nobody_can_try_values_out():
    assert line("/a?page=1")["query"] != line("/a?page=1", keys=Keyring(b"another key of tests"))["query"]


def test_names_that_may_be_values_are_hashed_too():
    found = line("/a?just-a-value&%65=1&" + "n" * 50 + "=1&page=2")["query"]
    assert [part[:1] for part in found.split("&")] == ["~", "~", "~", "p"]


def test_what_a_client_sends_in_numbers_is_cut_off():
    found = line("/a?" + "&".join(f"p{n}=1" for n in range(500)), *((f"X-{n}", "v") for n in range(100)))
    assert found["query"].count("&") == 63
    assert len(found["fields"]) == 16


def test_languages_that_mean_the_same_have_the_same_hash():
    one, other = (line("/a", ("Accept-Language", text))["fields"] for text in ("de, en;q=0.5", "en;q=0.50,de"))
    assert one == other


def test_a_body_that_is_part_of_the_key_is_told_by_the_key():
    assert line(method="POST")["body"] == line(method="POST")["body"]
    assert "body" not in line()
