"""Several processes that look like one: coherent at once, ended and replaced without a request that fails."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress

import pytest

from proxy.credentials import new_admin_token
from tests import servers, wire
from tests.portal import HOST, LIST, RULES, TENANTS, is_hit, item, opened, traffic
from tests.serving.world import unsigned
from tests.telemetry.naming import complaints
from tests.workers.sidecar import UNTOLD, Workers, workers

pytestmark = [pytest.mark.process, servers.needs_redis, pytest.mark.timeout(120)]

ORG = TENANTS[0]
TOKEN = f"Authorization: Bearer {unsigned(ORG)}"
PUBLIC = "version: 1\nfeatures:\n  jobs:\n    ttl: {ttl}\n    scope: public\n    read: [GET /api/jobs]\n"
ALONE = {"SIDECACHE_SOLE_REPLICA": "1"}  # copies are trusted for ever, and no doorbell rings


@pytest.fixture
def server():
    with servers.running(servers.redis_server()) as made:
        yield made


async def read(client: wire.Client, path: str = item(1), token: str = TOKEN) -> wire.Message:
    return await client.ask(path, token, host=HOST)


async def write(client: wire.Client, path: str = item(1)) -> int:
    """The version that the write made."""
    answer = await client.ask(path, TOKEN, method="PUT", body=b"{}", host=HOST)
    assert answer.status == 200
    return int(opened(answer.body)["versions"][path])


def version(answer: wire.Message, path: str = item(1)) -> int:
    return int(opened(answer.body)["versions"][path])


async def warmed(clients: list[wire.Client]) -> None:
    """Until each of them is answered from memory."""
    for client in clients:
        async with asyncio.timeout(20):
            while not is_hit((await read(client)).cache):
                pass


async def observed(made: Workers, operations: int) -> tuple[dict[str, list[str]], int]:
    """What was wrong, and how many hits there were.

    Not C5: while a write is not answered yet, one worker may know of it and another not.
    """
    history = made.history()
    using = asyncio.ensure_future(traffic(history, users=12, operations=operations, seed=3, writes=0.1, items=6))
    await made.until(lambda: using.done() or history.operations > operations / 2)
    held = made.holders()
    await using
    assert held.keys() == set(made.pids)  # it was about all of them
    return {kind: told for kind, told in history.wrong.items() if kind != "C5"}, history.hits


# Coherence


@pytest.mark.parametrize(("count", "environ"), [(2, {}), (3, ALONE)], ids=["2", "3-alone"])
async def test_no_read_is_older_than_a_write_that_any_worker_answered(server, tmp_path, count, environ):
    async with workers(server, tmp_path, count, **environ) as made:
        wrong, hits = await observed(made, 3000)
        assert wrong == {}
        assert hits > 800  # it was about a cache
        assert made.events("background-failed", "worker-silent", "library") == []


async def test_workers_that_are_not_told_are_caught(server, tmp_path):
    """Positive control: the same workload, purges told to nobody."""
    async with workers(server, tmp_path, 2, command=UNTOLD, **ALONE) as made:
        wrong, _ = await observed(made, 3000)
        assert wrong.keys() >= {"C3 same"}


@pytest.mark.parametrize("lost", [False, True], ids=["", "store-lost"])
async def test_what_one_worker_answers_every_connection_of_all_sees_at_once(server, tmp_path, lost):
    async with workers(server, tmp_path, **ALONE) as made:
        held = await made.spread(4)
        clients = [client for each in held.values() for client in each]
        await warmed(clients)
        if lost:
            server.kill()  # the purge is refused: all must distrust what it named
        for writer in (held[made.pids[0]][0], held[made.pids[1]][0]):
            least = await write(writer)
            seen = [version(answer) for answer in await asyncio.gather(*map(read, clients))]
            assert min(seen) >= least


async def test_a_worker_that_begins_knows_of_purges_that_the_store_has_not_taken(server, tmp_path):
    async with workers(server, tmp_path, **ALONE) as made:
        held = await made.spread(1)
        await warmed([client for each in held.values() for client in each])
        one, other = made.pids
        server.kill()
        await write(held[one][0])
        os.kill(other, signal.SIGKILL)
        await made.until(lambda: len(made.events("worker-started")) == 3)
        server.start().wait()

        async def taken() -> bool:
            return (await made.metrics())["sidecache_epochs_pending", ()] == 0

        await made.until(taken)
        least = made.portal.versions[ORG, item(1)]
        await made.until(lambda: len(made.pids) == 2)
        for clients in (await made.spread(1)).values():
            assert version(await read(clients[0])) >= least


async def test_a_silent_worker_is_killed_before_the_write_is_answered_and_comes_back(server, tmp_path):
    async with workers(server, tmp_path) as made:
        held = await made.spread(1)
        one, other = made.pids
        await warmed([held[one][0], held[other][0]])
        os.kill(other, signal.SIGSTOP)
        await write(held[one][0])
        assert [line["pid"] for line in made.events("worker-ended")] == [other]
        assert len(made.events("worker-silent")) == 1
        await made.until(lambda: len(made.pids) == 2)
        assert min(len(each) for each in (await made.spread(1)).values()) == 1


# Ends


async def asks_until(client: wire.Client, end: asyncio.Event) -> int:
    """How many requests of one connection were answered, all of them."""
    count = 0
    while not end.is_set():
        assert (await read(client)).status == 200
        count += 1
    return count


async def test_a_killed_worker_takes_nobody_else_along_and_is_replaced(server, tmp_path):
    async with workers(server, tmp_path) as made:
        held = await made.spread(3)
        victim, survivor = made.pids
        end = asyncio.Event()
        asking = [asyncio.ensure_future(asks_until(client, end)) for client in held[survivor]]
        doomed = [asyncio.ensure_future(asks_until(client, end)) for client in held[victim]]
        os.kill(victim, signal.SIGKILL)
        await made.has("worker-ended")
        await made.until(lambda: len(made.pids) == 2)
        assert (await made.admin("/readyz")).status == 200  # it was the one that spoke for all
        assert len((await made.spread(1))[made.pids[1]]) == 1

        async def counted() -> bool:
            metrics = await made.metrics()
            return (metrics["sidecache_workers", ()], metrics["sidecache_worker_restarts_total", ()]) == (2, 1)

        await made.until(counted)
        end.set()
        assert min(await asyncio.gather(*asking)) > 0
        assert all(isinstance(end, Exception) for end in await asyncio.gather(*doomed, return_exceptions=True))
        (line,) = made.events("worker-ended")
        assert (line["level"], line["pid"], line["code"]) == ("error", victim, -signal.SIGKILL)


class Persistent:
    """A client that asks again and again, and comes back where it is told that its connection ends."""

    def __init__(self, made: Workers) -> None:
        self._made = made
        self.answered = 0
        self.failed: list[str] = []

    async def use(self, end: asyncio.Event) -> None:
        client: wire.Client | None = None
        while not end.is_set():
            if client is None:
                try:
                    client = await self._made.connect()
                except ConnectionRefusedError:
                    return  # nobody listens any more
            try:
                answer = await client.ask(LIST, TOKEN, host=HOST)
            except (OSError, wire.Cut, asyncio.IncompleteReadError) as error:
                self.failed.append(repr(error))
                return
            self.answered += answer.status == 200
            if answer.get("connection") == "close":
                await client.close()
                client = None
        if client is not None:
            await client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_workers_drain_and_no_request_fails(server, tmp_path, number):
    environ = {"SIDECACHE_PROFILE": "staging", "SIDECACHE_DEV_AUTH": "0", "SIDECACHE_DRAIN_S": "10"}
    async with workers(server, tmp_path, rules=PUBLIC.format(ttl="15m"), **environ) as made:
        clients, end = [Persistent(made) for _ in range(12)], asyncio.Event()
        using = [asyncio.ensure_future(client.use(end)) for client in clients]
        await made.until(lambda: all(client.answered > 5 for client in clients))
        made.process.send_signal(number)
        assert await made.ended() == 0
        await asyncio.gather(*using)
        assert [client.failed for client in clients if client.failed] == []
        assert [line["code"] for line in made.events("worker-ended")] == [0, 0]


async def test_a_worker_that_is_asked_to_end_is_replaced_without_a_request_that_fails(server, tmp_path):
    async with workers(server, tmp_path) as made:
        held = await made.spread(1)
        first, second = made.pids
        made.portal.gate = asyncio.Event()
        slow = asyncio.ensure_future(read(held[first][0], item(7)))
        await made.until(lambda: made.portal.asked[ORG, item(7)] == 1)
        os.kill(first, signal.SIGTERM)
        # it is under way there still, and the admin port is answered by the other
        await made.until(lambda: _is_served(made, second))
        assert (await made.admin("/readyz")).status == 200
        assert made.pids[0] == first
        made.portal.gate.set()
        assert (await slow).status == 200
        await made.has("worker-started", 3)
        assert [(line["pid"], line["code"]) for line in made.events("worker-ended")] == [(first, 0)]
        assert (await made.admin("/readyz")).status == 200


async def _is_served(made: Workers, pid: int) -> bool:
    """Whether only this worker takes new connections."""
    clients = [await made.connect() for _ in range(6)]
    for client in clients:
        await client.ask("/.sidecache/readyz", host=HOST)
    holders = {made.holder(client) for client in clients}
    for client in clients:
        await client.close()
    return holders == {pid}


async def test_a_second_signal_ends_everything_at_once(server, tmp_path):
    async with workers(server, tmp_path, SIDECACHE_DRAIN_S="300") as made:
        made.portal.gate = asyncio.Event()
        client = await made.connect()
        slow = asyncio.ensure_future(read(client))
        await made.until(lambda: made.portal.asked[ORG, item(1)] == 1)
        pids = made.pids
        made.process.terminate()
        await made.until(lambda: _refused(made.port))
        made.process.terminate()
        assert await made.ended() == -signal.SIGTERM
        await made.until(lambda: not any(map(_lives, pids)), runs=False)
        with pytest.raises((OSError, wire.Cut, asyncio.IncompleteReadError, AssertionError)):
            await slow
        made.portal.gate.set()


async def _refused(port: int) -> bool:
    return await wire.refuses(port)


def _lives(pid: int) -> bool:
    with suppress(FileNotFoundError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_workers_without_their_parent_end(server, tmp_path):
    """Nobody would tell them of each other's purges."""
    async with workers(server, tmp_path) as made:
        pids = made.pids
        made.process.kill()
        await made.until(lambda: not any(map(_lives, pids)), runs=False)


