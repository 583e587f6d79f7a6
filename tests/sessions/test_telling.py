"""What the upstream is told of the caller, and that nobody else can tell it."""

import jwt
import pytest

from proxy.policy.message import Fields, Request
from proxy.sessions.telling import plain
from tests.serving.world import World, answered, unsigned

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
features:
  jobs: {ttl: 15m, read: [GET /api/jobs], write: [POST /api/jobs]}
  applications: {ttl: 15m, scope: role, read: [GET /api/applications], write: []}
  mine: {ttl: 15m, scope: user, read: [GET /api/me], write: []}
  catalogue: {ttl: 1h, scope: public, read: [GET /api/catalogue], write: []}
session:
  logout: POST /api/logout
  assertion: X-Portal-Assertion
  headers: {X-User-Id: user, X-Tenant-Id: tenant, X-Session-Id: session, X-Roles: roles, X-Session-State: state}
"""
OURS = ("x-user-id", "x-tenant-id", "x-session-id", "x-roles", "x-session-state")
TOKEN = unsigned("org_a", "auth0|ada", permissions=["write:jobs", "read:jobs"], sid="s1")
FULL = {
    "x-user-id": "auth0|ada", "x-tenant-id": "org_a", "x-session-id": "s1", "x-roles": "read:jobs,write:jobs",
    "x-session-state": "full",
}  # fmt: skip


@pytest.fixture
def world():
    return World(RULES)


def told(world: World, number: int = -1) -> dict[str, str]:
    fields = world.upstream.asked[number].fields
    return {name: fields.get(name) for name in OURS if name in fields}


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/unruled", set(OURS)),
        ("POST", "/api/jobs", set(OURS)),
        ("DELETE", "/api/unruled", set(OURS)),
        # others get what these bring in: only what they share may shape it
        ("GET", "/api/jobs", {"x-tenant-id", "x-session-state"}),
        ("GET", "/api/applications", {"x-tenant-id", "x-roles", "x-session-state"}),
        ("GET", "/api/me", {"x-tenant-id", "x-user-id", "x-session-state"}),
        ("GET", "/api/catalogue", set()),
        ("HEAD", "/api/jobs", set(OURS)),  # its answer is stored for nobody
    ],
)
async def test_who_asks_goes_along_as_far_as_it_may(world, method, target, expected):
    await world.send(method, target, token=TOKEN)
    assert told(world) == {name: FULL[name] for name in expected}


FORGED = ["X-User-Id", "x-user-id", "X_USER_ID", "x_user-id", "X-Roles", "X_Roles", "X-Portal-Assertion"]


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize(("method", "target"), [("GET", "/api/jobs"), ("GET", "/api/unruled"), ("POST", "/api/jobs"),
                                                ("GET", "/api/catalogue")])  # fmt: skip
@pytest.mark.parametrize("token", [TOKEN, "", "garbage"])
async def test_what_clients_say_of_themselves_never_arrives(world, name, method, target, token):
    await world.send(method, target, token=token, headers={name: "forged"})
    assert "forged" not in str(world.upstream.asked[-1].fields)


@pytest.mark.isolation
async def test_a_forged_name_makes_no_variant_and_the_trusted_peer_may_not_either(world):
    await world.get("/api/jobs", token=TOKEN)
    answer = await world.get("/api/jobs", token=TOKEN, headers={"X-Tenant-Id": "org_b"}, trusted=True)
    assert answer.cache.startswith("sidecache; hit")


async def test_who_is_not_known_is_not_told_of(world):
    for token in ("", "garbage"):
        await world.get("/api/unruled", token=token)
        assert told(world) == {}


async def test_after_a_change_of_roles_an_older_token_is_not_believed_about_them(world):
    await world.observer.changed("m:org_a:auth0|ada", world.clock(), "org_a", why="test", rejects=False)
    await world.get("/api/unruled", token=TOKEN)
    said = told(world)
    assert "x-roles" not in said
    assert said["x-session-state"] == "degraded"


async def test_without_a_session_block_everything_passes_as_it_came():
    world = World(RULES.partition("session:")[0])
    await world.get("/api/unruled", token=TOKEN, headers={"X-User-Id": "somebody"})
    assert told(world) == {"x-user-id": "somebody"}


@pytest.mark.parametrize(
    ("user", "sent"),
    [("José", "Jos%C3%A9"), ("a,b", "a,b"), ("a b", "a%20b"), ("100%", "100%25"), ("😀", "%F0%9F%98%80")],
)
async def test_a_name_that_no_field_can_carry_is_percent_encoded(world, user, sent):
    await world.get("/api/unruled", token=unsigned("org_a", user))
    assert told(world)["x-user-id"] == sent


@pytest.mark.isolation
async def test_roles_cannot_be_mistaken_for_others(world):
    await world.get("/api/unruled", token=unsigned("org_a", permissions=["a,b", "c"]))
    assert told(world)["x-roles"] == "a%2Cb,c"


# The assertion


def verified(world: World, number: int = -1) -> dict[str, object]:
    (key,) = world.assertions.jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["kid"]) == ("OKP", "Ed25519", "EdDSA", "a1")
    return jwt.decode(
        world.upstream.asked[number].fields.get("x-portal-assertion"), jwt.PyJWK(key), algorithms=["EdDSA"],
        audience="http://portal.test", issuer="sidecache",
        options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "iss", "aud"]},
    )  # fmt: skip


async def test_an_assertion_says_it_signed_and_for_a_minute(world):
    await world.get("/api/unruled", token=TOKEN)
    said = verified(world)
    assert (said["exp"] - said["iat"], said["iat"]) == (60, int(world.clock()))
    assert {name: said[name] for name in ("sub", "org_id", "sid", "roles")} == {
        "sub": "auth0|ada", "org_id": "org_a", "sid": "s1", "roles": ["read:jobs", "write:jobs"],
    }  # fmt: skip
    await world.get("/api/jobs", token=TOKEN)
    assert verified(world).keys() - {"iss", "aud", "iat", "exp"} == {"org_id"}
    await world.get("/api/catalogue", token=TOKEN)
    assert "x-portal-assertion" not in world.upstream.asked[-1].fields


async def test_it_is_made_anew_in_time(world):
    for _ in range(2):
        await world.get("/api/unruled", token=TOKEN)
    assert verified(world) == verified(world, 0)
    world.clock.advance(31)
    await world.get("/api/unruled", token=TOKEN)
    assert verified(world)["iat"] == verified(world, 0)["iat"] + 31


# Organisations


ENRICHED = RULES + "  enrich: {from: GET /api/org, every: 15m, headers: {X-Org-Name: name, X-Org-Plan: plan.name}}\n"


@pytest.fixture
def enriched():
    made = World(ENRICHED)
    made.org = {"id": "org_a", "name": "Acmé", "plan": {"name": "pro", "seats": 5}}

    def answer(request, n):
        return answered(made.org) if request.target == "/api/org" else answered(b"{}")

    made.upstream.answer = answer
    return made


def asked_of(world: World) -> list[int]:
    return [number for number, each in enumerate(world.upstream.asked) if each.target == "/api/org"]


async def test_the_first_request_goes_on_degraded_and_the_next_ones_with_what_is_known(enriched):
    await enriched.get("/api/unruled", token=TOKEN, headers={"Cookie": "a=b", "X-Other": "x"})
    assert told(enriched, 0)["x-session-state"] == "degraded"
    await enriched.settle()
    (number,) = asked_of(enriched)
    question = enriched.upstream.asked[number]
    assert {name.lower() for name, _ in question.fields} == {"authorization", "cookie", "host", "accept"}
    for target in ("/api/unruled", "/api/jobs"):
        await enriched.get(target, token=TOKEN)
        fields = enriched.upstream.asked[-1].fields
        assert (fields.get("x-org-name"), fields.get("x-org-plan")) == ("Acm%C3%A9", "pro")
        assert told(enriched)["x-session-state"] == "full"
    await enriched.get("/api/catalogue", token=TOKEN)
    assert "x-org-name" not in enriched.upstream.asked[-1].fields
    assert len(asked_of(enriched)) == 1


async def test_clients_cannot_say_of_which_plan_they_are(enriched):
    await enriched.get("/api/unruled", token=TOKEN, headers={"X-Org-Plan": "enterprise", "X_Org_Name": "forged"})
    fields = enriched.upstream.asked[0].fields
    assert "x-org-plan" not in fields
    assert "forged" not in str(fields)


def test_values_of_a_document_as_a_field_may_carry_them():
    for value, sent in [("a b", "a b"), (7, "7"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, None),
                        ([1], None), ({}, None), ("\r\nX: y", "%0D%0AX: y"), ("x" * 2000, None), (" a ", "a"),
                        ("ü", "%C3%BC"), ("\ud800", "?")]:  # fmt: skip
        assert plain(value) == sent


@pytest.mark.parametrize(("rules", "lasting"), [(RULES, False), (RULES.partition("session:")[0], True)])
async def test_what_is_told_is_not_remembered_for_the_next_request_of_the_same_head(rules, lasting):
    """An assertion lives for a minute, and what is known of an organisation changes."""
    world = World(rules)
    request = Request("GET", "/api/unruled", Fields((("Host", "portal.test"), ("Authorization", f"Bearer {TOKEN}"))))
    passed = world.exchange.prompt.passes(request)
    assert passed is not None
    assert passed.lasting is lasting
    assert ("x-portal-assertion" in passed.request.fields) is not lasting
