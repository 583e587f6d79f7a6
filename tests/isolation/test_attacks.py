"""What an attacker would try: each test is one attack, and what must come of it (P1, P2, poisoning, bounds)."""

import asyncio
import json
import random

import pytest

from proxy.errors import StoreError, UpstreamError
from proxy.policy.message import Request
from tests.serving.world import World, answered, compiled, unsigned

pytestmark = pytest.mark.isolation

RULES = """
version: 1
identity: {tenant: [jwt.org_id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 0s, if-error: 10m, negative: {404: 30s}}
features:
  me:
    ttl: 5m
    scope: user
    read: [GET /api/me]
  everything:
    ttl: 5m
    read: ["GET /api/**"]
  jobs:
    ttl: 5m
    read: [GET /jobs, "GET /jobs/{job-id}"]
    write: [POST /jobs, "PUT|DELETE /jobs/{job-id}"]
    also-purge: [search]
  search:
    ttl: 5m
    read: [GET /search, POST /search]
  things:
    ttl: 5m
    read: ["GET /{thing}"]
  open:
    ttl: 5m
    scope: public
    read: ["GET /open/{page}"]
    write: ["PUT /open/{page}"]
"""
ADA, BOB, EVE = unsigned("org_a", "ada"), unsigned("org_a", "bob"), unsigned("org_b", "eve")


def echoing(*names):
    """An upstream whose answer depends on these request headers, and does not say so in Vary."""
    return lambda request, n: answered({name: request.fields.get(name) for name in names})


def versioned(request, n):
    return answered({"version": n})


async def version(world, target, **more):
    return json.loads((await world.get(target, **more)).body)["version"]


# Poisoning: what is not in the key must not reach the upstream, and what is in the key must


@pytest.mark.parametrize("name", ["X-Api-Version", "Accept-Language", "X-Theme"])
async def test_a_header_that_connection_takes_out_on_the_way_selects_nothing(name):
    """`Connection: x-api-version` would have the answer without the header stored as the one with it."""
    world = World(RULES)
    world.upstream.answer = lambda request, n: answered({"got": request.fields.get(name.lower())}, vary=name)
    await world.get("/open/a", headers={name: "2", "Connection": name})

    assert json.loads((await world.get("/open/a", headers={name: "2"})).body) == {"got": "2"}
    assert json.loads((await world.get("/open/a")).body) == {"got": None}


@pytest.mark.parametrize("name", ["X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Forwarded-For", "Forwarded"])
async def test_an_address_that_a_client_makes_up_does_not_reach_a_fill(name):
    world = World(RULES)
    world.upstream.answer = echoing(name.lower())
    await world.get("/open/a", headers={name: "127.0.0.66"})

    assert b"127.0.0.66" not in (await world.get("/open/a")).body


@pytest.mark.parametrize("name", ["Accept-Version", "Accept-Profile", "X-Forwarded-Prefix", "X_Forwarded_Host"])
async def test_a_header_that_frameworks_route_by_makes_a_variant(name):
    world = World(RULES)
    world.upstream.answer = echoing(name.lower())
    await world.get("/open/a", headers={name: "evil"})

    assert b"evil" not in (await world.get("/open/a")).body


async def test_the_type_of_a_body_that_is_not_there_does_not_reach_a_fill():
    world = World(RULES)
    world.upstream.answer = echoing("content-type")
    await world.get("/open/a", headers={"Content-Type": "text/evil"})

    assert b"evil" not in (await world.get("/open/a")).body


@pytest.mark.parametrize(
    "name", ["Authorization", "Authentication-Info", "X-Auth-Token", "Access-Token", "X-CSRF-Token", "Set-Cookie2"]
)
async def test_a_response_that_hands_a_credential_to_its_client_is_not_shared(name):
    world = World(RULES)
    world.upstream.answer = lambda request, n: answered(b"{}", **{name: f"secret-{n}"})
    first = await world.get("/jobs", token=ADA)
    second = await world.get("/jobs", token=BOB)

    assert (first.fields.get(name.lower()), second.fields.get(name.lower())) == ("secret-1", "secret-2")


# P1: a path must not carry one user's answer into a wider scope


@pytest.mark.parametrize(
    "path", ["/api/me/", "/api/me/x.css", "/api/me/a/b.js", "/api/ME", "/api/Me/x.css", "/api/me.json", "/api/me.js/x"]
)
async def test_a_narrow_answer_is_not_stored_under_a_wider_rule_that_the_path_slips_into(path):
    """Web cache deception: Express and others answer all of these like /api/me."""
    world = World(RULES)
    world.upstream.answer = lambda request, n: answered({"asked by": request.fields.get("authorization")})
    first = await world.get(path, token=ADA)
    second = await world.get(path, token=BOB)

    assert json.loads(first.body)["asked by"].endswith(ADA)
    assert json.loads(second.body)["asked by"].endswith(BOB)


