"""Logouts and changes of roles that are seen passing: what follows, for whom, and in which order."""

import asyncio
import json

import pytest

from proxy.errors import UpstreamError
from proxy.sessions.notbefore import Kind
from tests.serving.short import dated, head, prompt, served
from tests.serving.world import World, answered, unsigned

RULES = """
version: 1
identity: {tenant: [jwt.org_id, header.x-org-id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 2m, if-error: 1h}
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs]
    write: [POST /api/jobs]
  applications:
    ttl: 15m
    scope: role
    require: [read:applications]
    read: [GET /api/applications]
    write: []
  mine:
    ttl: 15m
    scope: user
    read: [GET /api/me]
    write: []
  catalogue:
    ttl: 1h
    scope: public
    read: [GET /api/catalogue]
    write: []
  members:
    ttl: 15m
    read: [GET /api/members]
    write: ["PUT /api/members/{user-id}/roles"]
session:
  logout: [GET /auth/logout, POST /api/logout]
  role-change:
    - {route: "PUT /api/members/{user-id}/roles", user: path.user-id}
    - {route: POST /api/grants, user: response.member.id}
    - {route: POST /api/fire, user: response.member.id, then: reject}
    - {route: POST /api/matrix}
"""
NOW = 1_700_000_000


@pytest.fixture
def world():
    return World(RULES)


def token(user: str = "u1", org: str | None = "org_a", age: int = 60, **claims) -> str:
    return unsigned(org, user, iat=NOW - age, **claims)


def subjects(world: World) -> list[str]:
    return [each.subject for each in world.applied if not each.subject.startswith("d:")]


async def status(world: World, target: str = "/api/jobs", method: str = "GET", **more) -> int:
    return (await world.send(method, target, **more)).status


# Logging out


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, ["m:org_a:u1"]),
        ({"sid": "s1"}, ["s:s1"]),
        ({"org": None}, ["u:u1"]),
        ({"sid": ""}, ["m:org_a:u1"]),
        ({"sid": 7}, ["m:org_a:u1"]),
    ],
)
async def test_a_logout_ends_the_session_or_else_what_the_user_has_there(world, claims, expected):
    own = token(**claims)
    assert await status(world, "/api/logout", "POST", token=own) == 200
    assert subjects(world) == expected
    assert await status(world, token=own) == 401
    # the credential itself is named too, so that nothing hangs on what it says
    assert sum(each.subject.startswith("d:") for each in world.applied) == 1


@pytest.mark.isolation
async def test_the_other_session_of_the_same_user_goes_on_and_another_tenant_does_too(world):
    one, two = token(sid="s1"), token(sid="s2")
    await status(world, "/auth/logout", token=one)
    assert await status(world, token=one) == 401
    assert await status(world, token=two) == 200
    await status(world, "/auth/logout", token=token())
    assert await status(world, token=token(org="org_b")) == 200
    assert await status(world, token=token(user="u2")) == 200


@pytest.mark.parametrize(("answer", "ended"), [(200, True), (204, True), (302, True), (303, True), (400, False),
                                               (401, False), (404, False), (500, False), (503, False)])  # fmt: skip
async def test_only_a_logout_that_succeeds_is_one(world, answer, ended):
    world.upstream.answer = lambda request, n: answered(b"", status=answer)
    assert await status(world, "/auth/logout", token=token()) == answer
    assert bool(world.applied) is ended


async def test_an_upstream_that_fails_logs_nobody_out(world):
    world.upstream.answer = lambda request, n: UpstreamError("connection_terminated")
    assert await status(world, "/auth/logout", token=token()) == 502
    assert world.applied == []


@pytest.mark.parametrize("target", ["/api/logout/", "/api//logout", "/api/./logout", "/api/%6cogout"])
async def test_a_path_that_the_upstream_may_read_as_a_logout_is_one(world, target):
    await status(world, target, "POST", token=token())
    assert subjects(world) == ["m:org_a:u1"]


async def test_who_is_not_known_has_no_session_to_end(world):
    assert await status(world, "/auth/logout", token="") == 200
    assert await status(world, "/auth/logout", token="garbage") == 200
    assert world.applied == []
    assert world.noted.count("logout-of-nobody") == 2


async def test_a_tenant_conflict_does_not_keep_anybody_in(world):
    await status(world, "/api/logout", "POST", token=token(), headers={"X-Org-Id": "org_b"})
    assert subjects(world) == ["m:org_a:u1"]


async def test_logging_out_again_and_again_tells_nobody_anything_new(world):
    for _ in range(5):
        assert await status(world, "/api/logout", "POST", token=token()) == 200
    assert len(world.audited) == 1
    assert len(world.applied) == 2


async def test_the_reply_leaves_when_it_holds_and_a_client_that_left_changes_nothing(world):
    world.upstream.gate = asyncio.Event()
    leaving = asyncio.ensure_future(world.send("POST", "/api/logout", token=token()))
    await world.settle()
    leaving.cancel()
    world.upstream.gate.set()
    await world.settle()
    assert subjects(world) == ["m:org_a:u1"]