async def test_a_worker_that_cannot_start_ends_the_start(server, tmp_path):
    broken = ("import proxy.workers.supervisor as s, proxy.cli.run as r, os, time; from proxy.settings import load; "
              "r.run_until_done(s.supervise(load(os.environ), time.time, boot='raise SystemExit(3)'))")  # fmt: skip
    with pytest.raises(AssertionError, match="ended with 3 at its start"):
        async with workers(server, tmp_path, command=(sys.executable, "-c", broken)):
            pass


# Rules


async def ttls(made: Workers) -> set[str]:
    """The freshness that each worker gives what it fetches anew."""
    found = set()
    for clients in (await made.spread(1)).values():
        answer = await clients[0].ask(f"{LIST}?at={time.monotonic_ns()}", TOKEN, host=HOST)
        again = await clients[0].ask(f"{LIST}?at={time.monotonic_ns()}", TOKEN, host=HOST)
        assert (answer.status, again.status) == (200, 200)
        key = f"{LIST}?of={time.monotonic_ns()}"
        await clients[0].ask(key, TOKEN, host=HOST)
        hit = await clients[0].ask(key, TOKEN, host=HOST)
        found.add(hit.cache.rpartition("ttl=")[2][:2])
        for client in clients:
            await client.close()
    return found


async def test_new_rules_are_in_force_in_all_and_broken_ones_in_none_and_told_once(server, tmp_path):
    async with workers(server, tmp_path, rules=RULES.replace("ttl: 15m", "ttl: 70s")) as made:
        assert await ttls(made) <= {"69", "68", "67", "66"}
        (tmp_path / "rules.yaml").write_text(RULES.replace("ttl: 15m", "ttl: 50s"))
        made.process.send_signal(signal.SIGHUP)
        await made.has("rules-loaded")

        async def everywhere() -> bool:
            return await ttls(made) <= {"49", "48", "47", "46"}

        await made.until(everywhere)
        (tmp_path / "rules.yaml").write_text("broken: [")
        made.process.send_signal(signal.SIGHUP)
        await made.has("rules-refused")

        async def degraded() -> bool:
            return b'"degraded"' in (await made.admin("/readyz")).body

        await made.until(degraded)
        assert await everywhere()
        # one that starts now has the good ones, and knows that the file is broken
        os.kill(made.pids[0], signal.SIGKILL)
        await made.has("worker-started", 3)
        assert await everywhere()
        await made.until(degraded)
        assert (await made.metrics())["sidecache_rules_valid", ()] == 0
        assert len(made.events("rules-refused")) == len(made.events("rules-loaded")) == 1