async def test_other_paths_under_the_wider_rule_are_still_kept():
    world = World(RULES)
    for path in ("/api/meetings", "/api/reports/me", "/api/Reports/2026.5", "/ABC"):
        await world.get(path, token=ADA)
        assert "; hit" in (await world.get(path, token=BOB)).cache, path


# P1: rules that change while a fetch is under way


async def test_a_follower_under_new_rules_does_not_get_what_the_old_rules_let_in():
    world = World(RULES)
    world.upstream.gate = asyncio.Event()
    world.upstream.answer = lambda request, n: answered({"org": "org_b", "n": n})
    leader = asyncio.create_task(world.get("/jobs", token=ADA))
    await world.settle()
    world.rules = compiled(
        RULES.replace("  jobs:\n    ttl: 5m", "  jobs:\n    ttl: 5m\n    assert: response.org == tenant")
    )
    follower = asyncio.create_task(world.get("/jobs", token=BOB))
    await world.settle()
    world.upstream.gate.set()
    await leader

    assert "collapsed" not in (await follower).cache
    assert len(world.upstream.asked) == 2


# P2: whatever a write looks like, the next read is new


@pytest.mark.parametrize("host", ["localhost", "portal.test:8080", "10.0.0.1"])
async def test_a_write_by_another_host_name_purges_too(host):
    world = World(RULES)
    world.upstream.answer = versioned
    before = await version(world, "/jobs")
    await world.send("POST", "/jobs", headers={"Host": host}, body=b"{}")

    assert await version(world, "/jobs") > before


@pytest.mark.parametrize("token", [ADA, ""], ids=["tenant known", "tenant unknown"])
@pytest.mark.parametrize(
    "path",
    [
        "/jobs/",
        "//jobs",
        "/./jobs",
        "/x/../jobs",
        "/%6aobs",
        "/jobs;v=1",
        "/JOBS",
        "\\jobs",
        "/jobs%2f",
        "/jobs/%2e",
        "/jobs%00",
    ],
)
async def test_a_write_whose_path_the_upstream_may_read_as_another_purges_that(path, token):
    world = World(RULES)
    world.upstream.answer = versioned
    before = await version(world, "/jobs", token=ADA), await version(world, "/search", token=ADA)
    await world.send("POST", path, token=token, body=b"{}")

    assert (await version(world, "/jobs", token=ADA), await version(world, "/search", token=ADA)) > before
    assert await version(world, "/search", token=ADA) > before[1]


@pytest.mark.parametrize(
    "path", ["/open/a/", "//open/a", "/x/../open/a", "/%6fpen/a", "/open/a;v=1", "/OPEN/a", "/open/%61"]
)
async def test_a_write_to_something_public_by_such_a_path_purges_it(path):
    world = World(RULES)
    world.upstream.answer = versioned
    before = await version(world, "/open/a")
    await world.send("PUT", path, body=b"{}")

    assert await version(world, "/open/a") > before


@pytest.mark.parametrize(("read", "written"), [("/jobs/ab-cd", "/jobs/AB-CD"), ("/jobs/x%C3%A9", "/jobs/X%c3%a9")])
async def test_a_write_that_spells_an_id_in_another_case_purges_it(read, written):
    """UUIDs: databases compare them without case."""
    world = World(RULES)
    world.upstream.answer = versioned
    before = await version(world, read)
    await world.send("PUT", written, body=b"{}")

    assert await version(world, read) > before


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "X-Http_Method-Override"])
async def test_a_write_in_disguise_purges_what_the_real_one_would(name):
    world = World(RULES)
    world.upstream.answer = versioned
    before = await version(world, "/search"), await version(world, "/jobs/7")
    await world.send("POST", "/jobs/7", headers={name: "put"}, body=b"{}")

    assert await version(world, "/jobs/7") > before[1]
    assert await version(world, "/search") > before[0]


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "X_Original_URL", "X-Rewrite_URL"]
)
async def test_a_disguised_read_is_neither_answered_nor_kept(name):
    world = World(RULES)
    world.upstream.answer = versioned
    await world.get("/jobs", headers={name: "DELETE"})
    await world.get("/jobs", headers={name: "DELETE"})

    assert len(world.upstream.asked) == 2


class Unreliable:
    """A store that takes its time, and fails before or after it has done what it was asked."""

    def __init__(self, inner, chance):
        self.inner = inner
        self.failing = 0.0
        self._chance = chance

    def __getattr__(self, name):
        async def call(*arguments):
            await dawdle(self._chance)
            self._fail()
            result = await getattr(self.inner, name)(*arguments)
            await dawdle(self._chance)
            self._fail()
            return result

        return call

    def _fail(self):
        if self._chance.random() < self.failing:
            raise StoreError("down, or the answer was lost")


