"""No reader ever gets another's event (P1): random tenants, roles and users, and cursors that are somebody else's."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.events.audience import Reader
from proxy.events.stream import Start, Stream
from proxy.events.ticket import Tickets
from proxy.policy.identity import Identity
from tests.doubles import settle
from tests.events.world import Place, World, event

pytestmark = pytest.mark.isolation

TENANTS, USERS = ("org_a", "org_b", "org_a-events"), ("u1", "u2", "tenant", "role:r1")
ROLES = ("r1", "r2", "u1", "tenant")
AUDIENCES = ("tenant", *(f"role:{role}" for role in ROLES), *(f"user:{user}" for user in USERS))

identities = st.builds(
    Identity, st.sampled_from(TENANTS), st.sampled_from((*USERS, None)), st.frozensets(st.sampled_from(ROLES))
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(TENANTS), st.sampled_from(AUDIENCES)),
        st.tuples(st.just("read"), identities, st.sampled_from(("", "0", "other", "own"))),
        st.tuples(st.just("leave"), st.integers(0, 5), st.none()),
        st.tuples(st.just("change"), st.integers(0, 5), st.frozensets(st.sampled_from(ROLES))),
    ),
    min_size=5, max_size=40,
)  # fmt: skip


def may(identity: Identity, tenant: str, to: str) -> bool:
    kind, _, who = to.partition(":")
    return identity.tenant == tenant and (
        to == "tenant"
        or (kind == "role" and who in (identity.roles or ()))
        or (kind == "user" and who == identity.user)
    )


class Play:
    def __init__(self) -> None:
        self.world = World()
        self.sent: list[tuple[str, str]] = []
        self.open: list[tuple[Identity, Place, Stream]] = []
        self.cursors: list[str] = []

    async def publish(self, tenant: str, to: str) -> None:
        self.sent.append((tenant, to))
        await self.world.publish(event(len(self.sent) - 1, to, of=tenant, whom=to), tenant=tenant)

    async def read(self, identity: Identity, begin: str) -> None:
        after = {"": None, "0": "0", "other": (self.cursors or ["0"])[-1], "own": (self.cursors or ["0"])[0]}[begin]
        if self.world.streams._of_user[identity.tenant, identity.user or ""] < 10:
            self.open.append((identity, *await self.world.read(after, identity)))

    async def leave(self, index: int, _: None) -> None:
        if self.open:
            _, place, stream = self.open[index % len(self.open)]
            self.cursors += [each["id"] for each in place.frames if "id" in each]
            stream.lost()
            await settle()

    async def change(self, index: int, roles: frozenset[str]) -> None:
        """Their rights change: what is open is ended, and they come back with their place and a new token."""
        if self.open:
            old, place, _ = self.open[index % len(self.open)]
            self.world.streams.end(lambda identity: (identity.tenant, identity.user) == (old.tenant, old.user))
            last = next((each["id"] for each in reversed(place.frames) if "id" in each), None)
            new = Identity(old.tenant, old.user, roles)
            if last is not None and self.world.streams._of_user[old.tenant, old.user or ""] < 10:
                self.open.append((new, *await self.world.read(last, new)))

    def check(self) -> None:
        for identity, place, _ in self.open:
            for number in place.numbers:
                assert may(identity, *self.sent[number]), (identity, self.sent[number])
            shown = [each["data"] for each in place.frames if "n" in each.get("data", {})]
            assert all((each["of"], each["whom"]) == self.sent[each["n"]] for each in shown)
            assert len(set(place.numbers)) == len(place.numbers)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_no_audience_sees_another_s_events(played):
    async def play() -> None:
        made = Play()
        for name, *arguments in played:
            await getattr(made, name)(*arguments)
            made.check()
        await made.world.close()

    asyncio.run(play())


async def test_after_a_role_change_what_came_before_is_judged_by_the_new_roles():
    world = World()
    before = Identity("org_a", "u1", frozenset({"r1"}))
    place, _ = await world.read(identity=before)
    await world.publish(event(1, "role:r1"), event(2, "role:r2"))
    assert world.streams.end(lambda identity: identity.user == "u1") == 1
    await world.publish(event(3, "role:r1"), event(4, "role:r2"))
    after, _ = await world.read(place.last, Identity("org_a", "u1", frozenset({"r2"})))
    assert (place.numbers, after.numbers) == ([1], [2, 4])
    polled = await world.polls.poll(
        Reader("org_a", "u1", frozenset()), Start("0"), 0, asyncio.get_running_loop().create_future()
    )
    assert polled.events == []
    await world.close()


async def test_a_record_that_was_put_into_another_tenant_s_mailbox_reaches_nobody():
    world = World()
    await world.publish(event(1), tenant="org_b")
    for item in await world.inner.range("tenant:org_b:events:stream", "", 10):
        await world.inner.append("tenant:org_a:events:stream", item.fields, 500, 60)
    place, _ = await world.read("0")
    assert place.numbers == []
    assert world.mailboxes.figures.rejected > 0
    await world.close()


def test_a_ticket_is_of_one_tenant_and_cannot_be_made_another_s():
    tickets = Tickets(b"k" * 32)
    made = tickets.make(Identity("org_a", "u1", frozenset({"r1"})), 0.0)
    other = tickets.make(Identity("org_b", "u1", frozenset({"r1"})), 0.0)
    assert made is not None
    assert other is not None
    for cut in range(1, min(len(made), len(other))):
        found = tickets.read(made[:cut] + other[cut:], 0.0)
        assert found is None or found.tenant == "org_b", json.dumps(cut)
