"""No tenant, role or user ever sees another's answer (P1): random traffic, an upstream that signs its answers."""

import asyncio
import json
import random
from base64 import urlsafe_b64decode
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.policy.identity import Identity
from proxy.policy.message import Request
from tests.serving.world import ScriptedStream, World, answered, unsigned

pytestmark = pytest.mark.isolation

RULES = """
version: 1
identity: {tenant: [jwt.org_id, header.x-org-id, path.org-id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 1m, if-error: 10m, negative: {404: 30s}}
features:
  jobs:
    ttl: 5m
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs, "PUT /api/jobs/{job-id}"]
  org-jobs:
    ttl: 5m
    read: ["GET /api/orgs/{org-id}/jobs"]
  reports:
    ttl: 5m
    read: ["GET /api/reports/**"]
  mine:
    ttl: 5m
    scope: user
    read: [GET /api/me]
  applications:
    ttl: 5m
    scope: role
    read: ["GET /api/jobs/{job-id}/applications"]
  search:
    ttl: 5m
    query: [q]
    read: [GET /api/search, POST /api/search]
"""


def signed(request: Request, n: int) -> ScriptedStream:
    """What a correct upstream does: the answer says whom it is for, as the token it was asked with says."""
    token = (request.fields.get("authorization") or "").removeprefix("Bearer ")
    status = 404 if request.target.endswith("/404") else 200
    return answered({"for": token, "path": request.target}, status=status, etag=f'"{n % 5}"')


CALLERS = [
    unsigned(org, sub, permissions=permissions)
    for org in ("org_a", "org_b", "org-a", "a", "jobs")
    for sub in ("u1", "u2")
    for permissions in ([], ["read:applications"], ["read:applications", "write:jobs"])
]
PATHS = [
    "/api/jobs", "/api/jobs?page=2", "/api/jobs?page=2&utm_source=x", "/api/jobs/77", "/api/jobs/404", "/api/jobs/list",
    "/api/jobs/h-x", "/api/jobs/job-77", "/api/jobs/77/applications", "/api/jobs/78/applications", "/api/me",
    "/api/orgs/org_a/jobs", "/api/orgs/org_b/jobs", "/api/reports/a/b", "/api/reports/a/b/", "/api/search?q=1",
    "/api/me/x.css", "/api/me;x.css", "/api/me%00.css", "/api/%6de", "/api//me", "/api/jobs/../me", "/api/jobs/a%2Fb",
    "/api/jobs/tenant:org_b:jobs:77", "/api/jobs/%F0%9F%8D%B0",
]  # fmt: skip
HEADERS = [
    {}, {}, {}, {}, {}, {}, {}, {}, {"X-Org-Id": "org_b"}, {"X_Org_Id": "org_a"}, {"X-Tenant": "org_b"},
    {"X-Forwarded-Host": "evil.test"},
    {"X-Original-URL": "/api/me"}, {"X-HTTP-Method-Override": "DELETE"}, {"Cookie": "session=other"},
    {"Accept": "text/csv"}, {"Accept-Encoding": "gzip"}, {"X-Theme": "dark"}, {"If-None-Match": '"1"'},
    {"Cache-Control": "no-cache"}, {"Range": "bytes=0-9"},
]  # fmt: skip


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def may_share(target: str, mine: str, theirs: str) -> bool:
    """Whether the rules let `mine` be answered with what was fetched for `theirs`."""
    a, b = claims_of(mine), claims_of(theirs)
    if a["org_id"] != b["org_id"]:
        return False
    if "/applications" in target:
        return sorted(a["permissions"]) == sorted(b["permissions"])
    if target.startswith("/api/me"):
        return a["sub"] == b["sub"]
    return True


@pytest.mark.timeout(300)  # more than a minute where others work on the same cores
async def test_twenty_thousand_random_requests_never_cross():
    world = World(RULES)
    world.upstream.answer = signed
    chance = random.Random(20261122)
    hits = 0

    async def one() -> None:
        nonlocal hits
        token, target = chance.choice(CALLERS), chance.choice(PATHS)
        method = chance.choices(["GET", "HEAD", "POST", "PUT"], [96, 3, 0.5, 0.5])[0]
        answer = await world.send(method, target, token=token, headers=chance.choice(HEADERS))
        hits += "; hit" in (answer.cache or "")
        if answer.body and answer.status in (200, 404) and "gzip" not in (answer.fields.get("content-encoding") or ""):
            got = json.loads(answer.body)
            assert got["for"] == token or may_share(target, token, got["for"]), (target, answer.cache)

    for _ in range(200):
        await asyncio.gather(*(one() for _ in range(100)))
        world.clock.advance(chance.choice([0, 0, 1, 30, 400]))
    await world.background.drain(1.0)

    assert hits > 2_000  # the proof is about answers that were shared
    assert world.failures == []


async def test_the_check_itself_finds_a_cache_that_forgets_the_tenant(monkeypatch):
    """Positive control: with the tenant taken out of keys and epochs the same traffic crosses at once."""
    world = World(RULES)
    world.upstream.answer = signed

    class OneForAll:
        async def resolve(self, request, parameters, sources, now):
            return Identity("everybody", "everybody", frozenset())

    world.exchange._identity = OneForAll()
    await world.get("/api/jobs", token=CALLERS[0])
    crossed = await world.get("/api/jobs", token=CALLERS[-1])

    assert not may_share("/api/jobs", CALLERS[-1], json.loads(crossed.body)["for"])


text = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=20)
segments = st.lists(st.one_of(text, st.text(max_size=8).map(quote)), max_size=5)
targets = st.builds(lambda parts, query: "/api/" + "/".join(parts) + ("?" + query if query else ""), segments, text)
orgs = st.one_of(st.sampled_from(["org_a", "org_b"]), st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(target=targets, first=orgs, second=orgs, subject=st.sampled_from(["u1", "u2"]))
def test_whatever_the_path_and_the_tenants_an_answer_stays_with_its_tenant(target, first, second, subject):
    async def scenario() -> None:
        world = World(RULES)
        world.upstream.answer = signed
        mine, other = unsigned(first, "u1"), unsigned(second, subject)
        await world.get(target, token=mine)
        answer = await world.get(target, token=other)
        got = json.loads(answer.body)["for"]
        assert claims_of(got)["org_id"] == second
        await world.background.drain(1.0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "org", ["org_a\n", "org_a:jobs", "org_*", "org_[a]", "{org_a}", "org\u0410", "x" * 65, "", 7, ["org_a"], None]
)
async def test_a_tenant_that_is_no_plain_name_has_no_cache(org):
    world = World(RULES)
    world.upstream.answer = signed
    first = await world.get("/api/jobs", token=unsigned(org))
    second = await world.get("/api/jobs", token=unsigned(org))

    assert {first.cache, second.cache} == {"sidecache; fwd=bypass; detail=no-tenant"}


async def test_an_expired_token_is_never_answered_from_the_cache():
    world = World(RULES)
    world.upstream.answer = signed
    token = unsigned("org_a", exp=world.clock.now + 60)
    await world.get("/api/jobs", token=token)
    assert "; hit" in (await world.get("/api/jobs", token=token)).cache
    world.clock.advance(60)

    assert (await world.get("/api/jobs", token=token)).cache == "sidecache; fwd=bypass; detail=token-expired"
