"""What is purged again: everything that was refused, for as long as it was, and never more than fits."""

from proxy.cache.binding import EVERYTHING, SHARED
from proxy.cache.repeats import Recent, Refused

ORG_A, ORG_B = "tenant:org_a:epochs", "tenant:org_b:epochs"

# Refused


def test_a_refused_purge_is_pending_until_it_is_accepted():
    refused = Refused(10)
    assert not refused
    assert refused.add(ORG_A, ["jobs", "slot:07"], 1) == []
    assert (bool(refused), len(refused)) == (True, 2)
    assert refused.meets({ORG_A: ["search", "jobs"]})
    assert not refused.meets({ORG_A: ["search"], ORG_B: ["jobs"]})
    assert refused.accepted(ORG_A, {"jobs": 1}) == ["jobs"]
    assert refused.items() == [(ORG_A, {"slot:07": 1})]
    assert refused.accepted(ORG_A, {"slot:07": 1}) == ["slot:07"]
    assert not refused
    assert refused.items() == []


def test_one_that_was_refused_again_meanwhile_is_not_settled():
    refused = Refused(10)
    refused.add(ORG_A, ["jobs", "search"], 1)
    attempted = refused.items()[0][1]
    refused.add(ORG_A, ["jobs"], 2)
    assert refused.accepted(ORG_A, attempted) == ["search"]
    assert refused.items() == [(ORG_A, {"jobs": 2})]


def test_what_is_iterated_over_is_a_copy():
    refused = Refused(10)
    refused.add(ORG_A, ["jobs"], 1)
    for hashed, names in refused.items():
        refused.accepted(hashed, names)
    assert not refused


def test_too_many_of_one_hash_become_all_of_it():
    refused = Refused(3)
    assert refused.add(ORG_A, ["1", "2", "3"], 1) == []
    assert refused.add(ORG_A, ["4"], 2) == [ORG_A]
    assert refused.items() == [(ORG_A, {EVERYTHING: 2})]
    assert refused.add(ORG_A, ["5"], 3) == []
    assert refused.items() == [(ORG_A, {EVERYTHING: 3})]


def test_too_many_hashes_become_everything():
    refused = Refused(3)
    widened = [refused.add(f"tenant:{number}:epochs", ["*"], number) for number in range(1, 5)]
    assert widened == [[], [], [], ["tenant:4:epochs", SHARED]]
    assert refused.items() == [(SHARED, {EVERYTHING: 4})]
    assert refused.of(ORG_A) == {}


def test_what_was_widened_meanwhile_is_not_settled_by_an_older_attempt():
    refused = Refused(2)
    refused.add(ORG_A, ["1", "2"], 1)
    attempted = refused.items()[0][1]
    refused.add(ORG_A, ["3"], 2)
    assert refused.accepted(ORG_A, attempted) == []
    assert refused.items() == [(ORG_A, {EVERYTHING: 2})]


def test_accepting_what_was_never_refused_settles_nothing():
    refused = Refused(3)
    assert refused.accepted(ORG_A, {"jobs": 1}) == []
    assert not refused


# Recent


def test_what_was_purged_within_the_time_is_purged_again():
    recent = Recent(300, 10)
    recent.add(ORG_A, ["jobs"], 0.0)
    recent.add(ORG_B, ["jobs"], 100.0)
    recent.add(ORG_A, ["search"], 200.0)
    assert recent.since(299) == {ORG_A: ["jobs", "search"], ORG_B: ["jobs"]}
    assert recent.since(300) == {ORG_B: ["jobs"], ORG_A: ["search"]}
    assert recent.since(500) == {}


def test_the_latest_purge_of_a_field_counts():
    recent = Recent(300, 10)
    recent.add(ORG_A, ["jobs"], 0.0)
    recent.add(ORG_B, ["jobs"], 100.0)
    recent.add(ORG_A, ["jobs"], 200.0)
    assert recent.since(450) == {ORG_A: ["jobs"]}


def test_what_is_older_is_forgotten():
    recent = Recent(300, 10)
    recent.add(ORG_A, ["jobs"], 0.0)
    recent.add(ORG_A, ["search"], 299.0)
    assert len(recent) == 2
    recent.add(ORG_B, ["jobs"], 300.0)
    assert len(recent) == 2


def test_too_many_become_everything():
    recent = Recent(300, 3)
    recent.add(ORG_A, ["1", "2", "3"], 0.0)
    recent.add(ORG_B, ["4"], 1.0)
    assert recent.since(1.0) == {SHARED: [EVERYTHING]}
    assert len(recent) == 1
