"""What is kept comes back as it was, and numbers alone tell its age."""

import pytest

from proxy.policy.entry import REVALIDATED, pack_head, unpack_head
from proxy.policy.message import Fields
from tests.builders import NOW, entry


@pytest.mark.parametrize(
    "pairs",
    [
        # realistic
        (("Content-Type", "application/json"), ("ETag", '"a"')),
        (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")),
        # pathological
        (),
        (("X-Empty", ""),),
        (("X-Colon", "a: b: c"),),
        (("X-Bytes", "caf\xe9 \xff\x85"),),
    ],
)
def test_a_packed_head_unpacks_to_the_same_lines(pairs):
    assert unpack_head(pack_head(Fields(pairs))) == Fields(pairs)


def test_an_entry_gives_its_head_as_fields():
    assert entry([("ETag", '"a"')]).fields() == Fields([("ETag", '"a"')])


@pytest.mark.parametrize(
    ("later", "age"),
    [
        (0, 5),  # realistic
        (10.5, 15.5),
        (-3600, 5),  # pathological: the clock was set back
    ],
)
def test_age_grows_with_time_and_is_never_less_than_at_first(later, age):
    assert entry(age=5.0).age_at(NOW + later) == age


@pytest.mark.parametrize(
    ("later", "ttl"),
    [(0, 900), (0.5, 899), (899.9, 0), (900, -1), (900.5, -1), (901, -2)],
)
def test_remaining_freshness_is_whole_seconds_and_negative_when_stale(later, ttl):
    assert entry().ttl_at(NOW + later) == ttl


def test_size_counts_key_head_body_and_encodings():
    kept = entry([("A", "b")], key="k", body=b"12", encodings={"gzip": b"123"})
    assert kept.size() == 1 + len("A: b\r\n") + 2 + 3


def test_an_entry_reads_like_a_status_line():
    assert repr(entry()) == "<Entry tenant:org_a:jobs:list 200 2 B>"


def test_it_is_kept_while_it_can_be_served_and_with_a_validator_while_it_is_worth_asking_about():
    windows = {"fresh_until": NOW + 10, "grace_until": NOW + 30, "error_until": NOW + 20}
    assert entry(**windows).kept_until() == NOW + 30
    assert entry(**windows, etag='"a"').kept_until() == NOW + 10 + REVALIDATED
    assert entry(**windows | {"error_until": NOW + 9000}, last_modified=NOW).kept_until() == NOW + 9000
    # born stale: counted from when it came
    assert entry(**windows | {"fresh_until": NOW - 500}, etag='"a"').kept_until() == NOW + REVALIDATED
