"""Assertions and their keys; what they say is tried in test_telling.py."""

import jwt
import pytest

from proxy.credentials import new_encryption_key
from proxy.policy.identity import Identity, Presented, Standing
from proxy.sessions.assertion import Assertions
from tests.doubles import FakeClock

ALL = frozenset({"user", "tenant", "session", "roles", "state"})
ADA = Identity("org_a", "u1", frozenset({"b", "a"}), presented=Presented("u1", "org_a", "s1"))


def key(name: str):
    return new_encryption_key(name, lambda size: bytes((ord(name[-1]) * 7 + index) % 256 for index in range(size)))


def read(token: str, made: Assertions) -> dict:
    kid = jwt.get_unverified_header(token)["kid"]
    (published,) = [each for each in made.jwks()["keys"] if each["kid"] == kid]
    return jwt.decode(
        token, jwt.PyJWK(published), algorithms=["EdDSA"], audience="http://portal",
        options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip


def test_keys_are_replaced_without_a_moment_in_which_nothing_verifies():
    clock = FakeClock()
    before = Assertions([key("k1")], "http://portal", clock)
    announced = Assertions([key("k1"), key("k2")], "http://portal", clock)
    turned = Assertions([key("k2"), key("k1")], "http://portal", clock)
    assert read(before.sign(ADA, ALL), announced)["sub"] == "u1"
    assert read(turned.sign(ADA, ALL), announced)["sub"] == "u1"
    assert read(announced.sign(ADA, ALL), turned)["sub"] == "u1"
    assert all("d" not in each for each in turned.jwks()["keys"])  # the private part


def test_another_key_with_the_same_name_does_not_verify():
    clock = FakeClock()
    forged = Assertions([new_encryption_key("k1", lambda size: bytes(range(size)))], "http://portal", clock)
    with pytest.raises(jwt.InvalidSignatureError):
        read(forged.sign(ADA, ALL), Assertions([key("k1")], "http://portal", clock))


@pytest.mark.isolation
def test_each_caller_has_one_of_its_own():
    made = Assertions([key("k1")], "http://portal", FakeClock())
    callers = [ADA, Identity("org_b", "u1"), Identity("org_a", "u2"), Identity("org_a", "u1", frozenset({"a"}))]
    assert len({made.sign(each, ALL) for each in callers}) == len(callers)
    assert made.sign(ADA, ALL) == made.sign(ADA, ALL)
    assert made.sign(ADA, ALL) != made.sign(ADA, frozenset({"tenant"}))


def test_what_is_remembered_is_bounded_and_what_is_over_is_not_said():
    made = Assertions([key("k1")], "http://portal", FakeClock())
    for number in range(9000):
        made._made[number] = ("", 0.0)
    made.sign(ADA, ALL)
    assert len(made._made) == 9000
    outdated = Identity("org_a", "u1", frozenset({"a"}), standing=Standing.OUTDATED)
    assert "roles" not in read(made.sign(outdated, ALL), made)
