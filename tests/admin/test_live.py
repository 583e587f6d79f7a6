"""The stream of an open dashboard: who sees what, that frames are made once, and that it ends."""

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from proxy.admin import live
from proxy.admin.sessions import LIFETIME
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.recent import Seen
from tests.admin.world import TOKENS, World, bearer


def miss(tenant: str = "org_a", feature: str = "jobs") -> Outcome:
    return Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature=feature, tenant=tenant)


async def event(stream: ClientResponse) -> tuple[str, dict[str, Any]]:
    async with asyncio.timeout(5):
        name = (await stream.content.readline()).decode().removeprefix("event: ").strip()
        data = (await stream.content.readline()).removeprefix(b"data: ")
        assert await stream.content.readline() == b"\n"
    return name, orjson.loads(data)


async def is_let_in(world: World, client: TestClient) -> None:
    """Once others have gone, which is noticed when the next frame is written."""
    for _ in range(50):
        await world.course.turn()
        async with client.get("/api/live", headers=bearer("viewer")) as again:
            if again.status == 200:
                return
    raise AssertionError("nobody made room")


async def test_a_page_is_told_the_last_minutes_at_once_and_then_each_turn(world: World, client: TestClient):
    for _ in range(3):
        world.seen("GET", "/api/jobs/77", miss())
        world.clock.advance(2.0)
        await world.course.turn()
    async with client.get("/api/live", headers=bearer("inspector")) as stream:
        assert (stream.content_type, stream.headers["Cache-Control"]) == ("text/event-stream", "no-store")
        name, past = await event(stream)
        assert (name, len(past["rows"]), len(past["requests"])) == ("past", 2, 3)
        assert len(past["rows"][0]) == len(past["columns"])
        name, now = await event(stream)
        assert (name, now["requests"], now["minute"]["misses"], now["total"]["misses"]) == ("now", [], 2, 3)
        assert now["status"]["verdict"]["level"] == "ok"
        world.seen("GET", "/api/jobs/78", miss())
        await world.course.turn()
        _, now = await event(stream)
        (seen,) = now["requests"]
        assert (seen["request"], seen["plain"], seen["reason"], seen["tenant"], seen["result"]) == (
            "GET /api/jobs/78", True, "cold", "org_a", "miss",
        )  # fmt: skip


SEES = [
    ("viewer", {"GET /api/jobs/{job-id}", "GET /api/secrets/{secret-id}", "GET /api/jobs"}),
    ("operator", {"GET /api/jobs/{job-id}", "GET /api/secrets/{secret-id}", "GET /api/jobs"}),
    ("inspector", {"GET /api/jobs/77", "GET /api/secrets/{secret-id}", "GET /api/jobs"}),
    ("viewer-a", {"GET /api/jobs/{job-id}", "GET /api/secrets/{secret-id}"}),
    ("inspector-a", {"GET /api/jobs/77", "GET /api/secrets/{secret-id}"}),
]


@pytest.mark.parametrize(("who", "requests"), SEES)
@pytest.mark.isolation
async def test_each_sees_what_is_theirs(world: World, client: TestClient, who, requests):
    """Paths hold ids: they are for those who may list keys. Those of sensitive features are for nobody."""
    world.seen("GET", "/api/jobs/77", miss())
    world.seen("GET", "/api/secrets/s1", miss(feature="secrets"))
    world.seen("GET", "/api/jobs", miss("org_b"))
    await world.course.turn()
    async with client.get("/api/live", headers=bearer(who)) as stream:
        _, past = await event(stream)
        _, now = await event(stream)
    assert {each["request"] for each in past["requests"]} == requests
    of_one = who.endswith("-a")
    assert ("rows" in past, "minute" in now, "features" in now["status"]) == (not of_one,) * 3
    assert of_one is not ("org_b" in str((past, now)))


