"""What is answered in the call that brings it is for this caller alone (P1): real sockets, heads that look alike."""

import json
import random
from itertools import permutations

import pytest

from tests.isolation.test_isolation import CALLERS, HEADERS, PATHS, RULES, claims_of, may_share, signed
from tests.serving.short import DATE, Served, head, prompt, served
from tests.serving.short import dated as plain
from tests.serving.world import unsigned
from tests.wire import Client, Message

pytestmark = pytest.mark.isolation

NAMED = """
version: 1
identity: {tenant: header.x-org-id, user: header.from, roles: header.priority}
features:
  mine:
    ttl: 5m
    scope: user
    read: [GET /api/me]
  applications:
    ttl: 5m
    scope: role
    read: [GET /api/applications]
  jobs:
    ttl: 5m
    read: [GET /api/jobs]
"""


def dated(request, n):
    stream = signed(request, n)
    stream.response = type(stream.response)(
        stream.response.status, stream.response.fields.with_field("date", DATE), stream.response.reason
    )
    return stream


async def warm(made: Served, client: Client, data: bytes) -> None:
    for _ in range(5):
        await client.send(data)
        await client.response()
        await made.settle()
    assert made.hits.known(data, False) is not None


async def asked(client: Client, data: bytes) -> Message:
    await client.send(data)
    return await client.response()


def whom(answer: Message) -> dict[str, object]:
    return claims_of(json.loads(answer.body)["for"])


OTHERS = {
    "another tenant": ("/api/jobs", {"org": "org_b"}),
    "a tenant that only looks alike": ("/api/jobs", {"org": "org-a"}),
    "another user": ("/api/me", {"sub": "u2"}),
    "more roles": ("/api/jobs/77/applications", {"permissions": ["read:applications", "write:jobs"]}),
    "no roles": ("/api/jobs/77/applications", {"permissions": []}),
}


@pytest.mark.parametrize(("target", "claims"), OTHERS.values(), ids=OTHERS)
async def test_the_same_head_with_another_callers_token_is_another_callers(target, claims):
    mine = unsigned("org_a", "u1", permissions=["read:applications"])
    theirs = unsigned(**{"org": "org_a", "sub": "u1", "permissions": ["read:applications"], **claims})
    async with served(RULES) as made, await prompt(made.port) as client:
        made.world.upstream.answer = dated
        await warm(made, client, head(target, token=mine))
        answer = await asked(client, head(target, token=theirs))
        await made.settle()
        assert whom(answer) == claims_of(theirs)
        await warm(made, client, head(target, token=theirs))
        for token in (mine, theirs) * 3:
            assert whom(await asked(client, head(target, token=token))) == claims_of(token)


@pytest.mark.parametrize("token", ["", unsigned(None, "u1"), unsigned("org_a", "u1") + "x", "Basic eDp5"])
async def test_the_same_head_without_a_good_token_is_nobodys(token):
    async with served(RULES) as made, await prompt(made.port) as client:
        made.world.upstream.answer = dated
        await warm(made, client, head())
        before = made.short
        answer = await asked(client, head(token=token))
        assert "fwd=bypass" in answer.cache
        assert made.short == before


async def test_a_token_that_expired_gets_nothing_any_more():
    token = unsigned(exp=1_700_000_009)
    async with served(RULES) as made, await prompt(made.port) as client:
        made.world.upstream.answer = dated
        await warm(made, client, head(token=token))
        made.world.clock.advance(8.9)
        assert "hit" in (await asked(client, head(token=token))).cache
        made.world.clock.advance(0.1)
        for line in ((), ("Referer: x",)):
            assert (await asked(client, head("/api/jobs", *line, token=token))).cache.endswith("token-expired")


async def test_a_role_that_is_required_from_now_on_is_required_on_the_same_connection():
    async with served(RULES) as made, await prompt(made.port) as client:
        made.world.upstream.answer = dated
        await warm(made, client, head())
        made.reload(RULES.replace("  jobs:\n    ttl: 5m", "  jobs:\n    ttl: 5m\n    require: [admin]"))
        assert (await asked(client, head())).cache == "sidecache; fwd=bypass; detail=permission"


NAMES = (("org_a", "ada", "x"), ("org_a", "bob", "y"), ("org_b", "ada", "x"))


@pytest.mark.parametrize(("mine", "theirs"), list(permutations(NAMES, 2)))
@pytest.mark.parametrize("target", ["/api/me", "/api/applications", "/api/jobs"])
async def test_callers_whom_a_trusted_peer_names_in_any_field_are_told_apart(mine, theirs, target):
    async with served(NAMED, trusts=True) as made, await prompt(made.port) as client:
        heads = [
            head(target, f"X-Org-Id: {org}", f"From: {user}", f"Priority: {roles}", token="")
            for org, user, roles in (mine, theirs)
        ]
        # who is answered by whose fetch: its answer has the number of the fetch
        made.world.upstream.answer = lambda request, n: plain({"n": n})
        got: list[set[int]] = [set(), set()]
        for _ in range(5):
            for which in (0, 1):
                got[which].add(json.loads((await asked(client, heads[which])).body)["n"])
                await made.settle()
        shared = mine[0] == theirs[0] and target == "/api/jobs"
        assert (got[0] & got[1] != set()) is shared
        assert made.short > 5


async def test_random_heads_that_look_alike_never_cross():
    chance = random.Random(20261126)
    unread = ["Referer: a", "Referer: b", "Cookie: a=b", "X-Request-Id: 1", "Traceparent: 2", "User-Agent: x"]
    async with served(RULES) as made:
        made.world.upstream.answer = dated
        hits = 0
        client = await prompt(made.port)
        for _ in range(800):
            token, target = chance.choice(CALLERS[::3]), chance.choice(PATHS[:12])
            lines = [f"{name}: {value}" for name, value in chance.choice(HEADERS).items()]
            lines += chance.sample(unread, chance.choice((0, 0, 1, 2)))
            data = head(target, *lines, token=token)
            for _ in range(chance.choice((1, 1, 5))):
                answer = await asked(client, data)
                await made.settle()
                if answer.status == 200 and "hit" in answer.cache and answer.body:
                    hits += 1
                    assert may_share(target, token, json.loads(answer.body)["for"])
            if chance.random() < 0.02:
                made.world.clock.advance(chance.choice((0.5, 5, 61, 301)))
        await client.close()
        assert hits > 300
        assert made.short > 250
        assert made.hits.repeated > 20
        assert made.hits.chosen > 100
