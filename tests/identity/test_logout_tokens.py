"""Logout tokens, one table of what section 2.6 of Back-Channel Logout 1.0 accepts and refuses."""

import time
from base64 import urlsafe_b64encode

import pytest

from proxy.identity.jwks import FetchError, Jwks
from proxy.identity.logout_tokens import EVENT, LogoutToken, LogoutTokens, Unfit
from tests.issuer import ABSENT, Issuer, compact, rsa_key, segment

NOW = 1_700_000_000.0
CLIENT = "client-1"
LOGOUT = {EVENT: {}}


class World:
    def __init__(self) -> None:
        self.issuer = Issuer(clock=lambda: NOW)
        self.reachable = True
        self.jwks = Jwks("https://issuer.test/jwks", self.fetch, time.monotonic, wait=1.0)
        self.tokens = LogoutTokens(self.jwks, self.issuer.url, CLIENT)

    async def fetch(self, url: str) -> bytes:
        if not self.reachable:
            raise FetchError("nobody there")
        return self.issuer.document()

    def token(self, header=None, **claims) -> str:
        said = {"aud": CLIENT, "sub": "auth0|ada", "sid": "s1", "iat": int(NOW), "exp": int(NOW) + 120, "jti": "j1",
                "events": LOGOUT, "org_id": ABSENT, "permissions": ABSENT, **claims}  # fmt: skip
        return self.issuer.token({"typ": "logout+jwt", **(header or {})}, **said)

    async def read(self, token: str, now: float = NOW) -> LogoutToken | Unfit:
        return await self.tokens.verify(token, now)


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.jwks.close()


GOOD = [
    {},
    {"sid": ABSENT},
    {"sub": ABSENT},
    {"aud": ["other", CLIENT]},
    {"events": {EVENT: {}, "https://other.example/event": {"x": 1}}},
    {"events": {EVENT: {"more": 1}}},
    {"iat": int(NOW) + 20},  # a clock ahead of ours
    {"iat": int(NOW) - 100, "exp": int(NOW) - 10},  # behind it
    {"session_metadata": {"org_id": "org_a"}, "toe": 7},  # what is not known is passed over
    {"header": {"typ": "JWT"}},
    {"header": {"typ": "application/logout+jwt"}},
    {"header": {"typ": ABSENT}},
]


@pytest.mark.parametrize("changes", GOOD, ids=[f"{number}" for number in range(len(GOOD))])
async def test_a_genuine_one_says_whose_session_has_ended(world, changes):
    claims = {name: value for name, value in changes.items() if name != "header"}
    found = await world.read(world.token(changes.get("header"), **claims))
    assert isinstance(found, LogoutToken), found
    assert found.user == (None if claims.get("sub") is ABSENT else "auth0|ada")
    assert found.session == (None if claims.get("sid") is ABSENT else "s1")
    assert (found.issued, found.id) == (claims.get("iat", NOW), "j1")


BAD = [
    ({"iss": "https://other.test/"}, "iss"), ({"iss": ABSENT}, "iss"),
    ({"iss": "https://issuer.test"}, "iss"),  # compared as it is written
    ({"aud": "other"}, "aud"), ({"aud": ABSENT}, "aud"), ({"aud": [CLIENT, 7]}, "aud"), ({"aud": []}, "aud"),
    ({"iat": ABSENT}, "iat"), ({"iat": "1700000000"}, "iat"), ({"iat": True}, "iat"), ({"iat": int(NOW) + 31}, "iat"),
    ({"exp": ABSENT}, "exp"), ({"exp": None}, "exp"), ({"exp": int(NOW) - 31}, "expired"),
    ({"exp": int(NOW) + 86400}, "exp"),
    ({"nonce": "n"}, "nonce"), ({"nonce": None}, "nonce"), ({"nonce": ""}, "nonce"),
    ({"events": ABSENT}, "events"), ({"events": {}}, "events"), ({"events": [EVENT]}, "events"),
    ({"events": EVENT}, "events"), ({"events": {EVENT: None}}, "events"), ({"events": {EVENT: "x"}}, "events"),
    ({"events": {"http://schemas.openid.net/event/other": {}}}, "events"),
    ({"jti": ABSENT}, "jti"), ({"jti": ""}, "jti"), ({"jti": 7}, "jti"), ({"jti": "x" * 300}, "jti"),
    ({"sub": ABSENT, "sid": ABSENT}, "neither"), ({"sub": ""}, "sub"), ({"sub": 7}, "sub"), ({"sub": None}, "sub"),
    ({"sid": None}, "sid"), ({"sid": ["s1"]}, "sid"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), BAD, ids=[f"{number}-{why}" for number, (_, why) in enumerate(BAD)])
async def test_anything_else_is_none_and_says_why(world, changes, why):
    found = await world.read(world.token(**changes))
    assert isinstance(found, Unfit)
    assert why in found.why
    assert not found.later


@pytest.mark.parametrize(
    "header",
    [{"typ": "at+jwt"}, {"typ": 7}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "RS512"}, {"kid": ABSENT}, {"kid": 7},
     {"crit": ["x"]}, {"b64": False}],
)  # fmt: skip
async def test_a_header_that_no_logout_token_has(world, header):
    assert isinstance(await world.read(world.token(header)), Unfit)


async def test_what_is_no_token(world):
    good = world.token()
    head, body, signature = good.split(".")
    twice = segment(b'{"iss":"x","iss":"y"}')
    stray = f"{head}.{body}.{signature[:-1]}{'A' if signature[-1] != 'A' else 'B'}"
    for token in ("", ".", "..", "a.b.c", f"{head}.{body}", f"{head}.{body}.", good + ".x", good + " ", stray,
                  f"{head}.{segment(b'[]')}.{signature}", f"{head}.{twice}.{signature}", "x" * 9000, "é" * 10,
                  urlsafe_b64encode(good.encode()).decode()):  # fmt: skip
        found = await world.read(token)
        assert isinstance(found, Unfit), token[:50]
        assert not found.later


async def test_another_key_with_the_same_name_signs_for_nobody(world):
    forged = world.issuer.sign(compact(world.issuer.header({"typ": "logout+jwt"})), compact({}), rsa_key("forger"))
    assert (await world.read(forged)).why == "its signature is wrong"


async def test_an_access_token_is_no_logout_token(world):
    found = await world.read(world.issuer.token(aud=CLIENT))
    assert isinstance(found, Unfit)


async def test_without_the_issuers_keys_nobody_can_tell(world):
    world.reachable = False
    found = await world.read(world.token())
    assert isinstance(found, Unfit)
    assert found.later


async def test_a_key_that_the_issuer_does_not_publish_is_none(world):
    await world.read(world.token())
    token = world.token({"kid": "k9"})
    found = await world.read(token)
    assert (isinstance(found, Unfit), found.later) == (True, False)