async def test_a_token_from_ahead_of_our_clock_is_meant_as_well(world):
    early = token(age=-20)
    await status(world, "/api/logout", "POST", token=early)
    assert world.applied[-1].instant == NOW + 20
    assert await status(world, token=early) == 401


async def test_a_logout_is_audited_without_the_token(world):
    own = token(sid="s1")
    await status(world, "/api/logout", "POST", token=own)
    ((event, tenant, target, accepted),) = world.audited
    assert (event, tenant, accepted) == ("logout", "org_a", True)
    assert own not in json.dumps(target)
    assert target["kind"] == "ended"


async def test_a_get_logout_is_no_write_and_no_hit():
    world = World(RULES.replace("read: [GET /api/jobs]", "read: [GET /api/jobs, GET /auth/**]"))
    first = await world.get("/auth/logout", token=token())
    assert first.cache == "sidecache; fwd=bypass; detail=session-route"
    assert "unmatched-write" not in world.noted
    assert await status(world, "/auth/logout", token=token(user="u2")) == 200
    assert len(world.upstream.asked) == 2


# What a revoked token gets


@pytest.mark.parametrize(
    ("method", "target", "more"),
    [
        ("GET", "/api/jobs", {}),
        ("HEAD", "/api/jobs", {}),
        ("GET", "/api/unruled", {}),
        ("POST", "/api/jobs", {}),
        ("DELETE", "/api/unruled/7", {}),
        ("PUT", "/api/members/u7/roles", {}),
        ("GET", "/api/jobs", {"headers": {"X-Original-URL": "/x"}}),
        ("GET", "/api//jobs", {}),
        ("GET", "/api/jobs", {"headers": {"Host": "elsewhere.test"}}),
        ("GET", "/api/jobs", {"headers": {"X-Org-Id": "org_b"}}),  # nor does a conflict help
    ],
)
async def test_a_revoked_token_gets_401_whatever_it_asks_for_and_the_upstream_is_not_asked(world, method, target, more):
    await world.get("/api/jobs", token=token())
    await status(world, "/api/logout", "POST", token=token())
    asked = len(world.upstream.asked)
    answer = await world.send(method, target, token=token(), **more)
    assert answer.status == 401
    assert answer.fields.get("www-authenticate") == 'Bearer error="invalid_token"'
    assert answer.cache == "sidecache; detail=revoked"
    assert len(world.upstream.asked) == asked


async def test_what_everybody_may_have_a_revoked_token_may_have_as_well(world):
    await world.get("/api/catalogue", token="")
    await status(world, "/api/logout", "POST", token=token())
    assert (await world.get("/api/catalogue", token=token())).status == 200


async def test_a_write_under_way_is_finished_and_the_next_is_refused(world):
    world.upstream.gate = asyncio.Event()
    writing = asyncio.ensure_future(world.send("POST", "/api/jobs", token=token()))
    await world.settle()
    await world.observer.ended(["m:org_a:u1"], NOW, why="admin")
    world.upstream.gate.set()
    assert (await writing).status == 200
    assert await status(world, "/api/jobs", "POST", token=token()) == 401


# Roles


@pytest.mark.isolation
async def test_answers_of_the_old_rights_are_out_of_reach_and_others_stay(world):
    old = token(user="u7")
    for target in ("/api/jobs", "/api/applications", "/api/me"):
        await world.get(target, token=old)
        assert (await world.get(target, token=old)).cache.startswith("sidecache; hit")
    assert await status(world, "/api/members/u7/roles", "PUT", token=token(user="admin")) == 200
    assert [(each.subject, each.kind) for each in world.applied] == [("m:org_a:u7", Kind.CHANGED)]
    for target in ("/api/applications", "/api/me"):
        answer = await world.get(target, token=old)
        assert answer.cache == "sidecache; fwd=bypass; detail=rights-changed"
    assert (await world.get("/api/jobs", token=old)).cache.startswith("sidecache; hit")
    newer = token(user="u7", age=-1)
    answer = await world.get("/api/me", token=newer)
    assert answer.cache == "sidecache; fwd=uri-miss; stored; detail=purged"
    assert (await world.get("/api/me", token=newer)).cache.startswith("sidecache; hit")


async def test_what_another_replica_stored_meanwhile_is_purged_again(world):
    await status(world, "/api/members/u7/roles", "PUT", token=token(user="admin"))
    newer = token(user="u7", age=-1)
    await world.get("/api/me", token=newer)
    await world.background.drain(5.0)  # what was put off is done at once
    assert not (await world.get("/api/me", token=newer)).cache.startswith("sidecache; hit")


