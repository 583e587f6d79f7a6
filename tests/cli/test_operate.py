"""The operator's commands against a real admin port: what is printed, exit codes, --json."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy.admin.ledger import AuditFile, Ledger
from proxy.cli.main import app
from proxy.policy.outcome import Forward, Outcome, Reason
from tests.admin.test_chain import RECORD
from tests.admin.world import TOKENS, World, port
from tests.cli.process import said


class Side:
    """A sidecar's admin port on a loop of its own; `do` runs something there."""

    def __init__(self, tmp_path: Path, profile: str) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(tmp_path, profile)))
        self._thread.start()
        assert self._started.wait(10)

    async def _run(self, tmp_path: Path, profile: str) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with port(tmp_path, profile) as (self.world, client):
            self.world.clock.now = time.time()
            self.address = f"127.0.0.1:{client.port}"
            self._started.set()
            await self._over.wait()

    def do(self, work: Callable[[World], Any]) -> Any:
        async def done() -> Any:
            found = work(self.world)
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


@pytest.fixture
def side(tmp_path, monkeypatch) -> Iterator[Side]:
    opened = Side(tmp_path, "staging")
    monkeypatch.setenv("SIDECACHE_ADMIN_LISTEN", opened.address)
    monkeypatch.setenv("SIDECACHE_TOKEN", TOKENS["inspector"].token)
    monkeypatch.setenv("COLUMNS", "200")
    yield opened
    opened.close()


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stdout


def test_status_is_one_verdict_first_and_exit_code_0_when_all_is_well(side):
    side.do(lambda world: world.keep())
    code, out = run("status")
    assert (code, out.splitlines()[0]) == (0, "OK: no request yet, store healthy, rules valid")
    assert "org_a" in out
    assert "memory   1 entries" in out


def test_status_is_exit_code_1_when_something_is_the_matter(side):
    side.do(lambda world: world.store.down.add("ping"))
    code, out = run("status")
    assert code == 1
    assert out.startswith("DEGRADED: the store does not answer")
    code, out = run("status", "--json")
    assert (code, json.loads(out)["verdict"]["level"]) == (1, "degraded")


def test_top_says_reasons_with_their_edit(side):
    side.do(lambda world: world.seen("GET", "/api/x", Outcome(Reason.NO_RULE, forward=Forward.BYPASS)))
    code, out = run("top", "reasons")
    assert code == 0
    assert 'features.NAME.read: ["GET /api/x"]' in out
    assert json.loads(run("top", "reasons", "--json")[1])["top"][0]["count"] == 1


def test_top_tenants_says_who_holds_what(side):
    side.do(lambda world: world.keep("/api/jobs", "org_b"))
    assert "org_b" in run("top", "tenants")[1]


def test_nothing_to_rank_is_said(side):
    assert run("top") == (0, "nothing yet\n")


def test_keys_are_one_a_line_over_all_pages(side):
    for number in range(3):
        side.do(lambda world, number=number: world.keep(f"/api/jobs/{number}"))
    code, out = run("keys", "--tenant", "org_a")
    assert (code, out.splitlines()) == (0, [f"tenant:org_a:jobs:{number}  memory, store" for number in range(3)])
    told = json.loads(run("keys", "--limit", "2", "--json")[1])
    assert (len(told["keys"]), told["more"]) == (2, True)
    side.do(lambda world: world.cache._memory.drop("tenant:org_a:jobs:1"))
    assert run("keys", "--tier", "memory")[1].split() == [
        "tenant:org_a:jobs:0", "memory", "tenant:org_a:jobs:2", "memory",
    ]  # fmt: skip
    assert "tenant:org_a:jobs:1  store\n" in run("keys", "--tier", "store")[1]


def test_a_store_that_does_not_list_is_said_and_memory_is_listed(side):
    side.do(lambda world: world.keep("/api/jobs"))
    side.do(lambda world: world.store.down.add("names"))
    result = CliRunner().invoke(app, ["keys"])
    assert result.stdout == "tenant:org_a:jobs:list  memory\n"
    assert "the store does not list its keys: names: the store is down" in result.stderr


