"""`GET /.sidecache/session` over a real sidecar: the caller's own session, and nobody else's."""

import json

import pytest

from tests import wire
from tests.serving.world import unsigned

RULES = """
version: 1
identity: {tenant: [jwt.org_id, header.x-org-id], user: jwt.sub, roles: jwt.permissions}
features:
  jobs: {ttl: 10m, read: [GET /api/jobs], write: []}
session: {logout: [POST /api/logout]}
"""
PAGE = "/.sidecache/session"


@pytest.fixture
async def sidecar(tmp_path):
    async with wire.upstream(wire.response(b"{}")) as upstream, wire.sidecar(upstream.port, tmp_path, RULES) as made:
        yield made, upstream


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


async def test_it_tells_what_the_token_and_the_record_say(sidecar):
    made, upstream = sidecar
    token = unsigned("org_a", "u1", iat=1_700_000_000.0, exp=32_503_680_000, permissions=["b", "a"], sid="s1")
    await wire.fetch(made.data_port, "/api/nothing", bearer(token))

    async def known() -> bool:
        answer = await wire.fetch(made.data_port, PAGE, bearer(token))
        return json.loads(answer.body).get("created") is not None

    # an old token is told so, and has no record
    answer = await wire.fetch(made.data_port, PAGE, bearer(token))
    assert (answer.status, answer.get("cache-control"), answer.get("content-type")) == (
        200, "no-store", "application/json",
    )  # fmt: skip
    said = json.loads(answer.body)
    assert said["standing"] == "unknown"
    token = unsigned("org_a", "u1", permissions=["b", "a"], sid="s1")
    await wire.until(lambda: known())
    said = json.loads((await wire.fetch(made.data_port, PAGE, bearer(token))).body)
    assert {name: said[name] for name in ("user", "tenant", "session", "roles", "standing")} == {
        "user": "u1", "tenant": "org_a", "session": "s1", "roles": ["a", "b"], "standing": "good",
    }  # fmt: skip
    assert all(request.target.decode() != PAGE for request in upstream.requests)


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ((), "Bearer"),
        (("Authorization: Basic eDp5",), "Bearer"),
        (("Authorization: Bearer x.y.z",), 'Bearer error="invalid_token"'),
        ((bearer(unsigned("org_a", "u1", exp=1)),), 'Bearer error="invalid_token"'),
        ((bearer(unsigned("org_a")), "X-Org-Id: org_b"), 'Bearer error="invalid_token"'),
    ],
)
async def test_who_is_not_known_is_told_nothing(sidecar, headers, challenge):
    made, _ = sidecar
    answer = await wire.fetch(made.data_port, PAGE, *headers)
    assert (answer.status, answer.get("www-authenticate")) == (401, challenge)
    assert answer.get("cache-control") == "no-store"


async def test_after_a_logout_it_says_no(sidecar):
    made, _ = sidecar
    token = bearer(unsigned("org_a", "u1"))
    assert (await wire.fetch(made.data_port, PAGE, token)).status == 200
    await wire.fetch(made.data_port, "/api/logout", token, method="POST")
    assert (await wire.fetch(made.data_port, PAGE, token)).status == 401


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405), ("DELETE", 405), ("PUT", 405)])
async def test_it_is_only_read(sidecar, method, status):
    made, _ = sidecar
    answer = await wire.fetch(made.data_port, PAGE, bearer(unsigned()), method=method)
    assert answer.status == status
    if status == 405:
        assert answer.get("allow") == "GET, HEAD"
