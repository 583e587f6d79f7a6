"""Opaque session cookies: whose they are the upstream says, once, before anything else; and never after a logout."""

import asyncio
import json

import pytest

from proxy.errors import UpstreamError
from proxy.sessions import cookie as module
from tests.serving.short import dated, head, prompt, served
from tests.serving.world import World, answered, unsigned
from tests.wire import until

RULES = """
version: 1
identity:
  tenant: jwt.org_id
  user: jwt.sub
  roles: jwt.permissions
  cookie: {name: __session, resolve: GET /auth/profile, every: 60s}
features:
  jobs: {ttl: 15m, read: [GET /api/jobs], write: [POST /api/jobs]}
  mine: {ttl: 15m, scope: user, read: [GET /api/me], write: []}
session:
  logout: GET /auth/logout
  role-change: [{route: "PUT /api/members/{user-id}/roles", user: path.user-id}]
  headers: {}
"""
NOW = 1_700_000_000


class Cookies(World):
    def __init__(self, rules: str = RULES) -> None:
        super().__init__(rules)
        self.people = {"ada": {"sub": "ada", "org_id": "org_a", "permissions": ["read:jobs"]},
                       "gus": {"sub": "gus", "org_id": "org_b"}}  # fmt: skip
        self.upstream.answer = self.answer

    def answer(self, request, n):
        if request.target != "/auth/profile":
            return answered(f"answer {n}".encode())
        who = (request.fields.get("cookie") or "").partition("=")[2].partition(";")[0]
        said = self.people.get(who)
        return answered(b"", status=401) if said is None else said if not isinstance(said, dict) else answered(said)

    async def as_(self, who: str, target: str = "/api/jobs", method: str = "GET", **more):
        return await self.send(method, target, token="", headers={"Cookie": f"x=1; __session={who}"}, **more)

    @property
    def asked(self) -> int:
        return sum(request.target == "/auth/profile" for request in self.upstream.asked)


@pytest.fixture
def world():
    return Cookies()


async def test_the_upstream_says_whose_it_is_and_is_asked_once_a_minute(world):
    first = await world.as_("ada")
    assert first.cache == "sidecache; fwd=uri-miss; stored"
    for _ in range(5):
        assert (await world.as_("ada")).cache.startswith("sidecache; hit")
    assert world.asked == 1
    question = world.upstream.asked[0]
    assert (question.target, question.fields.get("cookie")) == ("/auth/profile", "__session=ada")
    world.clock.advance(60)
    await world.as_("ada")
    assert world.asked == 2


@pytest.mark.isolation
async def test_each_has_what_is_theirs(world):
    ada = await world.as_("ada")
    gus = await world.as_("gus")
    assert gus.body != ada.body
    assert (await world.as_("ada")).body == ada.body
    assert (await world.as_("nobody")).cache == "sidecache; fwd=bypass; detail=no-credentials"


async def test_a_token_that_is_there_decides(world):
    answer = await world.get("/api/jobs", token=unsigned("org_b"), headers={"Cookie": "__session=ada"})
    assert answer.reply.outcome.tenant == "org_b"
    assert world.asked == 0


async def test_an_access_token_in_the_answer_is_verified_and_read(world):
    for name in ("token", "accessToken", "access_token"):
        who = f"who-{name}"
        world.people[who] = {name: unsigned("org_a", "ada", iat=NOW - 5), "expires_at": 7}
        assert (await world.as_(who)).reply.outcome.tenant == "org_a"
    world.people["forged"] = {"token": "x.y.z", "org_id": "org_a"}
    assert (await world.as_("forged")).cache == "sidecache; fwd=bypass; detail=token-invalid"
    world.people["old"] = {"token": unsigned("org_a", exp=NOW - 1)}
    assert (await world.as_("old")).cache == "sidecache; fwd=bypass; detail=token-expired"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answered(b"", status=401), "no-credentials"), (answered(b"", status=204), "no-credentials"),
        (answered(b"", status=302), "no-credentials"), (answered(b"{"), "no-credentials"),
        (answered(b"[]"), "no-credentials"), (answered(b"{}"), "no-credentials"),
        (answered([b"x" * 1000] * 100), "no-credentials"),
        (answered({"sub": "ada"}), "no-tenant"), (answered({"sub": "ada", "org_id": "a b"}), "no-tenant"),
        (answered({"sub": "ada", "org_id": ["org_a"]}), "no-tenant"),
        (answered(b"", status=500), "keys-unavailable"), (answered(b"", status=429), "keys-unavailable"),
        (UpstreamError("connection_refused"), "keys-unavailable"),
    ],
)  # fmt: skip
async def test_who_cannot_be_told_is_nobody_and_the_request_goes_on(world, said, reason):
    world.people["ada"] = said
    for _ in range(3):
        answer = await world.as_("ada")
        assert (answer.status, answer.cache) == (200, f"sidecache; fwd=bypass; detail={reason}")
    assert world.asked == 1  # remembered, for a moment


async def test_two_cookies_of_the_name_are_nobodys(world):
    headers = {"Cookie": "__session=ada; __session=gus"}
    assert "token-invalid" in (await world.get("/api/jobs", token="", headers=headers)).cache
    assert world.asked == 0


