"""proxy.serving.misses: what is fetched without a task, what is stored of it, and what is left to the ordinary way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.serving import misses as module
from proxy.serving.misses import Miss, Misses
from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.serving.short import DATE, Served, head, prompt, served
from tests.serving.test_forwarding_differential import SAYS, all_is_of_one_second, side
from tests.serving.test_hits_differential import RULES
from tests.wire import LIMIT, Answer, Client, Message, Peer, Upstream, chunked, response, until, upstream

__all__ = ["all_is_of_one_second"]  # for all tests here too

Scene = tuple[Served, Upstream, Client]
KNOWN = ["/origin/7", *(f"/api/jobs/{number}" for number in range(9))]  # their epochs are known
COLD = "sidecache; fwd=uri-miss; stored"
SLOW = "/api/jobs/7?page=2"  # what `held` keeps back


@asynccontextmanager
async def scene(answers: Any = None, timeouts: Timeouts | None = None, **more: Any) -> AsyncIterator[Scene]:
    """A sidecar with a connection to its upstream, and a client whom it knows."""
    answers = answers or response(b'{"a": 1}', f"Date: {DATE}", "Content-Type: application/json")
    async with upstream(answers) as up:
        through = HttpUpstream(f"http://127.0.0.1:{up.port}", timeouts or Timeouts(connect=5.0))
        async with served(RULES, through=through, fetches=True, **more) as made, await prompt(made.port) as client:
            for target in KNOWN:
                assert (await ask(client, target)).status == 200
            await made.settle()
            for key in made.world.cache.keys():  # noqa: SIM118
                await made.world.cache.drop(key)
            up.requests.clear()
            try:
                yield made, up, client
            finally:
                await made.settle()
                await through.close()


async def ask(client: Client, target: str, *lines: str, **more: Any) -> Message:
    await client.send(head(target, *lines, **more))
    return await client.response()


def held(gate: asyncio.Event) -> Answer:
    """An upstream that answers what is asked for at SLOW when the gate is opened, and all else at once."""

    async def answer(request: Message, peer: Peer) -> None:
        if request.target == SLOW.encode():
            await gate.wait()
        await peer.send(response(b"{}", f"Date: {DATE}"))

    return answer


async def test_misses_need_no_task_and_what_they_bring_is_stored():
    async with scene() as (made, up, client):
        before = made.fetched
        for number in range(5):
            assert (await ask(client, f"/api/jobs/{number}", f"Traceparent: {number}")).cache == COLD
        assert [now - then for now, then in zip(made.fetched, before, strict=True)] == [5, 5]
        assert [request.target for request in up.requests] == [b"/api/jobs/%d" % number for number in range(5)]
        assert [request.get("traceparent") for request in up.requests] == [str(number) for number in range(5)]
        assert {request.get("accept-encoding") for request in up.requests} == {"identity"}
        for number in range(5):
            assert (await ask(client, f"/api/jobs/{number}")).cache.startswith("sidecache; hit")
        await made.settle()
        assert len(await made.world.store.names("tenant:org_a:jobs:", "", 20)) > 0


async def test_what_is_not_in_the_key_is_not_sent():
    async with scene() as (_, up, client):
        await ask(client, "/api/jobs/7?utm_source=x&page=2", "X-Real-Ip: 192.0.2.1", "X-Forwarded-For: 192.0.2.2")
        (request,) = up.requests
        assert request.target == SLOW.encode()
        assert request.get("x-real-ip") is None
        assert request.get("x-forwarded-for") == "127.0.0.1"


async def test_a_response_selected_by_a_field_that_no_decision_reads_is_stored_for_its_value():
    async def by_referer(request: Message, peer: Peer) -> None:
        said = f'{{"by": "{request.get("referer")}"}}'.encode()
        await peer.send(response(said, f"Date: {DATE}", "Content-Type: application/json", "Vary: Referer"))

    async with scene(by_referer) as (made, _, client):
        begun, _ = made.fetched
        assert (await ask(client, "/api/jobs/7", "Referer: a")).body == b'{"by": "a"}'
        assert made.fetched[0] == begun + 1
        assert (await ask(client, "/api/jobs/7", "Referer: b")).body == b'{"by": "b"}'
        assert (await ask(client, "/api/jobs/7")).body == b'{"by": "None"}'
        again = await ask(client, "/api/jobs/7", "Referer: a")
        assert (again.body, again.cache.startswith("sidecache; hit")) == (b'{"by": "a"}', True)


async def test_all_who_want_the_same_at_once_cost_one_request():
    gate = asyncio.Event()
    async with scene(held(gate)) as (made, up, _):
        clients = [await prompt(made.port) for _ in range(64)]
        begun, _ = made.fetched
        for each in clients:
            await each.send(head(SLOW))
        await until(lambda: made.listener._under_way._count == 64)
        gate.set()
        got = [(await each.response()).status for each in clients]
        assert (got, len(up.requests), made.fetched[0]) == ([200] * 64, 1, begun + 1)
        for each in clients:
            await each.close()


async def test_who_must_wait_for_others_is_not_parsed_first():
    gate = asyncio.Event()
    async with scene(held(gate)) as (made, up, client):
        other = await prompt(made.port)
        await ask(other, "/api/jobs/1")
        await client.send(head(SLOW, "Referer: a"))
        await until(lambda: len(up.requests) == 2)
        decided = made.hits.decided
        await other.send(head(SLOW, "Referer: b"))
        await until(lambda: made.listener._under_way._count == 2)
        gate.set()
        assert [(await each.response()).cache for each in (client, other)] == [
            COLD,
            "sidecache; fwd=uri-miss; ttl=40; collapsed",
        ]
        assert made.hits.decided == decided
        await other.close()


async def test_what_was_purged_on_its_way_is_served_to_nobody_else():
    gate, version = asyncio.Event(), [1]

    async def slow(request: Message, peer: Peer) -> None:
        said = b"%d" % version[0]
        if request.target == SLOW.encode() and not gate.is_set():
            await gate.wait()
        await peer.send(response(said, f"Date: {DATE}"))

    async with scene(slow) as (made, up, client):
        await client.send(head(SLOW))
        await until(lambda: len(up.requests) == 1)
        version[0] = 2
        await made.world.epochs.advance({"org_a": ["jobs:7"]})
        gate.set()
        assert (await client.response()).body == b"1"
        assert (await ask(client, SLOW)).body == b"2"


async def test_a_fill_outlives_its_client():
    gate = asyncio.Event()
    async with scene(held(gate)) as (made, up, client):
        other = await prompt(made.port)
        await other.send(head(SLOW))
        await until(lambda: len(up.requests) == 1)
        await other.close()
        server = made.listener._runner.server
        await until(lambda: any(each.transport is None for each in server.connections))
        gate.set()
        await until(lambda: not made.listener._under_way._count)
        assert (await ask(client, SLOW)).cache.startswith("sidecache; hit")
        assert len(up.requests) == 1


async def test_a_body_that_is_slow_does_not_keep_its_head_waiting():
    gate = asyncio.Event()
    whole = response(b"abcdef", f"Date: {DATE}")

    async def slow(request: Message, peer: Peer) -> None:
        if request.target != SLOW.encode():
            await peer.send(whole)
            return
        await peer.send(whole[:-3])
        await gate.wait()
        await peer.send(whole[-3:])

    async with scene(slow) as (made, _, client):
        _, answered = made.fetched
        await client.send(head(SLOW))
        got = await asyncio.wait_for(client.head(), LIMIT)
        gate.set()
        assert (await client.body(got), got.cache) == (b"abcdef", COLD)
        assert made.fetched[1] == answered
        assert (await ask(client, SLOW)).cache.startswith("sidecache; hit")


@pytest.mark.parametrize("cut", [False, True])
async def test_a_body_that_is_long_or_cut_off_before_it_is_late_is_handed_over_once(cut, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    handed: list[Miss] = []
    began, gate, hand_over = asyncio.Event(), asyncio.Event(), Miss._hand_over
    parts = [b"a", b"b" * (module._LARGEST + 1), b"c"]
    first, second, third = (
        chunked(parts[:1], f"Date: {DATE}", end=False),
        chunked(parts[1:2], end=False),
        chunked([b"c"]),
    )

    def noted(self: Miss, answer: Any) -> None:
        handed.append(self)
        hand_over(self, answer)

    async def slow(request: Message, peer: Peer) -> None:
        if request.target != SLOW.encode():
            await peer.send(response(b"{}", f"Date: {DATE}"))
            return
        await peer.send(first)
        await began.wait()
        if not cut:
            await peer.send(second.partition(b"\r\n\r\n")[2])
            await gate.wait()
            await peer.send(third.partition(b"\r\n\r\n")[2])
        peer.close()

    monkeypatch.setattr(Miss, "_hand_over", noted)
    async with scene(slow) as (made, _, client):
        misses = made.listener.misses
        assert misses is not None
        await client.send(head(SLOW))
        await until(lambda: len(misses.bodies) == 1)
        began.set()
        await until(lambda: len(handed) == 1)
        await until(lambda: misses.bodies._timer is None)
        gate.set()
        if not cut:
            assert (await client.response()).body == b"".join(parts)
            again = await ask(client, SLOW)
            assert (again.body, again.cache.startswith("sidecache; hit")) == (b"".join(parts), True)
        await until(lambda: not made.listener._under_way._count)
        assert len(handed) == 1


async def test_a_head_that_never_comes_is_a_504():
    async with scene(held(asyncio.Event()), Timeouts(connect=5.0, first_byte=0.2)) as (_, _, client):
        late = await ask(client, SLOW)
        assert (late.status, late.cache) == (504, "sidecache; fwd=uri-miss; detail=upstream-failed")
        assert (await ask(client, "/api/jobs/8")).status == 200


async def test_while_leaving_the_answer_ends_the_connection():
    gate = asyncio.Event()
    async with scene(held(gate)) as (made, up, client):
        await client.send(head(SLOW))
        await until(lambda: len(up.requests) == 1)
        made.listener.leaving()
        gate.set()
        assert (await client.response()).get("connection") == "close"
        assert await client.ended()


async def test_what_comes_behind_the_head_is_answered_next():
    async with scene() as (_, up, client):
        await client.send(head("/api/jobs/7"))
        await client.send(head("/api/jobs/8"))
        assert [(await client.response()).cache for _ in range(2)] == [COLD, COLD]
        assert sorted(request.target for request in up.requests) == [b"/api/jobs/7", b"/api/jobs/8"]


async def test_should_judging_an_answer_fail_its_client_gets_one_all_the_same(monkeypatch):
    async with scene() as (_, _, client):
        monkeypatch.setattr("proxy.serving.keeping.Keeping.put_now", _broken)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        assert (await ask(client, "/api/jobs/7")).status == 502


def _broken(*_: Any) -> None:
    raise ArithmeticError("broken")


@pytest.mark.parametrize(
    "lines",
    [("Range: bytes=0-1",), ("Cache-Control: only-if-cached",)],
)
async def test_what_more_must_be_known_of_takes_the_ordinary_way(lines):
    async with scene() as (made, _, client):
        begun = made.fetched
        await ask(client, "/origin/7", *lines)
        assert made.fetched == begun


@pytest.mark.parametrize("kind", SAYS)
async def test_whatever_the_upstream_says_comes_out_alike(kind):
    async with side(False, fetches=True) as a, side(False) as b:
        for each in (a, b):  # so that the epochs are known
            for number in range(6):
                await each.play("plain", [head(f"/api/jobs/{number}")], ["GET"])
            for key in each.made.world.cache.keys():  # noqa: SIM118
                await each.made.world.cache.drop(key)
            each.asked()
        for number in range(6):
            for each in (a, b):  # so that a connection waits for the request
                assert (await each.play("plain", [head("/other/0")], ["GET"]))[0].startswith(b"HTTP/1.1 200")
            sent = [head(f"/api/jobs/{number}", f"Referer: {number}")]
            assert await a.play(kind, sent, ["GET"]) == await b.play(kind, sent, ["GET"])
            assert a.asked() == b.asked()
            again = [head(f"/api/jobs/{number}")]
            assert await a.play("plain", again, ["GET"]) == await b.play("plain", again, ["GET"])
            assert a.asked() == b.asked()
        assert a.made.counted() == b.made.counted()
        assert a.made.events == b.made.events
        assert a.made.fetched[0] >= 4


# Positive controls: broken short ways, each of which a test above must find out


async def test_one_that_does_not_repeat_is_found_out(monkeypatch):
    monkeypatch.setattr(module, "may_repeat", lambda *_: False)
    with pytest.raises(AssertionError):
        await test_whatever_the_upstream_says_comes_out_alike("nothing")


async def test_one_that_takes_what_was_cut_short_for_whole_is_found_out(monkeypatch):
    fail = Miss.fail

    def broken(self: Miss, error: BaseException) -> None:
        if self.head is not None:
            self.finish()
        else:
            fail(self, error)

    monkeypatch.setattr(Miss, "fail", broken)
    with pytest.raises(AssertionError):
        await test_whatever_the_upstream_says_comes_out_alike("cut between chunks")


async def test_one_that_reads_no_more_than_the_caller_is_found_out(monkeypatch):
    made = Misses._made

    def broken(self: Misses, reading: Any, *more: Any) -> Any:
        found = made(self, reading, *more)
        return found and (found[0], lambda: reading.request)

    monkeypatch.setattr(Misses, "_made", broken)
    with pytest.raises(AssertionError):
        await test_a_response_selected_by_a_field_that_no_decision_reads_is_stored_for_its_value()
