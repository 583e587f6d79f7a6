"""What the rules do with one request, said by the functions that decide when serving."""

import pytest

from proxy.policy.outcome import Reason
from proxy.rules.compile import RuleSet
from proxy.rules.explain import Caller, Explanation, explain, request_of
from tests.rules.texts import accepted, features

PORTAL = features(
    """
    jobs:
      read:
        - GET /jobs
        - route: GET /jobs/{job-id}
          count: {name: views, by: job-id, unique: user}
      write:
        - route: POST /jobs/{job-id}/apply
          count: {name: applied}
          publish: {event: job.applied, to: 'user:response.owner.id', data: {job: path.job-id}}
        - route: PUT /jobs/{job-id}
          publish: {event: job.changed, to: 'user:request.kind'}
        - {route: 'PATCH /jobs/{job-id}', publish: {event: job.changed, to: 'role:read:jobs'}}
    search:
      read:
        - {route: GET /search, count: {name: searches, by: query.q}}
        - POST /search
      write: []
    plan:
      read: [{route: GET /plan, count: {name: plans, by: jwt.sub}}]
      write: []
    notes: {scope: user, read: [GET /me], write: []}
    secret: {scope: role, require: [read:secret], read: [GET /secret], write: []}
    open: {scope: public, read: [GET /open], write: []}
    limited: {scope: public, require: [a], read: [GET /limited], write: []}
    """
)
ADA = Caller("org_a", "ada", ("read:secret",))


def told(
    line: str, caller: Caller = ADA, *, rules: RuleSet | None = None, body: bytes | None = None, **more
) -> Explanation:
    rules = rules or accepted(PORTAL)
    return explain(rules, request_of(line, caller, rules.identity, body), caller, **more)


@pytest.mark.parametrize(
    ("line", "key", "tags"),
    [
        ("GET /jobs", "tenant:org_a:jobs:list", ("jobs", "jobs:list")),
        ("HEAD /jobs/7", "tenant:org_a:jobs:7", ("jobs", "jobs:7")),
        ("GET /jobs/7?utm_source=x", "tenant:org_a:jobs:7", ("jobs", "jobs:7")),
        ("GET /open", "shared:open:list", ("open", "open:list")),
    ],
)
def test_a_read_has_a_key_and_tags(line, key, tags):
    found = told(line)
    assert found.reason is None
    assert found.key is not None
    assert (found.key.full, found.key.tags) == (key, tags)


@pytest.mark.parametrize(
    ("line", "caller", "reason"),
    [
        ("GET /elsewhere", ADA, Reason.NO_RULE),
        ("GET /jobs", Caller(), Reason.NO_CREDENTIALS),
        ("GET /jobs", Caller(sub="ada"), Reason.NO_TENANT),
        ("GET /jobs", Caller(headers=(("x-a", "b"),)), Reason.NO_CREDENTIALS),
        ("GET /me", Caller("org_a"), Reason.NO_USER),
        ("GET /secret", Caller("org_a", permissions=("other",)), Reason.PERMISSION),
        ("GET /secret", Caller("org_a"), Reason.PERMISSION),
        ("GET /jobs/%2e%2e", ADA, Reason.AMBIGUOUS_PATH),
        ("GET /jobs", Caller("org_a", headers=(("If-Match", "*"),)), Reason.PRECONDITION),
        ("GET /limited", Caller(), Reason.PERMISSION),
        ("POST /jobs/7/apply", ADA, Reason.WRITE),
        ("DELETE /elsewhere", ADA, Reason.UNMATCHED_WRITE),
    ],
)
def test_a_request_that_is_not_cached_says_why(line, caller, reason):
    assert told(line, caller).reason is reason


def test_nobody_may_read_what_is_public():
    assert told("GET /open", Caller()).reason is None


def test_a_write_purges_unless_it_was_refused():
    assert told("PUT /jobs/7").purges == ("jobs:list", "jobs:7")
    assert told("PUT /jobs/7", status=403).purges == ()
    assert told("DELETE /jobs/7").purges == ("jobs:list", "jobs:7")  # no rule for it: what GET finds there


def test_effects_are_told_as_texts():
    assert told("GET /jobs/a%20b").counts == ("views by a b unique",)
    assert told("GET /search?x=1&q=go%20on").counts == ("searches by go on",)
    assert told("GET /search").counts == ("searches by nothing",)
    assert told("GET /plan").counts == ("plans by ada",)
    assert told("GET /plan", Caller()).counts == ("plans by nothing",)
    assert told("PUT /jobs/7", body=b'{"kind": 3}').publishes == ("job.changed to user:3",)
    assert told("PUT /jobs/7", body=b"no json").publishes == ("job.changed to user:nothing",)
    assert told("PUT /jobs/7", body=b"[1]").publishes == ("job.changed to user:nothing",)
    assert told("PATCH /jobs/7").publishes == ("job.changed to role:read:jobs",)
    applied = told("POST /jobs/7/apply", status=201, document={"owner": {"id": "u9"}})
    assert (applied.counts, applied.publishes) == (("applied",), ("job.applied to user:u9",))
    assert told("POST /jobs/7/apply", status=500).publishes == ()


def test_without_a_token_source_the_caller_is_a_trusted_peers():
    rules = accepted(
        features(
            "jobs: {scope: user, require: [a], read: [GET /jobs], write: []}",
            head="identity: {tenant: header.x-org, user: header.x-user, roles: header.x-roles}\n",
        )
    )
    assert told("GET /jobs", Caller("org_a", "ada", ("a", "b")), rules=rules).reason is None
    assert told("GET /jobs", Caller("org_a", "ada"), rules=rules).reason is Reason.PERMISSION
    assert told("GET /jobs", Caller(), rules=rules).reason is Reason.NO_CREDENTIALS


def test_facts_are_plain_values_in_reading_order():
    facts = told("GET /jobs/7", Caller("org_a", headers=(("x-plan", "pro"),))).facts()
    assert list(facts) == [
        "request", "cache", "rule", "where", "line", "feature", "scope",
        "key", "split_by", "tags", "upstream", "ttl", "grace", "if_error", "sensitive", "counts",
    ]  # fmt: skip
    assert (facts["cache"], facts["rule"], facts["line"]) == ("used", "GET /jobs/{job-id}", 7)
    assert (facts["split_by"], facts["ttl"], facts["upstream"]) == (["x-plan"], 60.0, "/jobs/7")
    assert told("GET /nowhere").facts() == {"request": "GET /nowhere", "cache": "bypass", "because": "no-rule"}
    write = told("PUT /jobs/7").facts()
    assert (write["cache"], write["because"], write["purges"]) == ("write", "write", ["jobs:list", "jobs:7"])


def test_a_read_that_the_origin_decides_says_so():
    rules = accepted(features("a: {ttl: origin, read: [GET /a], write: []}"))
    assert told("GET /a", rules=rules).facts()["ttl"] == "origin"


def test_a_body_without_a_canonical_size_limit_is_told():
    assert told("POST /search", body=b'{"q": 1}').reason is None


def test_with_one_host_served_its_name_makes_no_variant():
    rules = accepted(PORTAL)
    caller = Caller("org_a", "ada", (), (("Host", "portal.test"),))
    request = request_of("GET /jobs", caller, rules.identity)
    assert explain(rules, request, caller).key.split_by == ("host",)
    assert explain(rules, request, caller, home="portal.test").key.split_by == ()
