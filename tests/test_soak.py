"""The harness of the soak: what it judges and prints; and two of its scenarios for a moment, so that it works."""

import json
import shutil
import subprocess
import sys

import pytest

from soak import __main__ as playing
from soak import descriptors, upstream
from soak.crowd import Wrong
from soak.endurance import Samples, judge_growth, records
from soak.judged import Check, Judged
from soak.report import table
from soak.store import excused, garbage
from tests import servers
from tests.cli.process import ROOT

MIX = ROOT / "soak" / "c" / "mix.c"


def test_a_scenario_without_a_check_does_not_hold():
    assert not Judged("nothing", "").holds


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (lambda judged: judged.none("x", 0), True),
        (lambda judged: judged.none("x", []), True),
        (lambda judged: judged.none("x", ["org_a got org_b's"]), False),
        (lambda judged: judged.at_most("x", 2.0, 2), True),
        (lambda judged: judged.at_most("x", 2.1, 2), False),
        (lambda judged: judged.at_least("x", 2, 2), True),
        (lambda judged: judged.at_least("x", 1, 2), False),
    ],
)
def test_one_check_that_does_not_hold_is_enough(check, holds):
    judged = Judged("some", "")
    judged.true("y", True)
    check(judged)
    assert judged.holds == holds


def test_what_was_found_is_told_with_an_example():
    judged = Judged("some", "")
    judged.none("leaks", ["org_a got org_b's", "again"])
    assert judged.checks == [Check("leaks", False, "2, as in: org_a got org_b's", "0")]


def test_a_stale_read_is_excused_while_the_store_was_away_and_at_no_other_time():
    found = [Wrong(at, "C3 other", "1 < 2") for at in (1.0, 5.0, 9.0)]
    within, outside = excused(found, [(4.0, 6.0)])
    assert ([each.at for each in within], [each.at for each in outside]) == ([5.0], [1.0, 9.0])


def test_garbage_is_no_word_of_the_protocol():
    assert garbage(b"$5\r\nhello\r\n")[:1] not in b"$+-:*_#,(!=%~>|"


@pytest.mark.parametrize(("bytes_a_request", "holds"), [(0, True), (6, True), (60, False)])
def test_memory_that_grows_with_the_requests_is_told(bytes_a_request, holds):
    def held(number: int) -> dict[str, float]:
        noise = (number * 7 % 5) / 10
        mib = 100 + noise + number * 10_000 * bytes_a_request / (1 << 20)
        return {"resident": mib, "descriptors": 40 + number % 3, "threads": 9}

    samples = Samples(
        [float(number) for number in range(90)],
        [held(number) for number in range(90)],
        [{'sidecache_requests_total{feature="jobs"}': number * 10_000.0} for number in range(90)],
    )
    judged = Judged("endurance", "")
    judge_growth(judged, samples, short=False)
    (growth,) = [each for each in judged.checks if each.what.startswith("growth")]
    assert growth.holds == holds
    assert judged.holds == holds


def test_a_table_that_only_grows_is_told():
    samples = Samples(
        [float(number) for number in range(90)],
        [{"resident": 100.0, "descriptors": 40, "threads": 9}] * 90,
        [
            {"sidecache_background_tasks": 10.0 + number, "sidecache_requests_total": float(number)}
            for number in range(90)
        ],
    )
    judged = Judged("endurance", "")
    judge_growth(judged, samples, short=False)
    assert [each.what for each in judged.checks if not each.holds] == [
        "sidecache_background_tasks: the last fifth beyond the first"
    ]


def test_the_table_says_what_was_missed_and_breaks_at_nothing():
    judged = Judged("store faults", "two replicas")
    judged.none("leaks", ["a | b\nc"])
    judged.losses.append("7 requests")
    result = {"short": True, "machine": {}, **judged.as_json()}
    text = "\n".join(table([json.loads(json.dumps(result))]))
    assert "### Store faults: **does not hold**" in text
    assert "| leaks | 1, as in: a \\| b c | 0 | **missed** |" in text
    assert "Lost, as documented: 7 requests." in text


def test_every_record_says_its_own_sizes():
    for record in records():
        line, _, rest = record.partition(b"\n")
        expected, request = (int(word) for word in line.split()[3:])
        assert len(rest) == expected + request
        assert rest[expected:].split(b" ", 1)[0] in (b"GET", b"PUT", b"POST")


@pytest.mark.process
def test_one_that_hangs_and_does_not_listen_is_ended_and_judged(tmp_path, monkeypatch):
    deaf = tmp_path / "deaf"
    deaf.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 40\n")
    deaf.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(deaf))
    monkeypatch.setattr(playing, "RESULTS", tmp_path)
    monkeypatch.setattr(playing, "MAX_SECONDS", -59.5)
    monkeypatch.setattr(playing, "STOPPING", 0.2)
    assert not playing.apart("store", short=True)
    (check,) = json.loads((tmp_path / "store.json").read_text())["checks"]
    assert (check["measured"], check["holds"]) == ("it hangs", False)


def wrong(judged: Judged) -> list[Check]:
    """What no busy machine excuses: something of which there must be none."""
    return [check for check in judged.checks if check.bound == "0" and not check.holds]


@pytest.mark.process
async def test_of_an_upstream_that_fails_nobody_sees_more_than_its_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(upstream, "faults", lambda *them: dict(list(FAULTS(*them).items())[:1]))
    judged = await upstream.run(tmp_path, short=True)
    assert wrong(judged) == []
    assert len(judged.checks) > 5


FAULTS = upstream.faults


@pytest.mark.process
@servers.needs_redis
async def test_without_descriptors_left_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(descriptors, "CLIENTS", 250)
    judged = await descriptors.run(tmp_path, short=True)
    assert wrong(judged) == []
    assert len(judged.checks) > 5


@pytest.mark.process
def test_the_client_of_the_long_run_refuses_what_it_cannot_read(tmp_path):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    subprocess.run([compiler, "-Wall", "-Werror", "-O1", "-o", str(tmp_path / "mix"), MIX], check=True, timeout=50)
    (tmp_path / "records").write_text("nonsense")
    done = subprocess.run(
        [str(tmp_path / "mix"), "1", "1", "1", "1", str(tmp_path / "records")], capture_output=True, timeout=10
    )
    assert done.returncode == 2
    assert b"cannot use" in done.stderr