class Register:
    """An upstream whose every answer is the number of writes it has seen; it fails and confirms now and then."""

    def __init__(self, chance):
        self.version = 0
        self._chance = chance

    async def fetch(self, request: Request, body, *, interim=None):
        await dawdle(self._chance)
        self._fail()
        self.version += request.method == "PUT"
        seen = self.version
        await dawdle(self._chance)
        self._fail()
        tag = f'"{seen}"'
        if request.fields.get("if-none-match") == tag:
            return answered(b"", status=304, etag=tag)
        return answered({"version": seen}, **({"etag": tag} if self._chance.random() < 0.7 else {}))

    def _fail(self):
        if self._chance.random() < 0.03:
            raise UpstreamError("connection_terminated")


async def dawdle(chance):
    for _ in range(chance.choice((0, 0, 1, 4, 12))):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(6))
async def test_no_read_is_older_than_a_write_before_it_though_the_store_fails(seed):
    chance = random.Random(seed)
    world = World(RULES.replace("grace: 0s", "grace: 2m"), l1_bytes=(4000, 8 << 20)[seed % 2])
    store = world.store.inner = Unreliable(world.store.inner, chance)
    world.exchange._upstream = world.exchange._fetcher._leading._upstream = Register(chance)
    acknowledged = stale = hits = 0

    async def write():
        nonlocal acknowledged
        path = chance.choice(("/jobs/1", "//jobs/1", "/Jobs/1", "/jobs/1/"))
        answer = await world.send("PUT", path, token=chance.choice((ADA, BOB, "")), body=b"{}")
        if answer.status == 200:
            acknowledged = max(acknowledged, json.loads(answer.body)["version"])

    async def read():
        nonlocal stale, hits
        at_least = acknowledged
        path = chance.choice(("/jobs", "/jobs/1", "/jobs?page=2", "/search"))
        method, body = ("POST", b"{}") if path == "/search" else ("GET", None)
        answer = await world.send(method, path, token=chance.choice((ADA, BOB)), body=body)
        if answer.status == 200 and answer.error is None:
            stale += json.loads(answer.body)["version"] < at_least
            hits += "; hit" in answer.cache

    async def client():
        for _ in range(100):
            await (write() if chance.random() < 0.06 else read())
            if chance.random() < 0.02:
                world.clock.advance(chance.choice((0.3, 1, 59, 305, 1000)))
            if chance.random() < 0.03:
                store.failing = chance.choice((0, 0, 0.1, 0.5))

    await asyncio.gather(*(client() for _ in range(16)))
    await world.background.drain(1.0)

    assert stale == 0
    assert hits > 200  # it was about a cache
    assert world.failures == []


# Revalidation


async def test_a_read_by_post_is_asked_for_again_without_a_condition():
    """An If-None-Match that holds fails a POST with 412 (RFC 9110 13.1.2), on a client that asked for no such thing."""
    world = World(RULES)
    world.upstream.answer = lambda request, n: (
        answered(b"", status=412) if "if-none-match" in request.fields else answered({"n": n}, etag='"1"')
    )
    await world.send("POST", "/search", body=b"{}")
    world.clock.advance(400)

    assert (await world.send("POST", "/search", body=b"{}")).status == 200


async def test_a_new_answer_for_one_user_is_not_the_confirmation_of_anothers():
    """A 304 that names another tag than the stored body's is about another body."""
    world = World(RULES)
    world.upstream.answer = lambda request, n: (
        answered(b"", status=304, etag='"bobs"')
        if "if-none-match" in request.fields
        else answered({"n": n}, etag='"adas"')
    )
    await world.get("/api/me", token=ADA)
    world.clock.advance(400)
    answer = await world.get("/api/me", token=ADA)

    assert json.loads(answer.body) == {"n": 3}


# Bounds


async def test_variants_that_somebody_makes_up_do_not_keep_the_real_one_out():
    world = World(RULES, hosts=frozenset())  # every Host is a variant
    world.upstream.answer = versioned
    for number in range(40):
        await world.get("/open/a", headers={"X-Noise": str(number)})
    await world.get("/open/a")

    assert "; hit" in (await world.get("/open/a")).cache


async def test_a_query_of_thousands_of_parameters_is_not_taken_apart():
    world = World(RULES)
    answer = await world.get("/jobs?" + "&".join(f"a{n}=1" for n in range(2000)))

    assert answer.cache == "sidecache; fwd=bypass; detail=ambiguous-query"


# Leaks


async def test_what_is_noted_of_a_request_holds_no_query():
    noted = []
    world = World(RULES.replace("[jwt.org_id]", "[jwt.org_id, header.x-org-id]"))
    world.exchange._noted = lambda event, details: noted.append((event, details))
    await world.get("/jobs?api_key=hunter2", token=ADA, headers={"X-Org-Id": "org_b"})

    assert [event for event, _ in noted] == ["tenant-conflict"]
    assert "hunter2" not in repr(noted)
