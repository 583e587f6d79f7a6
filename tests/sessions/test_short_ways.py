"""A whole sidecar on real sockets: none of the short ways passes a logout, a revoked token or a forged name."""

import asyncio
import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import wire
from tests.serving.world import unsigned

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
features:
  jobs: {ttl: 10m, read: [GET /api/jobs, "GET /api/jobs/{job-id}"], write: [POST /api/jobs]}
  auth: {ttl: 10m, read: [GET /auth/**], write: []}
session:
  logout: [GET /auth/logout, GET /bye]
  headers: {}
"""
TELLING = RULES.replace("headers: {}", "headers: {X-User-Id: user, X-Roles: roles}")
DATE = "Date: Tue, 14 Nov 2023 22:13:20 GMT"


def token(user: str = "u1", org: str = "org_a") -> str:
    return unsigned(org, user, iat=int(time.time()) - 60)


def bearer(user: str = "u1", org: str = "org_a") -> str:
    return f"Authorization: Bearer {token(user, org)}"


async def answer(request: wire.Message, peer: wire.Peer) -> None:
    """Who asked, as the upstream was told; a stream of events that does not end."""
    if request.target == b"/stream":
        await peer.send(
            wire.response(b"", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", length=False)
        )
        await peer.send(b"6\r\ndata:\n\r\n")
        await peer.gone.wait()
        return
    said = {"user": request.get("x-user-id"), "roles": request.get("x-roles"), "path": request.target.decode()}
    await peer.send(wire.response(json.dumps(said).encode(), DATE, "Content-Type: application/json"))


@pytest.fixture
async def made(tmp_path):
    async with wire.upstream(answer) as upstream, wire.sidecar(upstream.port, tmp_path, RULES) as sidecar:
        yield upstream, sidecar


@pytest.fixture
async def telling(tmp_path):
    async with wire.upstream(answer) as upstream, wire.sidecar(upstream.port, tmp_path, TELLING) as sidecar:
        yield upstream, sidecar


async def figure(sidecar, name: str, **labels: str) -> float:
    text = (await wire.fetch(sidecar.admin_port, "/metrics", host="127.0.0.1")).body.decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def ask(client: wire.Client, target: str, *headers: str, times: int = 1) -> set[int]:
    return {(await client.ask(target, *headers)).status for _ in range(times)}


@pytest.mark.parametrize("way", ["/auth/logout", "/bye"])
async def test_a_logout_is_seen_however_alike_the_requests_before_it_were(made, way):
    upstream, sidecar = made
    async with await wire.connect(sidecar.data_port) as client:
        for number in range(12):
            assert await ask(client, f"/plain/{number % 3}", bearer(), times=2) == {200}
            assert await ask(client, f"/auth/page{number % 3}", bearer(), times=2) == {200}
            assert await ask(client, f"/api/jobs/{number % 3}", bearer(), times=2) == {200}
        before = len(upstream.requests)
        assert await ask(client, way, bearer()) == {200}
        assert [request.target.decode() for request in upstream.requests[before:]] == [way]
        for target in ("/plain/0", "/plain/1", "/auth/page0", "/api/jobs/0", "/api/jobs", "/plain/new"):
            assert await ask(client, target, bearer(), times=3) == {401}
        assert await ask(client, "/plain/0", bearer("u2"), times=3) == {200}
        assert len(upstream.requests) == before + 4
        # all of that was about the short ways
        assert await figure(sidecar, "sidecache_hits_at_once_total") > 10


async def test_one_clients_logout_stops_what_others_connections_remember_of_it(made):
    _, sidecar = made
    clients = [await wire.connect(sidecar.data_port) for _ in range(4)]
    for client in clients:
        assert await ask(client, "/plain/1", bearer(), times=6) == {200}
        assert await ask(client, "/api/jobs", bearer(), times=6) == {200}
    assert await ask(clients[0], "/bye", bearer()) == {200}
    for client in clients:
        assert await ask(client, "/plain/1", bearer()) == {401}
        assert await ask(client, "/api/jobs", bearer()) == {401}
        await client.close()


@pytest.mark.isolation
async def test_each_request_names_its_own_caller_whatever_was_forwarded_before(telling):
    _, sidecar = telling
    async with await wire.connect(sidecar.data_port) as client:
        for number in range(10):
            for user in ("u1", "u2"):
                said = await client.ask(f"/plain/{number % 2}", bearer(user))
                assert json.loads(said.body)["user"] == user
            said = await client.ask(f"/plain/{number % 2}")
            assert json.loads(said.body)["user"] is None


@pytest.mark.parametrize("name", ["X-User-Id", "x_user_id", "X-ROLES"])
async def test_no_short_way_carries_a_forged_name(telling, name):
    upstream, sidecar = telling
    async with await wire.connect(sidecar.data_port) as client:
        for number in range(8):
            for target in (f"/plain/{number % 2}", "/api/jobs", f"/api/jobs/{number}"):
                await client.ask(target, bearer(), f"{name}: forged")
                await client.ask(target, f"{name}: forged")
    assert b"forged" not in b"".join(request.raw for request in upstream.requests)


async def test_a_stream_that_is_only_passed_on_ends_with_its_session(made):
    _, sidecar = made
    async with await wire.connect(sidecar.data_port) as reader, await wire.connect(sidecar.data_port) as client:
        assert await ask(reader, "/plain/1", bearer(), times=4) == {200}
        await reader.send(f"GET /stream HTTP/1.1\r\nHost: portal.test\r\n{bearer()}\r\n\r\n".encode())
        assert (await reader.head()).status == 200
        assert await reader.chunk() == b"data:\n"
        await wire.until(lambda: figure_is(sidecar, 1))
        assert await ask(client, "/bye", bearer("u2")) == {200}
        await asyncio.sleep(0)
        assert await figure(sidecar, "sidecache_open_streams") == 1
        assert await ask(client, "/bye", bearer()) == {200}
        assert await reader.ended()
        assert await figure(sidecar, "sidecache_streams_ended_total") == 1


async def figure_is(sidecar, count: int) -> bool:
    return await figure(sidecar, "sidecache_open_streams") == count
