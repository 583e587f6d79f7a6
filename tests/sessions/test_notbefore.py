"""The set of revocations: what is meant by one, and that merging never forgets."""

import itertools
import random

import pytest

from proxy.policy.identity import Presented, Standing
from proxy.sessions.notbefore import (
    LONGEST,
    Kind,
    NotBefore,
    Revocation,
    of_credential,
    of_member,
    of_organisation,
    of_session,
    of_sessionless,
    of_user,
    unpacked,
)
from tests.builders import NOW

TOKEN = Presented("u1", "org_a", "s1", NOW - 60, NOW + 3600, b"\x01")
SESSIONLESS = Presented("u1", "org_a", None, NOW - 60, NOW + 3600, b"\x02")
UNDATED = Presented("u1", "org_a", "s1", None, NOW + 3600, b"\x03")


def revoked(subject: str, instant: float = NOW, kind: Kind = Kind.ENDED) -> Revocation:
    return Revocation(subject, instant, NOW + 86400, kind)


def standing(presented: Presented, *revocations: Revocation, now: float = NOW) -> Standing:
    kept = NotBefore()
    kept.merge(revocations, NOW)
    return kept.of(presented, now)


@pytest.mark.parametrize(
    ("presented", "subject", "instant", "expected"),
    [
        (TOKEN, of_user("u1"), NOW, Standing.REVOKED),
        (TOKEN, of_user("u1"), NOW - 60, Standing.REVOKED),  # issued in that very second
        (TOKEN, of_user("u1"), NOW - 61, Standing.GOOD),  # issued after it
        (TOKEN, of_user("u2"), NOW, Standing.GOOD),
        (TOKEN, of_user("U1"), NOW, Standing.GOOD),
        (TOKEN, of_session("s1"), NOW, Standing.REVOKED),
        (TOKEN, of_session("s2"), NOW, Standing.GOOD),
        (TOKEN, of_organisation("org_a"), NOW, Standing.REVOKED),
        (TOKEN, of_organisation("org_b"), NOW, Standing.GOOD),
        (TOKEN, of_member("org_a", "u1"), NOW, Standing.REVOKED),
        (TOKEN, of_member("org_b", "u1"), NOW, Standing.GOOD),
        (TOKEN, of_credential(b"\x01"), NOW - 9999, Standing.REVOKED),  # that credential, whenever it was issued
        (TOKEN, of_credential(b"\x02"), NOW, Standing.GOOD),
        (TOKEN, of_sessionless("u1"), NOW, Standing.GOOD),  # it says of which session it is
        (SESSIONLESS, of_sessionless("u1"), NOW, Standing.REVOKED),
        (SESSIONLESS, of_session("s1"), NOW, Standing.GOOD),
        (UNDATED, of_user("u1"), NOW - 9999, Standing.REVOKED),  # nobody can tell that it is newer
        (Presented(), of_user("u1"), NOW, Standing.GOOD),
    ],
)
def test_whom_a_revocation_means(presented, subject, instant, expected):
    assert standing(presented, revoked(subject, instant)) is expected


def test_changed_rights_do_not_refuse_and_an_end_is_stronger():
    changed = revoked(of_member("org_a", "u1"), kind=Kind.CHANGED)
    assert standing(TOKEN, changed) is Standing.OUTDATED
    assert standing(TOKEN, changed, revoked(of_session("s1"))) is Standing.REVOKED


def test_a_token_older_than_what_is_remembered_is_not_vouched_for():
    assert standing(Presented("u1", issued=NOW - 86400)) is Standing.GOOD
    assert standing(Presented("u1", issued=NOW - 90000)) is Standing.UNKNOWN
    assert standing(UNDATED, now=NOW + 90000) is Standing.GOOD


def test_order_and_duplicates_do_not_matter():
    names = [of_user("u1"), of_user("u2"), of_session("s1")]
    told = [revoked(name, NOW - second) for name, second in itertools.product(names, range(5))]
    expected = {(name, NOW) for name in names}
    for seed in range(20):
        shuffled = random.Random(seed).choices(told, k=40) + told
        kept = NotBefore()
        for each in shuffled:
            kept.merge([each], NOW)
        assert {(each.subject, each.instant) for each in kept} == expected


def test_only_news_are_told():
    kept = NotBefore()
    assert kept.merge([revoked("u:1"), revoked("u:1")], NOW) == [revoked("u:1")]
    assert kept.merge([revoked("u:1"), revoked("u:1", NOW - 5)], NOW) == []
    assert kept.merge([revoked("u:1", NOW + 1)], NOW) == [revoked("u:1", NOW + 1)]
    assert kept.merge([Revocation("u:9", NOW, NOW)], NOW) == []  # nobody can show such a token any more


def test_what_no_token_can_show_any_more_is_forgotten():
    kept = NotBefore()
    kept.merge([Revocation("u:1", NOW, NOW + 10), Revocation("u:2", NOW, NOW + 20, Kind.CHANGED)], NOW)
    assert (len(kept), kept.any) == (2, True)
    kept.prune(NOW + 10)
    assert [each.subject for each in kept] == ["u:2"]
    kept.prune(NOW + 20)
    assert (len(kept), kept.any) == (0, False)


def test_too_many_become_one_instant_for_everybody_and_none_is_let_in_again():
    kept = NotBefore(most=100)
    told = [revoked(of_user(f"u{number}"), NOW + number) for number in range(101)]
    kept.merge(told, NOW)
    assert len(kept) <= 100
    for each in told:
        user = each.subject.removeprefix("u:")
        assert kept.of(Presented(user, issued=each.instant), NOW + 200) is Standing.REVOKED
    assert kept.of(Presented("anybody", issued=NOW), NOW + 200) is Standing.REVOKED
    assert kept.of(Presented("anybody", issued=NOW + 150), NOW + 200) is Standing.GOOD


@pytest.mark.parametrize(
    "said",
    [
        None, 7, "x", {}, [], [None], [[]], [["u:1"]], [["u:1", 1, 2]], [["u:1", "1", 2, "ended"]],
        [["u:1", 1, 2, "gone"]], [[7, 1, 2, "ended"]], [["u:1", True, None, "ended"]], [["u:", 1, 2, "ended"]],
        [["u:" + "x" * 700, 1, 2, "ended"]], [["u:1", float("nan"), 2, "ended"]], [["u:1", float("inf"), 2, "ended"]],
        [["u:1", 1, 2, "ended", 5]],
    ],
)  # fmt: skip
def test_what_is_no_revocation_is_left_out(said):
    assert unpacked(said, NOW) == []


def test_a_message_says_what_was_packed_and_keeps_nothing_for_ever():
    one = revoked(of_user("José"), NOW, Kind.CHANGED)
    assert unpacked([one.packed(), "?"], NOW) == [one]
    (kept,) = unpacked([["u:1", 1, 1e300, "ended"]], NOW)
    assert kept.until == NOW + LONGEST
