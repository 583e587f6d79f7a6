import jwt
import pytest
from aiohttp.test_utils import TestClient

from proxy.demo.data import ROLES
from proxy.demo.issuer import AUDIENCE, Issuer


async def token(portal: TestClient, **form: str) -> str:
    async with portal.post("/oauth/token", data=form) as response:
        assert response.headers["Cache-Control"] == "no-store"
        reply = await response.json()
        assert (response.status, reply["token_type"]) == (200, "Bearer")
        return reply["access_token"]


async def claims(portal: TestClient, signed: str) -> dict:
    """Verified as a stranger would: with nothing but the published keys."""
    async with portal.get("/.well-known/jwks.json") as response:
        keys = jwt.PyJWKSet.from_dict(await response.json())
    key = keys[jwt.get_unverified_header(signed)["kid"]]
    return jwt.decode(signed, key, algorithms=["RS256"], audience=AUDIENCE, issuer="http://portal.test/")


async def test_a_token_speaks_for_a_member_and_verifies_with_the_published_keys(portal):
    found = await claims(portal, await token(portal, org="org_acme", user="victor@acme.example"))
    assert (found["sub"], found["org_id"]) == ("auth0|victor", "org_acme")
    assert found["permissions"] == sorted(ROLES["viewer"])
    assert found["exp"] - found["iat"] == 86400


async def test_without_a_user_it_is_the_first_member(portal):
    assert (await claims(portal, await token(portal, org="org_globex")))["sub"] == "auth0|gus"


async def test_permissions_and_lifetime_can_be_asked_for(portal):
    signed = await token(portal, org="org_acme", permissions="read:jobs write:jobs", expires_in="60")
    found = await claims(portal, signed)
    assert found["permissions"] == ["read:jobs", "write:jobs"]
    assert found["exp"] - found["iat"] == 60


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"org": "org_acme", "user": "gus@globex.example"}, "invalid_grant"),  # realistic: the other organisation's
        ({"org": "org_nobody"}, "invalid_grant"),  # realistic
        ({}, "invalid_grant"),  # realistic
        ({"org": "org_acme", "permissions": "read:everything"}, "invalid_scope"),  # realistic
        ({"org": "org_acme", "permissions": 7}, "invalid_scope"),  # pathological
        ({"org": "org_acme", "expires_in": "0"}, "invalid_request"),  # pathological
        ({"org": "org_acme", "expires_in": "-5"}, "invalid_request"),  # pathological
        ({"org": "org_acme", "expires_in": "86401"}, "invalid_request"),  # pathological
        ({"org": "org_acme", "expires_in": "1" * 5000}, "invalid_request"),  # pathological
        ([1], "invalid_request"),  # pathological
    ],
)
async def test_what_the_token_endpoint_refuses(portal, form, error):
    async with portal.post("/oauth/token", json=form) as response:
        assert response.status == 400
        assert (await response.json())["error"] == error


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded; charset=nope", "multipart/form-data"])
async def test_a_form_that_is_none_is_refused(portal, content_type):
    async with portal.post("/oauth/token", data=b"\xff=&org", headers={"Content-Type": content_type}) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_grant")


async def test_a_body_that_is_not_json_is_refused(portal):
    async with portal.post("/oauth/token", data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


async def test_the_ready_made_header_is_one_that_curl_can_send(portal):
    async with portal.get("/_demo/acme") as response:
        name, _, value = (await response.text()).removesuffix("\n").partition(": ")
    async with portal.get("/api/me", headers={name: value}) as response:
        assert (response.status, (await response.json())["org_id"]) == (200, "org_acme")
    async with portal.get("/_demo/initech") as response:
        assert response.status == 404


def test_another_issuers_key_or_name_verifies_nothing(key):
    signed = Issuer("http://portal.test", key).token("auth0|ada", "org_acme", [], now=2_000_000_000)
    with pytest.raises(jwt.InvalidSignatureError):
        Issuer("http://portal.test").verify(signed)
    with pytest.raises(jwt.InvalidTokenError):
        Issuer("http://other.test", key).verify(signed)
