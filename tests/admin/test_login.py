"""The dashboard's log-in: a token once, then a cookie that no script reads and no other page can use."""

from http.cookies import SimpleCookie
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from proxy.admin.sessions import LIFETIME
from tests.admin.world import TOKENS, World, bearer


def origin(client: TestClient) -> str:
    return str(client.make_url("/")).rstrip("/")


async def login(client: TestClient, who: str, **headers: str) -> tuple[int, dict[str, Any], SimpleCookie]:
    async with client.post("/api/login", json={"token": TOKENS[who].token}, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), answer.cookies


async def test_a_token_begins_a_session_that_may_what_the_token_may(world: World, client: TestClient):
    async with client.get("/api/session") as answer:
        assert await answer.json() == {"actor": None, "may": []}
    status, said, cookies = await login(client, "operator")
    assert (status, said["actor"], said["may"]) == (
        200, {"name": "otto", "role": "operator", "tenant": None}, ["viewer", "operator"],
    )  # fmt: skip
    (cookie,) = cookies.values()
    assert cookie.key == f"sidecache-{client.port}"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["max-age"], cookie["secure"]) == (
        True, "Strict", "/", str(int(LIFETIME)), "",
    )  # fmt: skip
    assert TOKENS["operator"].token not in cookie.value
    for path, expected in (("/api/session", 200), ("/api/cache/status", 200), ("/api/audit", 403)):
        async with client.get(path) as answer:
            assert answer.status == expected, path
    (line,) = world.audited("login")
    assert (line["actor"]["name"], line["result"]) == ("otto", "done")


async def test_behind_tls_the_cookie_is_for_tls_only(client: TestClient):
    _, _, cookies = await login(client, "viewer", Origin=origin(client).replace("http:", "https:"))
    assert [each["secure"] for each in cookies.values()] == [True]


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"token": "sidecache_wrong"}, 401), ({"token": TOKENS["backend"].token}, 403), ({"token": "x" * 10_000}, 401),
        ({}, 400), ({"token": ""}, 400), ({"token": 7}, 400), ({"token": ["x"]}, 400),
    ],
)  # fmt: skip
async def test_who_has_no_token_for_it_gets_no_cookie_and_is_in_the_audit_log(world, client, document, status):
    async with client.post("/api/login", json=document) as answer:
        assert (answer.status, dict(answer.cookies)) == (status, {})
    denied = world.audited("denied")
    assert [line["target"] for line in denied] == ([] if status == 400 else [{"request": "POST /api/login"}])
    assert "sidecache_" not in str(denied)


@pytest.mark.parametrize(
    ("sent", "status"), [("own", 200), (None, 403), ("http://evil.example", 403), ("null", 403)]
)  # fmt: skip
async def test_a_change_by_a_cookie_comes_from_our_own_page(world: World, client: TestClient, sent, status):
    await login(client, "operator")
    await world.keep()
    headers = {} if sent is None else {"Origin": origin(client) if sent == "own" else sent}
    async with client.delete("/api/cache/invalidate", json={"tags": ["jobs"], "tenant": "org_a"}, headers=headers) as a:
        assert a.status == status
    assert await world.is_kept() is (status != 200)
    assert len(world.audited("denied")) == (status != 200)


async def test_log_out_ends_it_at_once(world: World, client: TestClient):
    _, _, cookies = await login(client, "viewer")
    (cookie,) = cookies.values()
    async with client.post("/api/logout", headers={"Origin": origin(client)}) as answer:
        assert (await answer.json(), [each["max-age"] for each in answer.cookies.values()]) == (
            {"actor": None, "may": []}, ["0"],
        )  # fmt: skip
    async with client.get("/api/cache/status", cookies={cookie.key: cookie.value}) as answer:
        assert answer.status == 401
    assert [line["actor"]["name"] for line in world.audited("logout")] == ["vera"]


async def test_who_logs_in_again_ends_the_session_before(client: TestClient):
    _, _, cookies = await login(client, "inspector")
    (before,) = cookies.values()
    assert (await login(client, "viewer", Origin=origin(client)))[0] == 200
    async with client.get("/api/cache/status", cookies={before.key: before.value}) as answer:
        assert answer.status == 401


async def test_a_session_ends_after_its_time(world: World, client: TestClient):
    await login(client, "viewer")
    world.clock.advance(LIFETIME)
    async with client.get("/api/cache/status") as answer:
        assert answer.status == 401


async def test_a_token_decides_even_beside_a_cookie(client: TestClient):
    await login(client, "inspector")
    async with client.get("/api/audit", headers=bearer("viewer")) as answer:
        assert answer.status == 403
    async with client.get("/api/audit", headers={"Authorization": "Bearer wrong"}) as answer:
        assert answer.status == 401


@pytest.mark.isolation
async def test_a_session_of_one_tenant_sees_that_one(client: TestClient):
    await login(client, "operator-a")
    headers = {"Origin": origin(client)}
    for tenant, status in (("org_a", 200), ("org_b", 403)):
        sent = {"tags": ["jobs"], "tenant": tenant}
        async with client.delete("/api/cache/invalidate", json=sent, headers=headers) as answer:
            assert answer.status == status


async def test_in_development_on_this_machine_nobody_logs_in(development: tuple[World, TestClient]):
    _, client = development
    async with client.get("/api/session") as answer:
        said = await answer.json()
    assert (said["actor"]["name"], said["may"], said["profile"], said["reasons"]) == (
        "local", ["viewer", "operator", "inspector"], "development", False,
    )  # fmt: skip
