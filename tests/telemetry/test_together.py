"""The figures of several processes as one exposition."""

import math

import orjson
from prometheus_client.parser import text_string_to_metric_families

from proxy.policy.outcome import Outcome, Reason
from proxy.telemetry.exposition import exposition as written
from proxy.telemetry.metrics import Metrics, Sample
from proxy.telemetry.together import together


def process(number: int) -> Metrics:
    made = Metrics()
    made.note("rules-loaded")
    for seconds in (0.003, 0.3):
        made.count(Outcome(Reason.FRESH, hit=True, ttl=1, feature="jobs"), seconds)
    made.watch(
        lambda: [
            Sample("one_total", "Summed.", number, counter=True),
            Sample("two", "The largest.", {"a": number}, "of", across="most"),
            Sample("three", "The smallest.", number, across="least"),
            Sample("four", "Each.", number, across="each"),
            Sample("five", "Without bound.", math.inf),
        ]
    )
    return made


def merged(*numbers: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    # as it travels between processes
    parts = {str(number): orjson.loads(orjson.dumps(process(number).figures())) for number in numbers}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(written(together(parts)).decode())
        for sample in family.samples
    }


def test_each_figure_is_merged_as_it_says():
    found = merged(3, 5)
    assert found["one_total", ()] == 8
    assert found["two", (("of", "a"),)] == 5
    assert found["three", ()] == 3
    assert (found["four", (("worker", "3"),)], found["four", (("worker", "5"),)]) == (3, 5)
    assert found["five", ()] == math.inf


def test_counters_and_histograms_are_summed():
    found = merged(1, 2, 3)
    assert found["sidecache_events_total", (("event", "rules-loaded"),)] == 3
    assert found["sidecache_requests_total", (("feature", "jobs"), ("reason", "fresh"), ("result", "hit"))] == 6
    assert found["sidecache_request_seconds_bucket", (("le", "0.005"), ("result", "hit"))] == 3
    assert found["sidecache_request_seconds_bucket", (("le", "+Inf"), ("result", "hit"))] == 6
    assert found["sidecache_request_seconds_count", (("result", "hit"),)] == 6


def test_one_process_together_is_what_it_says_alone():
    alone = written(process(4).collected()).decode()
    several = written(together({"4": process(4).figures()})).decode()
    shared = [line for line in alone.splitlines() if line.startswith(("sidecache_", "# HELP sidecache_", "one", "two"))]
    assert shared
    assert set(shared) <= set(several.splitlines())


def test_the_oldest_start_counts():
    (starts,) = [value for (name, _), value in merged(1, 2).items() if name == "process_start_time_seconds"]
    assert starts < 1e11  # not the sum of two