def test_purge_purges_and_says_what(side):
    side.do(lambda world: world.keep("/api/jobs/77"))
    code, out = run("purge", "jobs:77", "--tenant", "org_a", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "would purge: jobs:77 of org_a")
    assert side.do(lambda world: world.is_kept("/api/jobs/77"))
    code, out = run("purge", "jobs:77", "--tenant", "org_a", "--reason", "INC-42")
    assert (code, out.splitlines()[0]) == (0, "purged: jobs:77 of org_a")
    assert not side.do(lambda world: world.is_kept("/api/jobs/77"))
    assert json.loads(run("purge", "--path", "/api/jobs/77", "--tenant", "org_a", "--json")[1])["accepted"] is True
    assert "marked as stale" in run("purge", "jobs", "--tenant", "org_a", "--soft")[1]


def test_a_whole_tenant_needs_its_name_again(side):
    code, out = run("purge", "--tenant", "org_a", "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "needs --confirm org_a")
    assert run("purge", "--tenant", "org_a", "--confirm", "org_a")[0] == 0
    assert run("purge", "--everything", "--confirm", "everything")[0] == 0


def test_bypass_goes_on_for_a_while_and_off(side):
    code, out = run("bypass", "on", "--for", "15m", "--feature", "jobs", "--tenant", "org_a", "--reason", "INC-42")
    assert code == 0
    assert out.startswith("jobs of org_a goes past the cache for another ")
    assert "by ida (INC-42)" in out
    assert side.do(lambda world: world.bypasses.covers("jobs", "org_a"))
    assert run("bypass", "off") == (0, "caching is on everywhere\n")


def test_why_tells_what_is_kept_and_what_touched_it(side):
    side.do(lambda world: world.keep())
    side.do(lambda world: world.purges.note("PUT /api/jobs/{job-id}", {"org_a": ("jobs:list",)}))
    side.do(lambda world: world.seen("PATCH", "/api/jobs/7", Outcome(Reason.UNMATCHED_WRITE)))
    code, out = run("why", "/api/jobs", "--as", "org_a:u1")
    assert code == 0
    assert "verdict        served fresh" in out
    assert "stored         tenant:org_a:jobs:list: 0 s ago by GET /api/jobs, status 200, 2 B" in out
    assert "by PUT /api/jobs/{job-id}: jobs:list" in out
    assert 'rules.yaml: features.NAME.write: ["PATCH /api/jobs/{id}"]' in out
    told = json.loads(run("why", "http://portal.example/api/jobs?page=2", "--as", "org_a", "--json")[1])
    assert (told["request"], told["split_by"]) == ("GET /api/jobs?page=2", ["host"])
    assert json.loads(run("why", "POST /api/jobs", "--json")[1])["because"] == "write"
    told = json.loads(run("why", "/api/jobs", "--as", "org_a", "--header", "x-theme: dark", "--json")[1])
    assert told["split_by"] == ["x-theme"]


def test_audit_says_who_did_what(side):
    assert run("audit") == (0, "nothing in this time\n")
    run("purge", "jobs", "--tenant", "org_a", "--reason", "INC-42")
    code, out = run("audit", "--since", "2h", "--actor", "ida")
    assert code == 0
    assert "INC-42" in out
    assert json.loads(run("audit", "--json")[1])["lines"][0]["actor"]["name"] == "ida"


def test_audit_goes_on_where_the_page_before_ended(side):
    for tag in ("jobs:1", "jobs:2", "jobs:3"):
        run("purge", tag, "--tenant", "org_a")
    told = json.loads(run("audit", "--limit", "2", "--json")[1])
    assert [line["target"]["tags"] for line in told["lines"]] == [["jobs:3"], ["jobs:2"]]
    _, out = run("audit", "--cursor", told["next"])
    assert ("jobs:1" in out, "jobs:2" in out) == (True, False)


def test_the_counts_of_a_minute_are_one_figure(side):
    counts = [{"count": 3}, {"count": 4}]
    side.do(lambda world: world.audit.record("rollup", target={"counts": counts}))
    assert "counts 7" in run("audit")[1]


@pytest.fixture
async def log(tmp_path) -> Path:
    file = tmp_path / "audit.jsonl"
    await Ledger(AuditFile(file), pytest.fail).enter([RECORD] * 3)
    return file


def test_a_log_is_verified_without_asking_anybody(log):
    code, out = run("audit", "--verify", str(log))
    assert code == 0
    assert out.startswith(f"{log}: 3 lines, none changed, dropped or moved; last hash ")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[1] + lines[2])
    assert f"follows the hash {json.loads(lines[0])['hash']}" in run("audit", "--verify", str(log))[1]
    log.write_bytes(lines[0] + lines[2])
    code, out = run("audit", "--verify", str(log))
    assert (code, out) == (1, f"{log}:2: does not follow the line before: lines were dropped or moved\n")
    code, out = run("audit", "--verify", str(log), "--json")
    assert (code, json.loads(out)["broken_at"]) == (1, 2)