async def test_a_reload_that_is_asked_for_during_the_start_does_not_end_it(server, tmp_path):
    hasty = (
        "import os, signal, time, proxy.workers.supervisor as s, proxy.cli.run as r; from proxy.settings import load; "
        "from proxy.telemetry.logs import configure; configure(); told = s.Supervisor._tell_where; "
        "s.Supervisor._tell_where = lambda *all: (os.kill(os.getpid(), signal.SIGHUP), told(*all)); "
        "r.run_until_done(s.supervise(load(os.environ), time.time))"
    )
    async with workers(server, tmp_path, command=(sys.executable, "-c", hasty)) as made:
        assert (await made.admin("/readyz")).status == 200


async def test_rules_that_share_more_are_accepted_once_for_all_workers(server, tmp_path):
    token, entry = new_admin_token("ida", "inspector", None, os.urandom)
    environ = {"SIDECACHE_PROFILE": "staging", "SIDECACHE_DEV_AUTH": "0", "SIDECACHE_ADMIN_TOKENS": str(entry)}
    narrow = PUBLIC.format(ttl="1m").replace("scope: public", "scope: tenant")
    async with workers(server, tmp_path, 2, rules=narrow, **environ) as made:
        wide = PUBLIC.format(ttl="1m")
        (tmp_path / "rules.yaml").write_text(wide)
        await made.has("rules-widening")

        async def state() -> tuple[float, float]:
            # of all: the least that is valid, the most that waits
            client = await wire.connect(made._port("admin"))
            answer = await client.ask("/metrics", host="127.0.0.1")
            await client.close()
            lines = dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if line[0] != "#")
            return float(lines["sidecache_rules_valid"]), float(lines["sidecache_rules_widening"])

        async def waits() -> bool:
            return await state() == (0, 1)

        async def in_force() -> bool:
            return await state() == (1, 0)

        await made.until(waits)
        # one that starts now waits as well
        os.kill(made.pids[0], signal.SIGKILL)
        await made.has("worker-started", 3)
        await made.until(waits)
        digest = made.events("rules-widening")[0]["digest"]
        client = await wire.connect(made._port("admin"))
        answer = await client.ask(
            "/api/rules/reload", "Content-Type: application/json", f"Authorization: Bearer {token}", method="POST",
            body=json.dumps({"accept-widening": digest}).encode(), host=f"127.0.0.1:{made._port('admin')}",
        )  # fmt: skip
        await client.close()
        assert (answer.status, json.loads(answer.body)["digest"]) == (200, digest)
        await made.until(in_force)
        # and one that starts now has them
        os.kill(made.pids[0], signal.SIGKILL)
        await made.has("worker-started", 4)
        await made.until(in_force)
        assert len(made.events("rules-loaded")) == len(made.events("rules-widening")) == 1