async def test_a_change_that_the_store_takes_late_is_purged_for_then_as_well(world):
    log = world.revocations._store
    log.shared = True
    log.down = {"append"}
    slept = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await slept.wait()
        await asyncio.sleep(0)

    world.observer._sleep = world.revocations._sleep = sleep
    await status(world, "/api/members/u7/roles", "PUT", token=token(user="admin"))
    assert world.audited[-1][3] is False
    newer = token(user="u7", age=-1)
    await world.get("/api/me", token=newer)
    assert (await world.get("/api/me", token=newer)).cache.startswith("sidecache; hit")
    log.down = set()
    slept.set()
    await world.settle()
    assert world.revocations.pending == 0
    assert not (await world.get("/api/me", token=newer)).cache.startswith("sidecache; hit")


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        ("/api/grants", {"member": {"id": "u9"}}, [("m:org_a:u9", Kind.CHANGED)]),
        ("/api/grants", {"member": {}}, [("o:org_a", Kind.CHANGED)]),  # whose it was cannot be told: anybody's
        ("/api/grants", {"member": {"id": 9}}, [("o:org_a", Kind.CHANGED)]),
        ("/api/grants", b'["u9"]', [("o:org_a", Kind.CHANGED)]),
        ("/api/grants", b"{", [("o:org_a", Kind.CHANGED)]),
        ("/api/grants", {"member": {"id": "u9"}, "more": "x" * 70_000}, [("o:org_a", Kind.CHANGED)]),
        ("/api/fire", {"member": {"id": "u9"}}, [("m:org_a:u9", Kind.ENDED)]),
        ("/api/matrix", {}, [("o:org_a", Kind.CHANGED)]),
    ],
)
async def test_whose_rights_have_changed(world, target, body, expected):
    world.upstream.answer = lambda request, n: answered(body)
    answer = await world.send("POST", target, token=token(user="admin"))
    assert answer.body == (body if isinstance(body, bytes) else json.dumps(body).encode())
    assert [(each.subject, each.kind) for each in world.applied] == expected


async def test_a_body_that_breaks_off_reaches_its_client_as_it_came(world):
    world.upstream.answer = lambda request, n: answered([b'{"member":', UpstreamError("connection_terminated")])
    answer = await world.send("POST", "/api/grants", token=token(user="admin"))
    assert (answer.body, answer.error is not None) == (b'{"member":', True)
    assert [each.subject for each in world.applied] == ["o:org_a"]


@pytest.mark.parametrize(("answer", "changed"), [(200, True), (204, True), (302, False), (403, False), (500, False)])
async def test_only_a_change_that_succeeds_is_one(world, answer, changed):
    world.upstream.answer = lambda request, n: answered(b"", status=answer)
    await status(world, "/api/members/u7/roles", "PUT", token=token(user="admin"))
    assert bool(world.applied) is changed


async def test_without_a_caller_the_user_is_meant_everywhere_or_nobody(world):
    await status(world, "/api/members/u7/roles", "PUT", token="")
    assert [each.subject for each in world.applied] == ["u:u7"]
    await status(world, "/api/matrix", "POST", token="")
    assert len(world.applied) == 1
    assert "role-change-of-nobody" in world.noted


@pytest.mark.isolation
async def test_who_changes_roles_in_one_tenant_changes_none_in_another(world):
    await status(world, "/api/members/u7/roles", "PUT", token=token(user="admin", org="org_b"))
    assert (await world.get("/api/me", token=token(user="u7"))).cache == "sidecache; fwd=uri-miss; stored"


# Hits the short way


@pytest.fixture
async def made():
    async with served(RULES) as made:
        made.world.upstream.answer = lambda request, n: dated({"n": n})
        yield made


async def test_the_short_way_refuses_from_the_very_next_request_on(made):
    own, other = head(token=token()), head(token=token(user="u2"))
    async with await prompt(made.port) as client, await prompt(made.port) as second:
        for data in (own, other) * 4:
            await client.send(data)
            assert (await client.response()).status == 200
            await made.settle()
        assert made.hits.repeated > 0
        await second.send(head("/api/logout", "Content-Length: 0", method="POST", token=token()))
        assert (await second.response()).status == 200
        before = len(made.world.upstream.asked)
        await client.send(own)
        assert (await client.response()).status == 401
        await client.send(other)
        assert (await client.response()).status == 200
        assert len(made.world.upstream.asked) == before


async def test_a_logout_against_requests_at_the_same_time_lets_none_in_behind_it(made):
    own = head(token=token())
    clients = [await prompt(made.port) for _ in range(8)]
    for client in clients:
        await client.send(own)
        assert (await client.response()).status == 200
    over = asyncio.Event()
    late: list[int] = []

    async def use(client) -> None:
        for _ in range(150):
            begun_after = over.is_set()
            await client.send(own)
            answer = await client.response()
            if begun_after:
                late.append(answer.status)

    async def log_out() -> None:
        async with await prompt(made.port) as client:
            await asyncio.sleep(0.02)
            await client.send(head("/api/logout", "Content-Length: 0", method="POST", token=token()))
            assert (await client.response()).status == 200
            over.set()

    await asyncio.gather(log_out(), *map(use, clients))
    for client in clients:
        await client.close()
    assert late
    assert set(late) == {401}
