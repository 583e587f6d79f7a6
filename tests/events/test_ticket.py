"""A ticket says who its holder is, for a minute, and nobody can make or change one."""

import pytest

from proxy.events.ticket import LIFETIME, MAX_TICKET, Tickets, in_cookies
from proxy.policy.cookies import TICKET
from proxy.policy.identity import Identity, Presented
from tests.builders import NOW

SHOWN = Presented("auth0|ada", "org_a", "sid-1", NOW - 5, NOW + 600, b"\x00\xffdigest")
TICKETS = Tickets(b"n" * 32)
ADA = Identity("org_a", "auth0|ada", frozenset({"read:jobs"}), NOW + 600, {"sub": "auth0|ada", "secret": "x"}, SHOWN)


def test_its_holder_is_who_it_was_made_for():
    found = TICKETS.read(TICKETS.make(ADA, NOW), NOW)
    assert (found.tenant, found.user, found.roles, found.expires) == (ADA.tenant, ADA.user, ADA.roles, ADA.expires)
    assert found.presented == SHOWN  # what a revocation may name
    assert found.claims == {}  # and nothing else


def test_what_was_not_known_stays_so():
    found = TICKETS.read(TICKETS.make(Identity("org_a"), NOW), NOW)
    assert (found.user, found.roles, found.expires, found.presented) == (None, None, float("inf"), None)
    bare = Identity("org_a", presented=Presented("ada"))
    assert TICKETS.read(TICKETS.make(bare, NOW), NOW).presented == Presented("ada")


def test_it_is_good_for_a_minute_and_never_longer_than_the_token():
    ticket = TICKETS.make(ADA, NOW)
    assert TICKETS.read(ticket, NOW + LIFETIME - 0.1) is not None
    assert TICKETS.read(ticket, NOW + LIFETIME) is None
    short = TICKETS.make(Identity("org_a", "u", frozenset(), NOW + 5), NOW)
    assert TICKETS.read(short, NOW + 5) is None


@pytest.mark.isolation
def test_no_character_of_it_can_be_changed_and_no_other_key_makes_one():
    ticket = TICKETS.make(ADA, NOW)
    assert Tickets(b"m" * 32).read(ticket, NOW) is None
    for at in range(len(ticket) - 1):
        other = "A" if ticket[at] != "A" else "B"
        assert TICKETS.read(ticket[:at] + other + ticket[at + 1 :], NOW) is None


@pytest.mark.parametrize("text", ["", "A", "AAAA", "!!!", "ä", "A" * 5000, "=" * 10])
def test_what_is_no_ticket(text):
    assert TICKETS.read(text, NOW) is None


def test_more_roles_than_a_cookie_holds_make_no_ticket():
    roles = frozenset(f"{n:04}-{hash((n, 7)) & 0xFFFFFFFFFF:x}" for n in range(500))
    assert TICKETS.make(Identity("org_a", "u", roles), NOW) is None
    assert len(TICKETS.make(ADA, NOW)) < MAX_TICKET


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        (None, None), ("", None), ("a=b", None), (f"{TICKET}=x", "x"), (f"a=b; {TICKET}=x; c=d", "x"),
        (f"{TICKET}=x; {TICKET}=y", None), (f"x{TICKET}=x", None), (f"a=b;{TICKET}=x=y", "x=y"),
    ],
)  # fmt: skip
def test_it_is_found_among_cookies(cookies, found):
    assert in_cookies(cookies) == found
