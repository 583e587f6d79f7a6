"""The Events consumer against a local server that behaves as Auth0's documentation says, on its bad days too."""

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from proxy.sessions.auth0 import LEASE, PLACE, Account, Auth0Events
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble
from tests.wire import until

WHEN = "2023-11-14T22:13:00Z"
INSTANT = 1_700_000_000.0 - 20


class Auth0:
    """Events in order, each under an offset; a connection ends when told."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, str, Any]] = []  # offset, event, data
        self.asked: list[web.Request] = []
        self.tokens = 0
        self.open = 0
        self.most_open = 0
        self.known = True  # whether offsets of before are known
        self.status = 200
        self.token_status = 200
        self.changed = asyncio.Event()
        self.recycled = asyncio.Event()
        self.url = ""

    def say(self, kind: str, object_: Any, *, time: Any = WHEN, id: str = "evt") -> None:
        offset = f"o{len(self.frames) + 1}"
        event = {"id": id, "type": kind, "time": time, "specversion": "1.0", "data": {"object": object_}}
        self.add(offset, kind, {"offset": offset, "event": event})

    def progress(self) -> None:
        offset = f"o{len(self.frames) + 1}"
        self.add(offset, "offset-only", {"offset": offset})

    def add(self, offset: str, event: str, data: Any) -> None:
        self.frames.append((offset, event, data))
        self.changed.set()
        self.changed = asyncio.Event()

    def recycle(self) -> None:
        self.recycled.set()
        self.recycled = asyncio.Event()

    async def token(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["grant_type"] == "client_credentials"
        assert asked["audience"] == f"{self.url}/api/v2/"
        if self.token_status != 200:
            return web.json_response({"error": "access_denied"}, status=self.token_status)
        self.tokens += 1
        return web.json_response({"access_token": f"t{self.tokens}", "expires_in": 86400})

    async def events(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if self.status != 200:
            return web.json_response({"error": "no"}, status=self.status)
        offset = request.headers.get("Last-Event-ID")
        if offset is not None and not self.known:
            return web.json_response({"error": "unknown offset"}, status=400)
        at = int(offset[1:]) if offset is not None else 0
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b":connected\n\nretry: 1\n\n")
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        ended = asyncio.ensure_future(self.recycled.wait())
        try:
            while not ended.done():
                changed = self.changed
                for offset, event, data in self.frames[at:]:
                    text = data if isinstance(data, str) else json.dumps(data)
                    await response.write(f"event: {event}\nid: {offset}\ndata: {text}\n\n".encode())
                    if event == "error":
                        return response
                at = len(self.frames)
                await response.write(b": heartbeat\n\n")
                waiting = asyncio.ensure_future(changed.wait())
                await asyncio.wait((ended, waiting), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        finally:
            self.open -= 1
            ended.cancel()
        return response


class Effects:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, float]] = []

    async def ended(self, subjects, instant, *, why, tenant=None) -> bool:
        self.seen += [("ended", subject, instant) for subject in subjects]
        return True

    async def changed(self, subject, instant, tenant, *, why, rejects) -> bool:
        self.seen.append(("changed", subject, instant))
        return True


class World:
    def __init__(self, auth0: Auth0) -> None:
        self.auth0 = auth0
        self.clock = FakeClock()
        self.store = StoreDouble(MemoryStore(1 << 20, self.clock))
        self.effects = Effects()
        self.updated: list[str] = []
        self.reports: list[str] = []
        self.running: list[asyncio.Task[None]] = []

    def replica(self, name: str) -> Auth0Events:
        made = Auth0Events(
            Account(self.auth0.url, "client", "secret"), self.store, self.effects, self.clock, name,
            updated=self.updated.append, report=lambda event, details: self.reports.append(event), sleep=self.sleep,
        )  # fmt: skip
        self.running.append(asyncio.ensure_future(made.run()))
        return made

    async def sleep(self, seconds: float) -> None:
        """A moment, in which leases and pauses pass."""
        await asyncio.sleep(0.01)

    async def end(self, index: int = 0) -> None:
        task = self.running.pop(index)
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def worlds():
    auth0 = Auth0()
    app = web.Application()
    app.router.add_post("/oauth/token", auth0.token)
    app.router.add_get("/api/v2/events", auth0.events)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    auth0.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    world = World(auth0)
    try:
        yield world
    finally:
        while world.running:
            await world.end()
        await runner.cleanup()


@pytest.fixture
async def world():
    async with worlds() as made:
        yield made


ORG, USER = {"id": "org_a"}, {"user_id": "auth0|ada"}


@pytest.mark.parametrize(
    ("kind", "object_", "expected"),
    [
        ("organization.member.role.assigned", {"organization": ORG, "user": USER, "role": {"id": "r"}},
         ("changed", "m:org_a:auth0|ada")),
        ("organization.member.role.deleted", {"organization": ORG, "user": USER, "role": {"id": "r"}},
         ("changed", "m:org_a:auth0|ada")),
        ("organization.member.deleted", {"organization": ORG, "user": USER}, ("ended", "m:org_a:auth0|ada")),
        ("organization.group.role.assigned", {"organization": ORG, "group": {"id": "g"}}, ("changed", "o:org_a")),
        ("organization.deleted", {"id": "org_a", "name": "x"}, ("ended", "o:org_a")),
        ("group.member.deleted", {"group": {"id": "g"}, "user": USER}, ("changed", "u:auth0|ada")),
        ("user.deleted", USER, ("ended", "u:auth0|ada")),
        ("user.updated", {**USER, "blocked": True}, ("ended", "u:auth0|ada")),
    ],
)  # fmt: skip
async def test_what_happens_at_auth0_has_its_effect_as_of_when_it_happened(world, kind, object_, expected):
    world.auth0.say(kind, object_)
    world.replica("a")
    await until(lambda: world.effects.seen)
    assert world.effects.seen == [(*expected, INSTANT)]


async def test_what_has_no_effect_is_passed_over_and_what_cannot_be_read_too(world):
    auth0 = world.auth0
    auth0.say("user.updated", USER)
    auth0.say("user.updated", {**USER, "blocked": "true"})
    auth0.say("user.created", USER)
    auth0.say("organization.member.added", {"organization": ORG})
    auth0.say("organization.member.deleted", {"organization": {"id": "a b"}, "user": USER})
    auth0.say("organization.member.deleted", {"organization": ORG, "user": {"user_id": 7}})
    for data in ("{", "[]", {}, {"event": 7}, {"event": {"type": "user.deleted"}}, {"event": {"data": {"object": {}}}},
                 {"event": {"type": 7, "data": {"object": {}}}}):  # fmt: skip
        auth0.add(f"o{len(auth0.frames) + 1}", "user.deleted", data)
    auth0.say("organization.updated", {"id": "org_a"})
    one = world.replica("a")
    await until(lambda: world.updated == ["org_a"])
    assert world.effects.seen == []
    assert (one.counts["passed-over"], one.counts["malformed"]) == (6, 7)


@pytest.mark.parametrize("time", [None, 7, "yesterday", "", "9999-99-99T00:00:00Z"])
async def test_an_event_that_does_not_say_when_is_of_now(world, time):
    world.auth0.say("user.deleted", USER, time=time)
    world.replica("a")
    await until(lambda: world.effects.seen)
    assert world.effects.seen[0][2] == world.clock()


async def test_the_first_connection_asks_for_these_types_from_about_now_on(world):
    world.replica("a")
    await until(lambda: world.auth0.asked)
    (request,) = world.auth0.asked
    assert "organization.member.role.assigned" in request.query.getall("event_type")
    assert len(request.query.getall("event_type")) <= 20
    assert request.query["from_timestamp"] == "2023-11-14T22:11:20Z"
    assert request.headers["Authorization"] == "Bearer t1"
    assert "Last-Event-ID" not in request.headers


async def test_it_resumes_behind_what_it_has_heard_when_the_service_ends_a_connection(world):
    auth0 = world.auth0
    one = world.replica("a")
    for number in range(4):
        auth0.say("user.deleted", {"user_id": f"u{number}"})
        await until(lambda number=number: len(world.effects.seen) == number + 1)
        auth0.recycle()
        await until(lambda number=number: len(auth0.asked) == number + 2)
    assert [each[1] for each in world.effects.seen] == [f"u:u{number}" for number in range(4)]
    assert [request.headers.get("Last-Event-ID") for request in auth0.asked] == [None, "o1", "o2", "o3", "o4"]
    assert one.counts["failed"] == 0
    assert auth0.tokens == 1


async def test_progress_alone_moves_the_place_too(world):
    auth0 = world.auth0
    auth0.progress()
    world.replica("a")
    await until(lambda: auth0.open)
    auth0.progress()
    auth0.recycle()
    await until(lambda: len(auth0.asked) == 2)
    assert auth0.asked[1].headers["Last-Event-ID"] in ("o1", "o2")
    await world.end()
    assert json.loads((await world.store.inner.get([PLACE]))[0])[0] in ("o1", "o2")


async def test_after_a_restart_it_goes_on_where_it_was_and_misses_nothing(world):
    auth0 = world.auth0
    world.replica("a")
    auth0.say("user.deleted", {"user_id": "u1"})
    await until(lambda: len(world.effects.seen) == 1)
    await world.end()
    auth0.say("user.deleted", {"user_id": "u2"})
    world.replica("b")
    await until(lambda: len(world.effects.seen) == 2)
    assert [each[1] for each in world.effects.seen] == ["u:u1", "u:u2"]


async def test_duplicates_and_disorder_are_instants_like_others(world):
    auth0 = world.auth0
    for time in ("2023-11-14T22:13:10Z", "2023-11-14T22:12:00Z", "2023-11-14T22:13:10Z"):
        auth0.say("user.deleted", USER, time=time)
    world.replica("a")
    await until(lambda: len(world.effects.seen) == 3)
    assert [each[2] for each in world.effects.seen] == [INSTANT + 10, INSTANT - 60, INSTANT + 10]


async def test_one_replica_follows_and_another_when_it_is_gone(world):
    auth0 = world.auth0
    replicas = [world.replica(name) for name in "abc"]
    await until(lambda: auth0.open == 1)
    auth0.say("user.deleted", {"user_id": "u1"})
    await until(lambda: world.effects.seen)
    assert sum(each.leads for each in replicas) == 1
    leader = next(index for index, each in enumerate(replicas) if each.leads)
    await world.end(leader)
    auth0.say("user.deleted", {"user_id": "u2"})
    await until(lambda: len(world.effects.seen) == 2)
    assert auth0.most_open == 1


async def test_a_leader_that_ended_without_a_word_is_replaced_when_its_lease_is_over(world):
    await world.store.claim(LEASE, b"gone", 15)
    one = world.replica("b")
    await asyncio.sleep(0.05)
    assert not one.leads
    world.clock.advance(15)
    await until(lambda: one.leads)


async def test_without_the_store_nobody_leads(world):
    one = world.replica("a")
    await until(lambda: world.auth0.open == 1)
    world.store.down = {"claim", "get", "replace", "set"}
    await until(lambda: not one.leads and world.auth0.open == 0)
    world.store.down = set()
    await until(lambda: one.leads and world.auth0.open == 1)


async def test_a_place_that_the_service_does_not_know_any_more_becomes_a_time(world):
    auth0 = world.auth0
    auth0.say("user.deleted", {"user_id": "u1"})
    world.replica("a")
    await until(lambda: len(world.effects.seen) == 1)
    auth0.known = False
    auth0.recycle()
    await until(lambda: len(auth0.asked) == 3)
    assert "from_timestamp" in auth0.asked[2].query
    await until(lambda: len(world.effects.seen) == 2)  # what is heard twice does no harm
    assert world.reports[0] == "auth0-events-lost"
    await until(lambda: "auth0-events-heard" in world.reports)


async def test_an_error_that_the_service_tells_ends_the_connection_and_it_is_tried_again(world):
    auth0 = world.auth0
    auth0.add("o1", "error", {"error": "internal"})
    one = world.replica("a")
    await until(lambda: one.counts["failed"] >= 2)
    auth0.frames[0] = (
        "o1",
        "user.deleted",
        {"event": {"type": "user.deleted", "time": WHEN, "data": {"object": USER}}},
    )
    await until(lambda: world.effects.seen)
    assert world.reports.count("auth0-events-lost") == 1  # said once, however often it fails


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_service_that_refuses_is_tried_again_with_a_new_token_where_that_may_help(world, status):
    auth0 = world.auth0
    auth0.status = status
    one = world.replica("a")
    await until(lambda: one.counts["failed"] >= 3)
    assert (auth0.tokens > 1) is (status in (401, 403))
    auth0.status = 200
    await until(lambda: auth0.open == 1)


async def test_wrong_credentials_are_said_without_being_shown(world):
    world.auth0.token_status = 401
    one = world.replica("a")
    await until(lambda: one.counts["failed"] >= 2)
    assert world.auth0.asked == []
    assert world.reports == ["auth0-events-lost"]
