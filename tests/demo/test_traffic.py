import random

import pytest

from proxy.demo import traffic
from proxy.demo.traffic import Report, next_step


async def test_both_organisations_get_answers(portal):
    report = await traffic.run(str(portal.make_url("/")), seconds=0.2, rate=300)
    assert report.statuses.total() == 60
    assert report.failures == 0
    assert report.statuses[200] > 0
    assert set(report.statuses) <= {200, 201, 404, 409}  # the small portal lacks some of the jobs
    assert list(report.times) == ["direct"]


def test_an_organisation_asks_for_its_own_jobs_and_sometimes_writes():
    rng = random.Random(7)
    for org, remainder in (("org_acme", 1), ("org_globex", 0)):
        steps = [next_step(rng, org) for _ in range(3000)]
        jobs = [int(part.partition("_")[2]) for _, path, _ in steps for part in path.split("/") if part[:4] == "job_"]
        assert {number % 3 for number in jobs} == {remainder}
        assert 1 <= min(jobs) <= max(jobs) <= 5000
        writes = [step for step in steps if step[0] != "GET" and step[1] != "/api/search"]
        assert 0.02 < len(writes) / len(steps) < 0.06


def test_the_report_tells_hits_from_what_was_forwarded_and_why():
    report = Report()
    for cache_status in ("sidecache; hit; ttl=5", "sidecache; fwd=uri-miss; stored", "cdn; hit, sidecache; fwd=bypass"):
        report.add(200, cache_status, 10.0)
    report.add(502, "sidecache; detail=upstream-failed", 1.0)
    report.add(200, None, 20.0)
    assert sorted(report.times) == ["bypass", "direct", "hit", "other", "uri-miss"]
    assert "5 answers, 0 failures; statuses: {200: 4, 502: 1}" in str(report)
    assert "median 20.0 ms" in str(report)


@pytest.mark.parametrize("flags", [("--seconds", "0"), ("--seconds", "9999"), ("--rate", "501"), ("--rate", "-1")])
def test_traffic_is_bounded(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        traffic.main(flags)
    assert stopped.value.code == 2
    assert "--seconds is at most 3600" in capsys.readouterr().err


def test_a_base_that_is_not_there_is_said_in_one_line(unused_tcp_port, capsys):
    with pytest.raises(SystemExit) as stopped:
        traffic.main(["--base", f"http://127.0.0.1:{unused_tcp_port}", "--seconds", "1", "--rate", "1"])
    assert stopped.value.code == 1
    assert "gives no tokens" in capsys.readouterr().err
