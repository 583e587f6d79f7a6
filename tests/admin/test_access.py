"""Who is let in, by table: address, page, person, role."""

import ipaddress

import pytest

from proxy.admin.access import Actor, Asking, Denied, Gate, Role
from tests.admin.world import ENTRIES, TOKENS

V, O, I, B = Role.VIEWER, Role.OPERATOR, Role.INSPECTOR, Role.BACKEND  # noqa: E741
OWN = "127.0.0.1:9900"


def asking(peer: str = "127.0.0.1", host: str | None = OWN, origin: str | None = None, token: str | None = None):
    return Asking(peer, host, origin, None if token is None else f"Bearer {token}")


@pytest.mark.parametrize(
    ("role", "may"), [(V, {V}), (O, {V, O}), (I, {V, O, I}), (B, {B}), (None, {V, O, I, B})]
)  # fmt: skip
def test_each_role_includes_those_before_it_and_a_backend_none(role, may):
    actor = Actor("x", role)
    assert {needed for needed in Role if actor.may(needed)} == may
    assert actor.may(V, B)


@pytest.mark.parametrize("who", TOKENS)
def test_a_token_says_name_role_and_tenant(who):
    actor = Gate(ENTRIES).judge(asking(token=TOKENS[who].token), ())
    assert isinstance(actor, Actor)
    role, _, tenant = who.partition("-")
    assert (actor.role, actor.tenant, actor.peer) == (Role(role), f"org_{tenant}" if tenant else None, "127.0.0.1")


@pytest.mark.parametrize(
    ("gate", "request_", "status"),
    [
        # realistic: no token
        (Gate(), asking(), 401), (Gate(ENTRIES), asking(), 401), (Gate(lenient=True), asking(), 200),
        (Gate(ENTRIES, lenient=True), asking(), 200),
        (Gate(lenient=True), asking(peer="10.0.0.7"), 401),
        (Gate(lenient=True, listens_on_loopback=False), asking(), 401),
        (Gate(ENTRIES, listens_on_loopback=False), asking("10.0.0.7", "10.0.0.9:9900"), 401),
        (Gate(lenient=True), asking(peer="::1", host="[::1]:9900"), 200),
        (Gate(lenient=True), asking(host=None), 200),
        # another page, or a name made to resolve to this machine
        (Gate(lenient=True), asking(host="rebound.example"), 403),
        (Gate(lenient=True), asking(host="rebound.example", origin="http://rebound.example"), 403),
        (Gate(lenient=True), asking(host="rebound.example@127.0.0.1:9900"), 403),
        (Gate(lenient=True), asking(origin="http://rebound.example"), 403),
        (Gate(lenient=True), asking(origin=f"http://{OWN}"), 200),
        (Gate(lenient=True), asking(host=None, origin="http://"), 403),
        # a wrong token never falls back to none
        (Gate(ENTRIES, lenient=True), asking(token="sidecache_x"), 401),
        (Gate(lenient=True), asking(token="sidecache_x"), 401),
        (Gate(ENTRIES, lenient=True), asking(token=""), 401),
        (Gate(ENTRIES, lenient=True), asking(token="x" * 10_000), 401),
        (Gate(ENTRIES, lenient=True), asking(token="\udcff"), 401),
        # pathological: the entry's digest is no token
        (Gate(ENTRIES), asking(token=ENTRIES[0].digest), 401),
    ],
)  # fmt: skip
def test_who_is_let_in_to_look(gate, request_, status):
    found = gate.judge(request_, (V,))
    assert (found.status if isinstance(found, Denied) else 200) == status


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("10.1.2.3", True), ("10.2.0.1", False), ("127.0.0.1", False), ("::ffff:10.1.2.3", True), ("fd00::1", True),
        ("", False), ("unix", False),
    ],
)  # fmt: skip
def test_an_address_that_is_not_on_the_list_is_refused_even_with_a_token(peer, allowed):
    networks = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    gate = Gate(ENTRIES, allowed=networks)
    found = gate.judge(asking(peer=peer, token=TOKENS["inspector"].token), (V,))
    assert isinstance(found, Actor) is allowed
    assert allowed or (isinstance(found, Denied) and found.status == 403)


def test_a_probe_of_an_outside_port_needs_no_token_and_no_loopback_name():
    gate = Gate(ENTRIES, listens_on_loopback=False)
    assert isinstance(gate.judge(asking("10.0.0.7", "10.0.0.9:9900"), ()), Actor)


def test_what_needs_no_role_is_open_to_an_unknown_token_but_not_by_a_foreign_name():
    assert isinstance(Gate().judge(asking(token="a.jwt.of.the.portal"), ()), Actor)
    assert isinstance(Gate().judge(asking(host="rebound.example", token="a.jwt"), ()), Denied)


def test_a_denial_of_a_role_names_who_it_was_and_what_is_needed():
    found = Gate(ENTRIES).judge(asking(token=TOKENS["viewer"].token), (O, B))
    assert isinstance(found, Denied)
    assert (found.status, found.actor and found.actor.name) == (403, "vera")
    assert found.detail == "This needs the role operator or backend; vera is viewer."


def test_every_entry_is_compared_whatever_matched_first(monkeypatch):
    compared = []

    def counting(mine: str, theirs: str) -> bool:
        compared.append(mine)
        return mine == theirs

    monkeypatch.setattr("proxy.admin.access.compare_digest", counting)
    Gate(ENTRIES).judge(asking(token=TOKENS["viewer"].token), ())
    assert len(compared) == len(ENTRIES)
