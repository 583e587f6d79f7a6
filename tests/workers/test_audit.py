"""What several workers do is one audit log, whole whatever ends, and one answer to who uses what."""

import json
import os
import signal

import pytest

from proxy.admin.chain import verify
from tests import servers, wire
from tests.portal import HOST, RULES, TENANTS, is_hit, item
from tests.serving.world import unsigned
from tests.workers.sidecar import Workers, workers

pytestmark = [pytest.mark.process, servers.needs_redis, pytest.mark.timeout(120)]

ORG = TENANTS[0]
TOKEN = f"Authorization: Bearer {unsigned(ORG)}"
SENSITIVE = RULES.replace("  jobs:\n", "  jobs:\n    sensitive: true\n")


@pytest.fixture(scope="module")
def server():
    with servers.running(servers.redis_server()) as made:
        yield made


@pytest.fixture(autouse=True)
def empty(server):
    server.flush()


def logged(made: Workers) -> list[bytes]:
    return (made.folder / "audit.jsonl").read_bytes().splitlines()


def audited(made: Workers, event: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, logged(made)) if line["event"] == event]


async def asked(made: Workers, path: str) -> dict:
    answer = await made.admin(path)
    assert answer.status == 200, answer.body
    found: dict = json.loads(answer.body)
    return found


@pytest.mark.parametrize("form", ["native", "ocsf"])
async def test_the_lines_of_all_workers_are_one_chain(server, tmp_path, form):
    environ = {"SIDECACHE_AUDIT_LOG": "audit.jsonl", "SIDECACHE_AUDIT_FORMAT": form}
    async with workers(server, tmp_path, 2, rules=SENSITIVE, **environ) as made:
        held = await made.spread(2)
        for _ in range(10):
            for clients in held.values():
                for client in clients:
                    assert (await client.ask(item(1), TOKEN, host=HOST)).status == 200
        assert (await made.post("/api/cache/bypass", {"state": "on", "for": "10m"}))[0] == 200
        count = 10 * sum(map(len, held.values()))
        told: dict = {}

        async def streamed() -> bool:
            nonlocal told
            told = await asked(made, "/api/audit?limit=1000")
            return len(told["lines"]) >= count + 1

        await made.until(streamed)
        made.process.send_signal(signal.SIGTERM)
        assert await made.ended() == 0
    lines = logged(made)
    verdict = verify(lines)
    assert (verdict.broken_at, verdict.problem) == (None, "")
    events = [line["event"] for line in told["lines"]]
    assert (events.count("sensitive-access"), events.count("bypass-on")) == (count, 1)
    assert {line["worker"] for line in told["lines"] if line["event"] == "sensitive-access"} == {0, 1}
    assert len(lines) >= count + 1 + 2  # and the last minute of each


async def test_standard_output_is_one_chain_too(server, tmp_path):
    environ = {"SIDECACHE_AUDIT_LOG": "stdout"}
    with (tmp_path / "out").open("wb") as out:
        async with workers(server, tmp_path, 2, rules=SENSITIVE, stdout=out, **environ) as made:
            for clients in (await made.spread(1)).values():
                assert (await clients[0].ask(item(1), TOKEN, host=HOST)).status == 200
            made.process.send_signal(signal.SIGTERM)
            assert await made.ended() == 0
    verdict = verify((tmp_path / "out").read_bytes().splitlines())
    assert (verdict.broken_at, verdict.lines >= 2) == (None, True)


async def test_a_line_of_an_answered_action_outlives_its_worker(server, tmp_path):
    async with workers(server, tmp_path, 2, SIDECACHE_AUDIT_LOG="audit.jsonl") as made:
        for number in range(2):
            (speaker,) = [pid for pid in made.pids if await speaks(made, pid)]
            reason = f"before the end {number}"
            body = {"tenant": ORG, "tags": ["jobs"], "reason": reason}
            status, _ = await made.post("/api/cache/invalidate", body, "DELETE")
            os.kill(speaker, signal.SIGKILL)
            assert status == 200
            assert [line["reason"] for line in audited(made, "purge")][-1:] == [reason]
            await made.has("worker-ended", number + 1)
            await made.until(lambda: len(made.pids) == 2)
            await made.until(lambda: answers(made))
        assert verify(logged(made)).broken_at is None


async def answers(made: Workers) -> bool:
    try:
        return (await made.admin("/livez")).status == 200
    except (OSError, wire.Cut):
        return False


async def speaks(made: Workers, pid: int) -> bool:
    """Whether this worker answers the admin port: it has the connection."""
    client = await wire.connect(made.admin_port)
    try:
        await client.ask("/livez", host=f"127.0.0.1:{made.admin_port}")
        return made.holder(client, made.admin_port) == pid
    finally:
        await client.close()


async def test_without_the_store_the_parent_knows_the_last_lines_of_all(server, tmp_path):
    with servers.running(servers.redis_server()) as lost:
        async with workers(lost, tmp_path, 2, rules=SENSITIVE, SIDECACHE_AUDIT_LOG="off") as made:
            held = await made.spread(1)
            for clients in held.values():
                assert (await clients[0].ask(item(1), TOKEN, host=HOST)).status == 200
            lost.kill()

            async def known() -> bool:
                told = await asked(made, "/api/audit?event=sensitive-access")
                assert told["of"].startswith("the last lines of this sidecar")
                return {line["worker"] for line in told["lines"]} == {0, 1}

            await made.until(known)


async def test_status_top_and_why_are_of_all_workers(server, tmp_path):
    async with workers(server, tmp_path, 2) as made:
        held = await made.spread(1)
        hits = 0
        for clients in held.values():
            for _ in range(6):
                hits += is_hit((await clients[0].ask(item(1), TOKEN, host=HOST)).cache)
            assert (await clients[0].ask("/nowhere", TOKEN, host=HOST)).status == 200
            assert (await clients[0].ask(item(2), TOKEN, method="PUT", body=b"{}", host=HOST)).status == 200
        status = await asked(made, "/api/cache/status")
        assert (status["processes"], status["first_tier"]["entries"]) == (2, 2)
        (row,) = [row for row in (await asked(made, "/api/cache/top?by=tenants"))["top"] if row["tenant"] == ORG]
        assert (row["requests"], row["hits"], row["entries"]) == (12, hits, 2)
        reasons = (await asked(made, "/api/cache/top?by=reasons"))["top"]
        assert [row["count"] for row in reasons if row["reason"] == "no-rule"] == [2]
        assert [row["count"] for row in reasons if row["reason"] == "write"] == [2]
        status_code, body = await made.post(
            "/api/cache/explain", {"request": f"GET {item(2)}", "as": {"org_id": ORG, "headers": {"host": HOST}}}
        )
        assert (status_code, len(json.loads(body)["purges_that_touched_it"])) == (200, 2)
        assert len((await asked(made, "/api/audit"))["purges"]) == 2
        for number, clients in enumerate(held.values()):  # each in one worker's memory only
            assert (await clients[0].ask(item(10 + number), TOKEN, host=HOST)).status == 200
        told = await asked(made, "/api/cache/keys?tier=memory")
        assert {f"tenant:{ORG}:jobs:{number}" for number in (1, 10, 11)} <= set(told["keys"])
        for number in (10, 11):
            found = await asked(made, f"/api/cache/entry?key=tenant:{ORG}:jobs:{number}")
            assert (found["tier"], found["status"]) == ("memory", 200)