async def test_a_worker_that_starts_later_knows_too_of_what_was_away_for_a_while(server, tmp_path):
    environ = {"SIDECACHE_PROFILE": "staging", "SIDECACHE_DEV_AUTH": "0"}
    wide = PUBLIC.format(ttl="1m")
    async with workers(server, tmp_path, 2, rules=wide.replace("scope: public", "scope: tenant"), **environ) as made:
        (tmp_path / "rules.yaml").write_text("version: 1\nfeatures: {}\n")
        await made.has("rules-loaded")
        os.kill(made.pids[0], signal.SIGKILL)
        await made.has("worker-started", 3)
        (tmp_path / "rules.yaml").write_text(wide)
        await made.has("rules-widening")

        async def all_wait() -> bool:
            client = await wire.connect(made._port("admin"))
            answer = await client.ask("/metrics", host="127.0.0.1")
            await client.close()
            return b"\nsidecache_workers 2" in answer.body and b"\nsidecache_rules_valid 0" in answer.body

        await made.until(all_wait)
        assert len(made.events("rules-loaded")) == 1
        client = await wire.connect(made.port)
        answers = [await read(client, "/api/jobs") for _ in range(4)]
        await client.close()
        assert {answer.cache for answer in answers} == {"sidecache; fwd=bypass; detail=no-rule"}


