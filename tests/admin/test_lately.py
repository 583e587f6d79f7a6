"""What an open dashboard follows, of all processes: counters as they are, requests after the last that were told."""

import orjson

from proxy.admin.lately import QUESTION, Lately
from proxy.policy.message import Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import HITS_A_TURN, Recent
from tests.doubles import FakeClock

MISS = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", tenant="org_a")


class Process:
    def __init__(self, name: str, others=()) -> None:
        async def ask(question, content):
            assert question == QUESTION
            told = orjson.loads(orjson.dumps(content))  # as it comes through a channel
            return [orjson.loads(orjson.dumps(await each.lately.answer(told))) for each in others]

        self.metrics, self.recent = Metrics(), Recent(FakeClock())
        self.lately = Lately(self.metrics, self.recent, name=name, others=ask)

    def answered(self, path: str) -> None:
        self.metrics.count(MISS, 0.01)
        self.recent.note(Request("GET", path), MISS, 200, 0.01)


async def test_counters_are_of_each_process():
    other = Process("1")
    one = Process("0", [other])
    one.answered("/a")
    other.answered("/b")
    other.answered("/c")
    assert [each["misses"] for each in await one.lately.taken()] == [1, 2]


async def test_requests_are_told_once_by_the_number_of_each_process():
    other = Process("1")
    one = Process("0", [other])
    one.answered("/a")
    other.answered("/b")
    found = {name: [each.path for each in listed] for name, listed in await one.lately.seen({})}
    assert found == {"0": ["/a"], "1": ["/b"]}
    other.answered("/c")
    found = {name: [each.path for each in listed] for name, listed in await one.lately.seen({"0": 1, "1": 1})}
    assert found == {"0": [], "1": ["/c"]}
    assert (await one.lately.seen({}))[1][1][0].said == MISS.cache_status()


async def test_who_takes_the_counters_makes_room_for_hits():
    process = Process("0")
    for _ in range(2):
        for _ in range(HITS_A_TURN + 5):
            process.recent.note_hit(Request("GET", "/a"), MISS, 200)
        await process.lately.taken()
    assert len(process.recent.since(0)) == 2 * HITS_A_TURN
