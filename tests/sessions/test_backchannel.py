"""The issuer tells of logouts: each token counts once, and none is used up before what it says is kept."""

import time
from typing import Any

import pytest

from proxy.identity.jwks import Jwks
from proxy.identity.logout_tokens import EVENT, LogoutTokens
from proxy.policy.identity import Presented, Standing
from proxy.sessions.backchannel import BackChannel
from tests.doubles import StoreDouble
from tests.issuer import ABSENT, Issuer
from tests.serving.world import World
from tests.sessions.test_observer import RULES


class Channel(World):
    def __init__(self) -> None:
        super().__init__(RULES)
        self.issuer = Issuer(clock=self.clock)
        self.jwks = Jwks("https://issuer.test/jwks", self.fetch, time.monotonic)
        self.shared = StoreDouble(self.store.inner)
        self.channel = BackChannel(
            LogoutTokens(self.jwks, self.issuer.url, "client-1"), self.observer, self.shared, self.clock
        )

    async def fetch(self, url: str) -> bytes:
        return self.issuer.document()

    async def tell(self, **claims: Any) -> str:
        said = {"aud": "client-1", "sub": "u1", "sid": "s1", "exp": int(self.clock()) + 120, "jti": "j1",
                "events": {EVENT: {}}, "org_id": ABSENT, "permissions": ABSENT, **claims}  # fmt: skip
        return (await self.channel.receive(self.issuer.token({"typ": "logout+jwt"}, **said))).verdict

    def standing(self, session: str | None, user: str = "u1", age: float = 60) -> Standing:
        return self.revocations.of(Presented(user, "org_a", session, self.clock() - age))


@pytest.fixture
async def world():
    made = Channel()
    yield made
    await made.jwks.close()
    await made.background.drain(1.0)


async def test_a_session_ends_and_so_does_what_does_not_say_to_which_session_it_belongs(world):
    assert await world.tell() == "done"
    assert world.standing("s1") is Standing.REVOKED
    assert world.standing(None) is Standing.REVOKED
    assert world.standing("s2") is Standing.GOOD
    assert world.standing("s2", "u2") is Standing.GOOD


async def test_without_a_session_all_of_the_user_end(world):
    assert await world.tell(sid=ABSENT) == "done"
    assert world.standing("s1") is world.standing("s2") is world.standing(None) is Standing.REVOKED


async def test_a_session_without_a_user_ends(world):
    assert await world.tell(sub=ABSENT) == "done"
    assert world.standing("s1") is Standing.REVOKED
    assert world.standing(None) is Standing.GOOD


async def test_the_tokens_own_time_counts_not_ours(world):
    assert await world.tell(iat=int(world.clock()) - 90, sid=ABSENT) == "done"
    assert world.standing("s1", age=90) is Standing.REVOKED
    assert world.standing("s1", age=89) is Standing.GOOD  # logged in again before we heard of it


async def test_it_counts_once_and_the_audit_says_so(world):
    assert await world.tell() == "done"
    assert await world.tell() == "invalid"
    assert await world.tell(jti="j2") == "done"
    assert [line[0] for line in world.audited] == ["backchannel-logout"] * 2
    assert world.channel.counts == {"done": 2, "invalid": 1, "later": 0}


async def test_what_could_not_be_kept_holds_here_and_may_be_sent_again(world):
    log = world.revocations._store
    log.shared = True
    log.down = {"append"}
    assert await world.tell() == "later"
    assert world.revocations.of(Presented("u1", "org_a", "s1", 0.0)) is Standing.REVOKED
    log.down = set()
    assert await world.tell() == "done"


async def test_a_store_that_does_not_answer_does_not_make_it_a_replay(world):
    world.shared.down = {"claim", "delete"}
    assert await world.tell() == "done"
    assert await world.tell() == "done"


async def test_without_keys_it_is_to_be_sent_again(world):
    async def fetch(url: str) -> bytes:
        return b"{}"

    world.jwks._fetch = fetch
    assert await world.tell() == "later"
    assert world.applied == []