# One for all


async def test_one_admin_port_tells_of_all(server, tmp_path):
    async with workers(server, tmp_path) as made:
        held = await made.spread(2)
        before = await made.metrics()
        for clients in held.values():
            for _ in range(5):
                assert (await read(clients[0], "/nowhere")).status == 200
        after = await made.metrics()

        def rose(name: str, **labels: str) -> float:
            key = (name, tuple(sorted(labels.items())))
            return after[key] - before.get(key, 0)

        assert rose("sidecache_requests_total", feature="", result="pass", reason="no-rule") == 10
        assert rose("sidecache_request_seconds_count", result="pass") == 10
        assert rose("sidecache_request_seconds_bucket", result="pass", le="+Inf") == 10
        assert after["sidecache_client_connections", ()] >= 4
        assert after["sidecache_workers", ()] == 2
        assert after["sidecache_build_info", (("version", _version()),)] == 1
        assert {("sidecache_loop_lag_seconds", (("worker", str(number)),)) for number in range(2)} <= after.keys()
        assert after["sidecache_store_up", ()] == 1
        assert {worker for worker, _ in await made.watched()} == {"0", "1"}
        assert (await made.admin("/livez")).status == (await made.admin("/readyz")).status == 200
        assert b"PONG" in (await made.admin("/api/health")).body


async def test_what_one_worker_is_told_to_bypass_all_bypass_and_one_that_begins_too(server, tmp_path):
    async with workers(server, tmp_path) as made:
        clients = [client for each in (await made.spread(1)).values() for client in each]
        await warmed(clients)
        status, _ = await made.post("/api/cache/bypass", {"state": "on", "for": "10m"})
        assert status == 200
        for client in clients:
            assert "switched-off" in (await read(client)).cache
        os.kill(made.pids[1], signal.SIGKILL)
        await made.has("worker-started", 3)
        for each in (await made.spread(1)).values():
            assert "switched-off" in (await read(each[0])).cache
        assert (await made.post("/api/cache/bypass", {"state": "off"}))[0] == 200
        await warmed([each[0] for each in (await made.spread(1)).values()])


async def test_rules_that_one_worker_is_told_to_reload_all_have(server, tmp_path):
    async with workers(server, tmp_path) as made:
        (tmp_path / "rules.yaml").write_text("broken: [")
        assert (await made.post("/api/rules/reload", {}))[0] == 422
        (tmp_path / "rules.yaml").write_text(RULES.replace("ttl: 15m", "ttl: 50s"))
        assert (await made.post("/api/rules/reload", {}))[0] == 200

        async def everywhere() -> bool:
            return await ttls(made) <= {"49", "48", "47", "46"}

        await made.until(everywhere)


async def test_a_purge_by_the_admin_port_holds_in_all(server, tmp_path):
    async with workers(server, tmp_path, **ALONE) as made:
        clients = [client for each in (await made.spread(2)).values() for client in each]
        await warmed(clients)
        made.portal.versions[ORG, item(1)] += 1  # behind its back
        assert {version(await read(client)) for client in clients} == {0}
        purge = {"tenant": ORG, "feature": "jobs", "confirm": "jobs"}
        assert (await made.post("/api/cache/invalidate", purge, "DELETE"))[0] == 200
        assert {version(await read(client)) for client in clients} == {1}


def _version() -> str:
    from proxy import __version__

    return __version__


async def test_the_port_for_scrapers_speaks_for_all_too_and_goes_to_another_worker(server, tmp_path):
    port = servers.free_port()
    async with workers(server, tmp_path, 2, SIDECACHE_METRICS_LISTEN=f"127.0.0.1:{port}") as made:
        assert made.events("listening")[0]["metrics"] == f"127.0.0.1:{port}"
        text = (await wire.fetch(port, "/metrics", host="x")).body
        assert b"sidecache_workers 2.0\n" in text
        assert list(complaints(text.decode())) == []
        speaker = made.pids[0]
        os.kill(speaker, signal.SIGTERM)
        await made.has("worker-ended")
        await made.has("worker-started", 3)
        assert (await wire.fetch(port, "/livez", host="x")).status == 200