async def test_chunks_belong_together(world):
    seen = []

    def answer(request, n):
        seen.append(request.fields.get("cookie"))
        return answered(world.people["ada"]) if request.target == "/auth/profile" else answered(b"{}")

    world.upstream.answer = answer
    await world.get("/api/jobs", token="", headers={"Cookie": "__session__1=b; y=2; __session__0=a"})
    assert seen[0] == "__session__0=a; __session__1=b"


async def test_all_who_come_at_once_cost_one_question(world):
    world.upstream.gate = asyncio.Event()
    asking = [asyncio.ensure_future(world.as_("ada")) for _ in range(50)]
    await world.settle()
    assert world.asked == 1
    world.upstream.gate.set()
    await asyncio.gather(*asking)
    assert world.asked == 1


async def test_an_upstream_that_takes_its_time_is_not_waited_for_long(world, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    gate = asyncio.Event()

    def answer(request, n):
        if request.target == "/auth/profile":
            world.upstream.gate = gate
        return answered(world.people["ada"])

    world.upstream.answer = answer
    asking = asyncio.ensure_future(world.as_("ada"))
    await until(lambda: len(world.upstream.asked) >= 2)
    world.upstream.gate = None
    gate.set()
    assert "keys-unavailable" in (await asking).cache


async def test_too_many_questions_at_once_are_not_asked(world, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    world.upstream.gate = asyncio.Event()
    asking = [asyncio.ensure_future(world.as_(f"who{number}")) for number in range(10)]
    await world.settle()
    assert world.asked == 3
    world.upstream.gate.set()
    await asyncio.gather(*asking)
    assert world.owners.counts["crowded"] == 7


# What ends it


async def test_after_a_logout_the_cookie_is_over_whatever_the_upstream_says_of_it(world):
    await world.as_("ada")
    assert (await world.as_("ada", "/auth/logout")).status == 200
    asked = len(world.upstream.asked)
    answer = await world.as_("ada")
    assert (answer.status, answer.cache) == (401, "sidecache; detail=revoked")
    assert len(world.upstream.asked) == asked
    assert (await world.as_("ada", "/auth/login")).status == 200  # where one may log in again
    world.people["ada-again"] = world.people["ada"]
    world.clock.advance(1)
    assert (await world.as_("ada-again")).status == 200


async def test_whoever_logs_out_without_having_asked_for_anything_is_known_first(world):
    await world.as_("ada", "/auth/logout")
    assert [request.target for request in world.upstream.asked] == ["/auth/profile", "/auth/logout"]
    assert "m:org_a:ada" in [each.subject for each in world.applied]


async def test_a_revocation_from_elsewhere_asks_the_upstream_anew_and_once(world):
    await world.as_("ada")
    await world.as_("gus")
    world.clock.advance(5)
    await world.observer.ended(["u:ada"], world.clock(), why="test")
    world.people["ada"] = None
    for _ in range(3):
        assert "no-credentials" in (await world.as_("ada")).cache
    assert world.asked == 3
    assert (await world.as_("gus")).cache.startswith("sidecache; hit")
    assert world.asked == 3


async def test_changed_roles_are_fetched_at_once(world):
    mine = await world.as_("ada", "/api/me")
    world.clock.advance(5)
    world.people["ada"] = {"sub": "ada", "org_id": "org_a", "permissions": []}
    await world.observer.changed("m:org_a:ada", world.clock(), "org_a", why="test", rejects=False)
    world.clock.advance(1)
    answer = await world.as_("ada", "/api/me")
    assert answer.cache == "sidecache; fwd=uri-miss; stored; detail=purged"
    assert answer.body != mine.body
    assert (await world.as_("ada", "/api/me")).cache.startswith("sidecache; hit")
    assert world.asked == 2


async def test_a_cookie_that_is_only_issued_again_is_its_clients_alone(world):
    def answer(request, n):
        if request.target == "/auth/profile":
            return answered(world.people["ada"])
        return answered(b"{}", set_cookie="__session=rolled; Path=/")

    world.upstream.answer = answer
    first = await world.as_("ada")
    assert first.fields.get("set-cookie") == "__session=rolled; Path=/"
    assert first.reply.outcome.stored
    second = await world.as_("ada")
    assert second.cache.startswith("sidecache; hit")
    assert "set-cookie" not in second.fields


async def test_another_cookie_keeps_a_response_from_being_stored(world):
    def answer(request, n):
        if request.target == "/auth/profile":
            return answered(world.people["ada"])
        return answered(b"{}", set_cookie="other=1")

    world.upstream.answer = answer
    assert "set-cookie" in (await world.as_("ada")).cache


# On a socket, with the short way


@pytest.mark.isolation
async def test_the_short_way_takes_nobodys_cookie_for_anothers():
    async with served(RULES) as made:
        people = {"ada": {"sub": "ada", "org_id": "org_a"}, "gus": {"sub": "gus", "org_id": "org_b"}}

        def answer(request, n):
            who = (request.fields.get("cookie") or "").rpartition("=")[2]
            return dated(people.get(who, {})) if request.target == "/auth/profile" else dated({"for": who})

        made.world.upstream.answer = answer
        async with await prompt(made.port) as client:
            for _ in range(6):
                for who in people:
                    await client.send(head("/api/jobs", f"Cookie: __session={who}", token=""))
                    said = await client.response()
                    assert (said.status, json.loads(said.body)) == (200, {"for": who})
                    await made.settle()
        assert made.hits.decided > 0
