"""`POST /.sidecache/backchannel-logout` on a real sidecar: the answers that the specification wants."""

import json
from urllib.parse import urlencode

import pytest

from proxy.identity.logout_tokens import EVENT
from tests import wire
from tests.issuer import ABSENT, AUDIENCE, Issuer, serve_jwks

PAGE = "/.sidecache/backchannel-logout"
FORM = "Content-Type: application/x-www-form-urlencoded"
RULES = "version: 1\nfeatures: {jobs: {ttl: 10m, read: [GET /api/jobs], write: []}}\n"


@pytest.fixture
async def sidecar(tmp_path):
    issuer = Issuer()
    async with serve_jwks(issuer) as keys, wire.upstream(wire.response(b"{}")) as upstream:
        environ = {
            "SIDECACHE_JWT_ISSUER": issuer.url, "SIDECACHE_JWT_AUDIENCE": AUDIENCE, "SIDECACHE_JWKS_URL": keys.url,
            "SIDECACHE_OIDC_CLIENT_ID": "client-1",
        }  # fmt: skip
        async with wire.sidecar(upstream.port, tmp_path, RULES, **environ) as made:
            yield made, issuer, keys


def logout_token(issuer: Issuer, **claims) -> str:
    now = int(issuer.clock())
    said = {"aud": "client-1", "sub": "u1", "exp": now + 120, "jti": "j1", "events": {EVENT: {}},
            "org_id": ABSENT, "permissions": ABSENT, **claims}  # fmt: skip
    return issuer.token({"typ": "logout+jwt"}, **said)


async def send(made, body: str, *headers: str, method: str = "POST"):
    return await wire.fetch(made.data_port, PAGE, *(headers or (FORM,)), method=method, body=body.encode())


async def test_a_genuine_token_ends_the_session(sidecar):
    made, issuer, _ = sidecar
    bearer = f"Authorization: Bearer {issuer.token()}"
    assert (await wire.fetch(made.data_port, "/api/jobs", bearer)).status == 200
    answer = await send(made, urlencode({"logout_token": logout_token(issuer), "more": "x"}))
    assert (answer.status, answer.get("cache-control"), answer.body) == (200, "no-store", b"")
    assert (await wire.fetch(made.data_port, "/api/jobs", bearer)).status == 401
    assert (await send(made, urlencode({"logout_token": logout_token(issuer)}))).status == 400  # used before


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("", (FORM,)), ("logout_token=", (FORM,)), ("logout_token=a&logout_token=b", (FORM,)), ("token=x", (FORM,)),
        ("logout_token=a.b.c", (FORM,)), ('{"logout_token": "x"}', ("Content-Type: application/json",)),
        ("logout_token=x", ("Accept: */*",)), ("logout_token=" + "x" * 20_000, (FORM,)), ("\xe9=1", (FORM,)),
        ("&".join(f"a{number}=1" for number in range(200)), (FORM,)),
    ],
)  # fmt: skip
async def test_what_is_none_gets_the_error_of_the_specification(sidecar, body, headers):
    made, _, _ = sidecar
    answer = await send(made, body, *headers)
    assert (answer.status, answer.get("content-type"), answer.get("cache-control")) == (
        400, "application/json", "no-store",
    )  # fmt: skip
    said = json.loads(answer.body)
    assert said["error"] == "invalid_request"
    assert body == "" or len(body) < 4 or body not in said["error_description"]


async def test_it_is_a_post(sidecar):
    made, _, _ = sidecar
    answer = await wire.fetch(made.data_port, PAGE)
    assert (answer.status, answer.get("allow")) == (405, "POST")


async def test_while_nobody_can_tell_it_is_to_be_sent_again(tmp_path):
    issuer = Issuer()
    async with wire.upstream(wire.response(b"{}")) as upstream:
        environ = {
            "SIDECACHE_JWT_ISSUER": issuer.url, "SIDECACHE_JWT_AUDIENCE": AUDIENCE,
            "SIDECACHE_JWKS_URL": "http://127.0.0.1:9/jwks", "SIDECACHE_OIDC_CLIENT_ID": "client-1",
        }  # fmt: skip
        async with wire.sidecar(upstream.port, tmp_path, RULES, **environ) as made:
            answer = await send(made, urlencode({"logout_token": logout_token(issuer)}))
    assert (answer.status, answer.get("retry-after"), answer.get("cache-control")) == (503, "1", "no-store")


async def test_without_a_client_id_there_is_no_such_page(tmp_path):
    async with wire.upstream(wire.response(b"{}")) as upstream, wire.sidecar(upstream.port, tmp_path, RULES) as made:
        assert (await send(made, "logout_token=x")).status == 404
        assert upstream.requests == []
