"""Asking about organisations: once for all, never waited for, and nothing but what is theirs is taken."""

import asyncio
import json

import pytest

from proxy.cache.background import Background
from proxy.errors import UpstreamError
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request
from proxy.policy.session import Enrichment
from proxy.sessions import enrich as module
from proxy.sessions.enrich import MOST, Enriching
from tests.doubles import FakeClock, settle
from tests.serving.world import ScriptedUpstream, answered
from tests.wire import until

RULE = Enrichment("/api/org", (("X-Org-Name", "name"),), 900.0, "id")
REQUEST = Request("GET", "/api/jobs", Fields((("Authorization", "Bearer x"), ("Host", "portal.test"))))


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.upstream = ScriptedUpstream()
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.rule: Enrichment | None = RULE
        self.enriching = Enriching(lambda: self.rule, self.upstream, self.background, self.clock, most=50)
        self.says(lambda org: {"id": org, "name": f"name of {org}"})

    def says(self, document) -> None:
        self.upstream.answer = lambda request, n: answered(document("org_a"))

    async def about(self, tenant: str | None = "org_a"):
        found = self.enriching.about(Identity(tenant, "u1"), REQUEST)
        await settle(20)
        return found

    @property
    def asked(self) -> int:
        return len(self.upstream.asked)


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.background.drain(0.0)
    assert made.failures == []


async def test_it_is_asked_once_for_all_members_and_again_in_time(world):
    assert await world.about() is None
    for _ in range(10):
        assert await world.about() == {"X-Org-Name": "name of org_a"}
    assert world.asked == 1
    world.clock.advance(901)
    world.says(lambda org: {"id": org, "name": "another"})
    assert await world.about() == {"X-Org-Name": "name of org_a"}  # as long as nothing newer is known
    assert await world.about() == {"X-Org-Name": "another"}
    assert world.asked == 2


async def test_it_is_asked_with_the_callers_credentials_and_without_ours(world):
    fields = (*REQUEST.fields, ("Cookie", "__Host-sidecache-ticket=t; __session=s"), ("X-Other", "1"))
    assert world.enriching.about(Identity("org_a"), Request("GET", "/api/jobs", Fields(fields))) is None
    await settle(20)
    (asked,) = world.upstream.asked
    assert list(asked.fields) == [*REQUEST.fields, ("Cookie", "__session=s"), ("Accept", "application/json")]


async def test_all_who_ask_at_once_cost_one_question_and_none_waits(world):
    world.upstream.gate = asyncio.Event()
    for _ in range(100):
        assert world.enriching.about(Identity("org_a"), REQUEST) is None
    await settle(20)
    assert world.asked == 1
    world.upstream.gate.set()
    await settle(20)
    assert await world.about() is not None
    assert world.enriching.counts["degraded"] == 100


BAD = [
    (answered(b"{"), "not-json"),
    (answered(b""), "not-json"),
    (answered(b"[]"), "not-json"),
    (answered(b"\xff"), "not-json"),
    (answered({"id": "org_b", "name": "theirs"}), "other-organisation"),
    (answered({"name": "whose?"}), "other-organisation"),
    (answered({"id": ["org_a"], "name": "x"}), "other-organisation"),
    (answered(json.dumps({"id": "org_a", "name": "x" * MOST}).encode()), "too-large"),
    (answered([b"x" * 1000] * 100), "too-large"),
    (answered({"id": "org_a"}, status=403), "failed"),
    (answered({"id": "org_a"}, status=500), "failed"),
    (answered({"id": "org_a"}, status=302), "failed"),
    (answered([b'{"id": "org_a"', UpstreamError("connection_terminated")]), "failed"),
    (UpstreamError("connection_refused"), "failed"),
]


@pytest.mark.parametrize(("answer", "why"), BAD, ids=[f"{number}-{why}" for number, (_, why) in enumerate(BAD)])
async def test_what_is_no_answer_is_dropped_and_counted(world, answer, why):
    world.upstream.answer = lambda request, n: answer
    await world.about()
    assert await world.about() is None
    assert world.enriching.counts[why] == 1
    assert world.enriching.document("org_a") is None
    assert all(stream.closed for stream in world.upstream.streams)


@pytest.mark.isolation
async def test_what_one_organisation_is_told_no_other_is(world):
    await world.about("org_a")
    assert await world.about("org_b") is None
    assert await world.about("org_b") is None  # the answer was about org_a
    assert await world.about("org_a") == {"X-Org-Name": "name of org_a"}


async def test_a_slow_answer_is_given_up(world, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    world.upstream.gate = asyncio.Event()
    await world.about()
    await until(lambda: world.enriching.counts["too-slow"])


async def test_after_a_failure_what_was_known_stays_and_it_is_asked_again_soon(world):
    await world.about()
    world.clock.advance(1000)
    world.upstream.answer = lambda request, n: answered(b"", status=503)
    await world.about()
    assert await world.about() == {"X-Org-Name": "name of org_a"}
    assert world.asked == 2
    world.clock.advance(6)
    await world.about()
    assert world.asked == 3


async def test_an_upstream_that_keeps_failing_is_left_alone_and_tried_now_and_then(world):
    world.upstream.answer = lambda request, n: UpstreamError("connection_refused")
    for number in range(40):
        await world.about(f"org_{number}")
    assert world.asked < 10
    assert world.enriching.counts["not-asked"] > 20
    world.upstream.answer = lambda request, n: answered({"id": "org_x", "name": "x"})
    world.clock.advance(5)
    await world.about("org_x")
    assert await world.about("org_x") == {"X-Org-Name": "x"}
    assert world.enriching.breaker.state == "closed"


async def test_other_rules_ask_anew_and_none_ask_nothing(world):
    await world.about()
    world.rule = Enrichment("/api/other", (("X-Name", "name"),))
    assert await world.about() is None
    assert await world.about() == {"X-Name": "name of org_a"}
    world.rule = None
    assert await world.about() == {}


async def test_who_has_no_organisation_has_nothing_to_be_told(world):
    assert await world.about(None) is None
    assert world.asked == 0


async def test_what_has_changed_is_asked_anew_and_memory_is_bounded(world):
    await world.about()
    world.enriching.forget("org_a")
    await world.about()
    assert world.asked == 2
    world.upstream.answer = lambda request, n: answered({"id": f"org_{n}", "name": "x"})
    for number in range(3, 80):
        await world.about(f"org_{number}")
    assert len(world.enriching._known) == 50
