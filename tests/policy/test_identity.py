"""A caller is what was verified, and reads like it in a log line."""

import pytest

from proxy.policy.identity import Identity


@pytest.mark.parametrize(
    ("caller", "text"),
    [
        (Identity("org_a", "u1"), "u1@org_a"),
        (Identity("org_a"), "somebody@org_a"),
        (Identity(), "somebody@no tenant"),
    ],
)
def test_a_caller_reads_like_a_person_at_a_tenant(caller, text):
    assert str(caller) == text


def test_claims_do_not_tell_callers_apart_by_hash_and_never_expire_unasked():
    assert hash(Identity("org_a", claims={"a": [1]})) == hash(Identity("org_a"))
    assert Identity("org_a").expires == float("inf")
