"""The harness of the benchmarks: what it reads and what it computes. It measures nothing here."""

import os

import pytest

from bench import load
from bench.compare import Comparison, Sample, Target
from bench.cpu import Tree
from bench.heads import head
from bench.plots import bars, curves

WRK = """\
Running 1s test @ http://127.0.0.1:1
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.08ms    4.06ms  31.90ms   91.63%
  Latency Distribution
     50%  841.00us
     75%    2.10ms
     90%    5.70ms
     99%    1.10s
  13921 requests in 1.10s, 31.22MB read
Requests/sec:  12655.45
"""


def sample(cpu: float, p99: float = 100.0) -> Sample:
    return Sample(cpu, 50.0, p99, 1000.0, 0.0, 0.0)


def test_percentiles_and_counts_are_read_in_their_units():
    assert load.parse(WRK) == load.Answered(13921, 1.10, 841.0, 5700.0, 1_100_000.0)


@pytest.mark.parametrize(
    "trouble", ["  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"]
)
def test_an_error_among_the_answers_makes_the_run_worthless(trouble):
    with pytest.raises(ValueError, match=trouble.strip()):
        load.parse(WRK.replace("Requests/sec", trouble + "Requests/sec"))


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians():
    comparison = Comparison("hits", "?", targets=(Target("a", "b", 1.0),))
    comparison.samples = {
        ("a", ""): [sample(10), sample(40), sample(20)],  # the second round fell into a slow moment
        ("b", ""): [sample(10), sample(20), sample(20)],
    }

    assert comparison.ratio(("a", ""), ("b", "")) == 1.0
    assert comparison.verdicts() == [(Target("a", "b", 1.0), 1.0)]


def test_what_was_not_measured_has_no_ratio():
    assert Comparison("hits", "?").ratio(("a", ""), ("b", "")) is None


def test_distinct_heads_are_never_the_same_and_constant_ones_always():
    distinct, constant = head("/a", "t", distinct=True), head("/a", "t")

    assert distinct.filled() != distinct.filled()
    assert constant.filled() == constant.filled()
    assert len(distinct.filled()) == len(constant.filled()) + 6  # 16 digits instead of ten in the cookie


def test_each_key_and_token_can_be_asked_for():
    many = head("/jobs/{key}", ["one", "two"], keys=5)

    assert many.filled(key=4, token=1).startswith(b"GET /jobs/4 HTTP/1.1\r\n")
    assert b"Authorization: Bearer two\r\n" in many.filled(token=1)
    assert many.filled().endswith(b"\r\n\r\n")


def test_cpu_time_of_a_process_grows():
    tree = Tree(os.getpid())
    before = tree.seconds()
    sum(range(200_000))

    assert tree.seconds() > before
    assert tree.resident_mib() > 1


def test_pictures_show_every_contestant():
    rows = [
        {"series": name, "at": at, "cpu": 10.0, "cpu_spread": [9.0, 12.0]}
        for name in ("sidecache", "nginx")
        for at in ("1", "10")
    ]

    for drawn in (bars({"misses": {"rows": rows}}), curves({"bodies": {"rows": rows}})):
        assert drawn.startswith("<svg")
        assert "sidecache" in drawn
        assert "nginx" in drawn
