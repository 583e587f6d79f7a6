"""The last requests: bounded, without queries, and with room for some hits only."""

from proxy.policy.message import Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.recent import HITS_A_TURN, KEPT, Recent
from tests.doubles import FakeClock

MISS = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", tenant="org_a")
HIT = Outcome(Reason.FRESH, hit=True, ttl=9, feature="jobs", tenant="org_a")


def test_a_request_is_told_with_what_became_of_it_and_without_its_query():
    recent = Recent(FakeClock())
    recent.note(Request("GET", "/api/jobs?token=hush"), MISS, 200, 0.02)
    (seen,) = recent.since(0)
    assert (seen.method, seen.path, seen.status, seen.seconds, seen.result, seen.reason, seen.feature, seen.tenant) == (
        "GET", "/api/jobs", 200, 0.02, "miss", "cold", "jobs", "org_a",
    )  # fmt: skip
    assert "hush" not in repr(seen)
    assert seen.said == MISS.cache_status()


def test_what_came_after_a_request_is_told_and_nothing_twice():
    recent = Recent(FakeClock())
    for path in "abc":
        recent.note(Request("GET", f"/{path}"), MISS, 200, 0.0)
    assert [each.path for each in recent.since(0)] == ["/a", "/b", "/c"]
    assert [each.path for each in recent.since(2)] == ["/c"]
    assert recent.since(3) == []


def test_a_process_that_began_anew_tells_all_that_it_has():
    recent = Recent(FakeClock())
    recent.note(Request("GET", "/a"), MISS, 200, 0.0)
    assert [each.path for each in recent.since(400)] == ["/a"]  # so far those of the one before it were told


def test_the_oldest_make_room():
    recent = Recent(FakeClock())
    for number in range(KEPT + 2):
        recent.note(Request("GET", f"/{number}"), MISS, 200, 0.0)
    assert [recent.since(0)[0].path, len(recent.since(0))] == ["/2", KEPT]


def test_hits_are_told_of_as_long_as_there_is_room():
    recent = Recent(FakeClock())
    for _ in range(HITS_A_TURN * 3):
        recent.note_hit(Request("GET", "/a"), HIT, 200)
    assert len(recent.since(0)) == HITS_A_TURN
    recent.turn()
    recent.note_hit(Request("GET", "/b"), HIT, 200)
    assert [each.path for each in recent.since(HITS_A_TURN)] == ["/b"]


def test_whatever_a_path_holds_it_is_short_and_plain():
    recent = Recent(FakeClock())
    recent.note(Request("G\udcff", "/\u202e\udc80" + "x" * 10_000), MISS, 200, 0.0)
    (seen,) = recent.since(0)
    assert seen.path.isascii()
    assert seen.method.isascii()
    assert len(seen.path) < 400