@pytest.mark.parametrize("form", ["native", "ocsf"])
async def test_a_log_is_verified_among_what_else_a_container_said(tmp_path, form):
    file = tmp_path / "audit"
    await Ledger(AuditFile(file), pytest.fail, form=form).enter([RECORD] * 3)
    one, two, three = file.read_bytes().splitlines(keepends=True)
    other = b'{"event": "listening"}\n'

    def verified(*lines: bytes) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["audit", "--verify", "-"], input=b"".join(lines))
        return result.exit_code, result.stdout

    code, out = verified(other, one, two, other, three)
    assert (code, out.startswith("standard input: 3 lines, none changed")) == (0, True)
    assert verified(other, one, other, three) == (
        1, "standard input:4: does not follow the line before: lines were dropped or moved\n",
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "line"),
    [
        # realistic
        (["status", "--admin", "127.0.0.1:1"], "no answer from the admin port 127.0.0.1:1: connection refused"),
        (["bypass", "on"], "how long? such as --for 15m"), (["bypass", "off", "--for", "1m"], "off is at once"),
        (["bypass"], "Missing argument"), (["top", "colours"], "colours"), (["status", "--admin", "x"], "HOST:PORT"),
        (["why", "jobs"], "write a URL or a path"), (["why", "/a /b"], "write it like /api/jobs/77"),
        (["why", "ftp://x/y"], "write a URL or a path"), (["why", "/x", "--header", "nothing"], "accept-language: de"),
        (["audit", "--verify", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        # pathological
        (["why", "http://user:pw@h/x"], "write a URL or a path"), (["keys", "--limit", "0"], "--limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_exit_code_2_and_one_line(tmp_path, words, line):
    code, out, err = said(*words, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_refusal_is_exit_code_2_with_the_sidecars_words(side, tmp_path):
    for words, line in (
        (["purge", "jbos", "--tenant", "org_a"], "sidecache: tags: 'jbos' is no feature of the rules; did you mean"),
        (["purge"], "sidecache: Say what to purge"),
        (["bypass", "on", "--for", "2d"], "sidecache: for: '2d' is not more than 0 and at most 86400s"),
    ):
        code, out, err = said(
            *words, cwd=tmp_path, SIDECACHE_ADMIN_LISTEN=side.address, SIDECACHE_TOKEN=TOKENS["operator"].token
        )
        assert (code, out, err.startswith(line)) == (2, "", True), err
    code, _, err = said("status", cwd=tmp_path, SIDECACHE_ADMIN_LISTEN=side.address, SIDECACHE_TOKEN="wrong")
    assert (code, err) == (2, "sidecache: This token is not known here (SIDECACHE_TOKEN)\n")
