"""What one process records: whole, bounded, in order; never what is secret or no text."""

import asyncio

import orjson
import pytest

from proxy.admin import audit as audit_module
from proxy.admin.access import Actor, Role
from proxy.admin.audit import MAX_UNENTERED, MOST_A_MINUTE, Audit, is_asked_for, time_text
from proxy.admin.ledger import Ledger
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Accessed, Forward, Reason
from tests.doubles import FakeClock, settle

OTTO = Actor("otto", Role.OPERATOR, None, "10.0.0.7")


class Written:
    """An audit over a ledger of its own."""

    def __init__(self, worker: int | None = None) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(None, pytest.fail)
        self.entered: list[dict[str, object]] = []
        self.audit = Audit(self.ledger.enter, self.clock, entered=self.entered.extend, worker=worker)

    async def lines(self) -> list[dict[str, object]]:
        await self.audit.settled()
        return self.ledger.recent()[::-1]


async def test_a_line_says_who_did_what_to_whom_when_and_why():
    written = Written()
    assert written.audit.record("purge", OTTO, tenant="org_a", target={"tags": ["jobs:0"]}, reason="INC-42")
    (line,) = await written.lines()
    assert {name: line[name] for name in line.keys() - {"previous", "hash"}} == {
        "log": "audit", "time": "2023-11-14T22:13:20.000Z", "number": 1, "event": "purge",
        "actor": {"name": "otto", "role": "operator", "peer": "10.0.0.7"}, "tenant": "org_a",
        "target": {"tags": ["jobs:0"]}, "result": "done", "reason": "INC-42",
    }  # fmt: skip
    assert written.entered == [line]


async def test_one_of_several_processes_says_which():
    written = Written(worker=2)
    written.audit.record("purge", OTTO)
    assert [line["worker"] for line in await written.lines()] == [2]


async def test_what_anybody_can_cause_is_counted_beyond_a_bound():
    written = Written()
    recorded = [written.audit.record("denied", OTTO) for _ in range(MOST_A_MINUTE + 7)]
    assert recorded == [True] * MOST_A_MINUTE + [False] * 7
    assert written.audit.record("purge", OTTO)
    written.clock.advance(60)
    written.audit.record("purge", OTTO)
    (counted,) = [line for line in await written.lines() if line["result"] == "counted"]
    assert (counted["event"], counted["target"]) == ("denied", {"more": 7})


async def test_an_access_says_who_what_and_the_outcome_and_nothing_secret():
    written = Written()
    fields = Fields([("Authorization", "Bearer hush"), ("Cookie", "hush")])
    request = Request("GET", "/api/jobs/7/applications?token=hush", fields, peer="10.1.1.1")
    for outcome, status in (
        (Accessed(Reason.FRESH, hit=True, feature="applications", key="k", tenant="org_a", user="auth0|7"), 200),
        (Accessed(Reason.NO_CREDENTIALS, forward=Forward.BYPASS, feature="applications"), 401),
    ):
        written.audit.accessed(request, outcome, status)
    hit, refused = await written.lines()
    assert (hit["event"], hit["tenant"], hit["result"]) == ("sensitive-access", "org_a", "hit 200")
    assert hit["actor"] == {"name": "auth0|7", "role": None, "peer": "10.1.1.1"}
    assert hit["target"] == {"request": "GET /api/jobs/7/applications", "feature": "applications", "key": "k"}
    assert (refused["tenant"], refused["actor"]["name"], refused["result"]) == (None, None, "no-credentials 401")
    assert "hush" not in str((hit, refused))


async def test_accesses_by_somebody_are_told_in_full_however_many():
    written = Written()
    outcome = Accessed(Reason.FRESH, hit=True, feature="applications", tenant="org_a", user="u1")
    for _ in range(MOST_A_MINUTE * 3):
        written.audit.accessed(Request("GET", "/"), outcome, 200)
    assert len(await written.lines()) == MOST_A_MINUTE * 3


async def test_accesses_that_need_no_rights_do_not_fill_a_disk():
    written = Written()
    nobody = Accessed(Reason.NO_CREDENTIALS, forward=Forward.BYPASS, feature="applications")
    for _ in range(MOST_A_MINUTE + 7):
        written.audit.accessed(Request("GET", "/"), nobody, 401)
    written.audit.accessed(Request("GET", "/"), Accessed(Reason.FRESH, hit=True, tenant="org_a"), 200)
    written.clock.advance(60)
    written.audit.accessed(Request("GET", "/"), nobody, 401)
    lines = await written.lines()
    assert len([line for line in lines if line["result"] == "no-credentials 401"]) == MOST_A_MINUTE + 1
    assert [line["target"] for line in lines if line["result"] == "counted"] == [{"more": 7}]
    assert [line["tenant"] for line in lines if line["tenant"]] == ["org_a"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/caf\u00e9/\udcff", "GET /caf\u00e9/\\udcff"),  # bytes that are no text
        ("/" + "x" * 9000, "GET /" + "x" * 507 + "..."),
    ],
)
async def test_what_comes_from_outside_is_made_writable_and_short(path, said):
    written = Written()
    written.audit.record("tenant-conflict", target={"request": f"GET {path}"})
    (line,) = await written.lines()
    assert line["target"] == {"request": said}
    orjson.dumps(line)


async def test_a_writer_who_is_slow_holds_up_nobody_and_costs_a_bounded_number():
    gate = asyncio.Event()
    entered: list[int] = []

    async def slow(records):
        await gate.wait()
        entered.append(len(records))
        return []

    audit = Audit(slow, FakeClock(), entered=lambda lines: None)
    audit.record("purge", OTTO)
    await settle()
    for _ in range(MAX_UNENTERED + 3):
        audit.record("purge", OTTO)
    assert audit.lost == 3
    gate.set()
    await audit.close()
    assert entered == [1, MAX_UNENTERED]


async def test_a_writer_who_has_stopped_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(audit_module, "SETTLED", 0.05)

    async def stopped(records):
        await asyncio.Event().wait()

    audit = Audit(stopped, FakeClock())
    for _ in range(3):
        audit.record("purge", OTTO)
        await settle()
    await audit.close()
    assert audit.lost == 2  # the first was handed over: whoever took it counts it


async def test_settled_is_when_what_was_recorded_so_far_is_in_the_ledger():
    gates = [asyncio.Event(), asyncio.Event()]
    waiting = iter(gates)

    async def one_by_one(records):
        await next(waiting).wait()
        return []

    audit = Audit(one_by_one, FakeClock())
    await audit.settled()
    audit.record("purge", OTTO)
    await settle()
    audit.record("purge", OTTO)
    settling = asyncio.ensure_future(audit.settled())
    gates[0].set()
    await settle()
    assert not settling.done()
    gates[1].set()
    await settle()
    assert settling.done()
    await audit.close()


def test_lines_are_chosen_by_tenant_actor_event_and_time():
    line = {"time": time_text(1_700_000_000), "event": "purge", "actor": {"name": "otto"}, "tenant": "org_a"}
    assert is_asked_for(line)
    assert is_asked_for(line, tenant="org_a", actor="otto", event="purge", since=time_text(1_700_000_000))
    for other in ({"tenant": "org_b"}, {"actor": "ida"}, {"event": "denied"}, {"since": time_text(1_700_000_001)}):
        assert not is_asked_for(line, **other)
    assert not is_asked_for({**line, "actor": None}, actor="otto")
