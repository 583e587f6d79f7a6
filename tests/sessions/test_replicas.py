"""Real replicas on a real store, in front of the demo portal: who logged out through one is refused by all."""

import asyncio
import json
import re
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests import servers
from tests.chaos import Chaos
from tests.faults.scene import plain, reached_at
from tests.sessions.scene import BOUND, ROOM, scene
from tests.wire import until

pytestmark = [pytest.mark.process, servers.needs_redis]

PUSHED = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")


@pytest.fixture(scope="module")
def server():
    with plain() as made:
        yield made


@pytest.fixture(autouse=True)
def empty(server):
    server.flush()


async def test_who_logs_out_through_one_replica_is_refused_by_the_other(server, tmp_path):
    async with scene(tmp_path, reached_at(server), reached_at(server)) as s:
        ada, other = await s.token(), await s.token(user="bruno@acme.example")
        for replica in range(2):
            await s.hit(replica, "/api/jobs", ada)
            await s.hit(replica, "/api/jobs", other)
        assert (await s.ask(0, "/api/logout", ada, method="POST"))[0] == 204
        status, cache, body, headers = await s.ask(0, "/api/jobs", ada)
        assert (status, cache) == (401, "sidecache; detail=revoked")
        assert headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert headers["Cache-Control"] == "no-store"
        assert json.loads(body)["status"] == 401
        await s.seconds_until(1, "/api/jobs", ada)
        for path in ("/api/jobs", "/api/me", "/api/live-nobody-knows"):
            assert (await s.ask(1, path, ada))[0] == 401
        assert (await s.ask(1, "/api/jobs", ada, method="POST", json={"title": "x"}))[0] == 401
        assert (await s.ask(1, "/api/logout", ada, method="POST"))[0] == 204  # once more is no mistake
        assert (await s.ask(1, "/api/jobs", other))[0] == 200


@asynccontextmanager
async def deaf(server):
    async with Chaos("127.0.0.1", server.port) as chaos:
        chaos.rewrite = lambda said: PUSHED.sub(b"", said)
        yield chaos


async def test_without_messages_it_takes_no_more_than_a_second(server, tmp_path):
    async with deaf(server) as chaos, scene(tmp_path, reached_at(server), reached_at(server, chaos.port)) as s:
        token = await s.token()
        await s.hit(1, "/api/jobs", token)
        assert (await s.ask(0, "/auth/logout", token))[0] == 302
        assert await s.seconds_until(1, "/api/jobs", token) < BOUND * ROOM


async def test_a_new_token_is_welcome_again(server, tmp_path):
    async with scene(tmp_path, reached_at(server)) as s:
        token = await s.token()
        await s.ask(0, "/api/logout", token, method="POST")
        assert (await s.ask(0, "/api/jobs", token))[0] == 401
        await s.token_that(lambda later: s.ask(0, "/api/jobs", later), lambda answer: answer[0] == 200)


async def test_changed_roles_make_what_was_stored_under_the_old_ones_unreachable(server, tmp_path):
    async with scene(tmp_path, reached_at(server), reached_at(server)) as s:
        admin, bob = await s.token(), await s.token(user="bruno@acme.example")
        user = s.issuer.verify(bob)["sub"]
        for replica in range(2):
            before = json.loads(await s.hit(replica, "/api/me", bob))
        path = f"/api/members/{user.replace('|', '%7C')}/roles"
        status, _, _, _ = await s.ask(0, path, admin, method="PUT", json={"roles": []})
        assert status == 200
        status, cache, body, _ = await s.ask(0, "/api/me", bob)
        assert (status, cache) == (200, "sidecache; fwd=bypass; detail=rights-changed")
        assert json.loads(body)["roles"] == [] != before["roles"]
        async with asyncio.timeout(BOUND * ROOM):
            while "rights-changed" not in (await s.ask(1, "/api/me", bob))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        # what needs a permission needs a token that is sure of it; what does not is served as ever
        assert "rights-changed" in (await s.ask(1, "/api/jobs", bob))[1]
        await s.hit(1, "/api/organizations/current", bob)
        newer = await s.token_that(
            lambda later: s.ask(1, "/api/me", later), lambda answer: "rights" not in answer[1], user=user
        )
        for replica in range(2):
            assert json.loads(await s.hit(replica, "/api/me", newer))["roles"] == []
        assert (await s.ask(0, "/api/me", admin))[0] == 200


async def test_a_replica_that_starts_later_knows_who_has_logged_out(server, tmp_path):
    async with scene(tmp_path, reached_at(server)) as s:
        token = await s.token()
        await s.ask(0, "/api/logout", token, method="POST")
        key = s.issuer
        (tmp_path / "more").mkdir()
        async with scene(tmp_path / "more", reached_at(server)) as late:
            # of another portal and issuer: its own token for the same member
            claims = key.verify(token)
            same = late.issuer.token(claims["sub"], "org_acme", claims["permissions"], now=claims["iat"])
            assert (await late.ask(0, "/api/jobs", same))[0] == 401


async def test_a_websocket_and_an_event_stream_end_with_the_session(server, tmp_path):
    async with scene(tmp_path, reached_at(server), reached_at(server)) as s:
        token = await s.token()
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            s.session.ws_connect(s.url(1, "/api/live"), headers=headers) as socket,
            s.session.get(s.url(1, "/api/stream"), headers=headers) as stream,
        ):
            assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT
            assert await stream.content.readany()
            await s.ask(0, "/api/logout", token, method="POST")
            async with asyncio.timeout(BOUND * ROOM):
                while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
                with pytest.raises(aiohttp.ClientError):
                    await stream.read()
        async with s.session.get(s.url(1, "/api/stream"), headers=headers) as stream:
            assert stream.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await s.session.ws_connect(s.url(1, "/api/live"), headers=headers)
        assert refused.value.status == 401


async def test_a_logout_while_the_store_is_down_holds_here_and_is_told_when_it_is_back(tmp_path):
    with plain() as server:
        async with scene(tmp_path, reached_at(server), reached_at(server)) as s:
            token = await s.token()
            await s.hit(1, "/api/jobs", token)
            server.pause()
            try:
                assert (await s.ask(0, "/api/logout", token, method="POST"))[0] == 204
                assert (await s.ask(0, "/api/jobs", token))[0] == 401
            finally:
                server.resume()
            async with asyncio.timeout(10):
                while (await s.ask(1, "/api/jobs", token))[0] != 401:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)


async def test_a_store_that_comes_back_empty_is_told_again(tmp_path):
    port = servers.free_port()
    with servers.running(servers.redis_server(port=port)) as server:
        async with scene(tmp_path, reached_at(server)) as s:
            token = await s.token()
            await s.ask(0, "/api/logout", token, method="POST")
            server.kill()
            with servers.running(servers.redis_server(port=port)) as again:
                await until(lambda: again.admin.xlen("shared:revocations"))
                assert (await s.ask(0, "/api/jobs", token))[0] == 401