async def test_markup_in_a_path_is_a_text_among_texts(world: World, client: TestClient):
    world.seen("GET", "/<img src=x onerror=alert(1)>\n\nevent: end", Outcome(Reason.NO_RULE))
    async with client.get("/api/live", headers=bearer("inspector")) as stream:
        _, past = await event(stream)
        assert past["requests"][0]["request"].endswith("event: end")
        assert (await event(stream))[0] == "now"


async def test_a_frame_is_made_once_for_all_who_may_see_the_same(world: World, client: TestClient):
    await world.course.turn()
    made = 0
    ping = world.health.details

    async def counted() -> dict[str, object]:
        nonlocal made
        made += 1
        return await ping()

    world.health.details = counted  # type: ignore[method-assign]
    streams = [await client.get("/api/live", headers=bearer(who)) for who in ("viewer", "operator", "viewer-a")]
    for stream in streams:
        assert [(await event(stream))[0] for _ in range(2)] == ["past", "now"]
    assert made == 2  # for all tenants, for one
    for _ in range(2):
        await world.course.turn()
        assert {(await event(stream))[0] for stream in streams} == {"now"}
    assert made == 6
    for stream in streams:
        stream.close()


async def test_nothing_is_made_for_nobody(world: World, client: TestClient, monkeypatch):
    asked: list[int] = []
    since = world.requests.since

    def counted(number: int) -> list[Seen]:
        asked.append(number)
        return since(number)

    monkeypatch.setattr(world.requests, "since", counted)
    async with client.get("/api/session"):
        for _ in range(5):
            await world.course.turn()
    assert asked == []
    async with client.get("/api/live", headers=bearer("viewer")) as stream:
        await event(stream)
        await event(stream)
        assert asked == [0, 0]  # for what was before, and up to where it is told


async def test_one_name_does_not_keep_all_others_from_watching(world: World, client: TestClient):
    streams = [await client.get("/api/live", headers=bearer("viewer")) for _ in range(live.MOST_OF_ONE + 1)]
    assert [stream.status for stream in streams] == [200] * live.MOST_OF_ONE + [429]
    assert "of vera watch already" in (await streams[-1].json(content_type=None))["detail"]
    async with client.get("/api/live", headers=bearer("operator")) as other:
        assert other.status == 200
    for stream in streams[:-1]:
        stream.close()
    await is_let_in(world, client)


async def test_so_many_watch_at_most(world: World, client: TestClient, monkeypatch):
    monkeypatch.setattr(live, "MOST_VIEWERS", 2)
    streams = [await client.get("/api/live", headers=bearer("viewer")) for _ in range(3)]
    assert [stream.status for stream in streams] == [200, 200, 503]
    for stream in streams[:2]:
        assert (await event(stream))[0] == "past"
        stream.close()
    await is_let_in(world, client)


async def test_it_ends_when_the_sidecar_does(world: World, client: TestClient):
    async with client.get("/api/live", headers=bearer("viewer")) as stream:
        for _ in range(2):
            await event(stream)
        world.health.draining = True
        await world.course.turn()
        _, now = await event(stream)
        assert now["status"]["verdict"]["level"] == "draining"
        assert await event(stream) == ("end", {"why": "draining"})
        assert await stream.content.read() == b""
    async with client.get("/api/live", headers=bearer("viewer")) as stream:
        assert stream.status == 503


@pytest.mark.parametrize("ended", ["by its time", "by log-out"])
async def test_it_ends_with_its_session(world: World, client: TestClient, ended: str):
    async with client.post("/api/login", json={"token": TOKENS["viewer"].token}) as answer:
        assert answer.status == 200
    async with client.get("/api/live") as stream:
        for _ in range(2):
            await event(stream)
        if ended == "by its time":
            world.clock.advance(LIFETIME)
        else:
            await client.post("/api/logout", headers={"Origin": str(client.make_url("/")).rstrip("/")})
        await world.course.turn()
        assert await event(stream) == ("end", {"why": "session"})
