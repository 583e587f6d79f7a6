"""The whole sidecar, started and stopped in this process, with a real upstream, real sockets and real files."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from proxy import app
from proxy.admin.chain import verify
from proxy.app import Running, running, serve
from proxy.credentials import new_admin_token, new_encryption_key
from proxy.errors import ConfigError
from proxy.live_rules import LiveRules
from proxy.settings import Settings, load
from tests.serving.world import unsigned
from tests.telemetry.naming import complaints
from tests.wire import until

RULES = """
version: 1
identity: {{tenant: [jwt.org_id], user: jwt.sub, roles: jwt.permissions}}
features:
  jobs:
    ttl: {ttl}
    read: [GET /api/jobs]
    write: [POST /api/jobs]
"""
DEADLINE = 10.0


@pytest.fixture
def logged() -> list[dict[str, Any]]:
    """What is logged, as values."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES.format(ttl="15m"))
    return file


@pytest.fixture
def make(rules: Path) -> Callable[..., Settings]:
    """Settings for ports that the system chooses; tokens need no signature."""

    def made(upstream: str, **environ: str) -> Settings:
        return load(
            {"SIDECACHE_DEV_AUTH": "1", "SIDECACHE_DRAIN_S": "2", "SIDECACHE_PREFIX": "/.sidecache", **environ},
            upstream=upstream, rules=rules, listen="127.0.0.1:0", admin="127.0.0.1:0", profile="development",
        )  # fmt: skip

    return made


@contextlib.asynccontextmanager
async def portal(port: int = 0, gate: asyncio.Event | None = None) -> AsyncIterator[int]:
    """An upstream that numbers its answers."""
    asked = 0

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal asked
        asked += 1
        if gate is not None:
            await gate.wait()
        return web.json_response({"asked": asked})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as session:
        yield session


async def ask(port: int, path: str = "/api/jobs", token: str | None = None) -> tuple[int, str, str]:
    """Status, Cache-Status, body."""
    headers = {"Authorization": f"Bearer {token or unsigned()}"}
    async with client() as session, session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response:
        return response.status, response.headers.get("Cache-Status", ""), await response.text()


def events(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == name]


async def counted(sidecar: Running, name: str) -> float:
    _, _, text = await ask(sidecar.admin_port, "/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.labels == {"event": name})


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_misses_take_the_short_way_and_are_counted_like_any_others(make):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        for page in range(4):
            assert (await ask(sidecar.data_port, f"/api/jobs?page={page}"))[:2] == (
                200,
                "sidecache; fwd=uri-miss; stored",
            )
        _, _, text = await ask(sidecar.admin_port, "/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_way = [sample.value for sample in samples if sample.name == "sidecache_fetched_at_once_total"]
    assert sum(by_way) == 3  # of the first one nothing was known
    missed = {"feature": "jobs", "result": "miss", "reason": "cold"}
    assert [
        s.value for s in samples if s.name == "sidecache_requests_total" and missed.items() <= s.labels.items()
    ] == [4]


# The port of the metrics


async def test_every_metric_is_named_by_convention_and_the_scrapers_port_has_the_same(make):
    async with portal() as upstream:
        settings = make(f"http://127.0.0.1:{upstream}", SIDECACHE_METRICS_LISTEN="127.0.0.1:0")
        async with running(settings) as sidecar:
            for _ in range(2):
                await ask(sidecar.data_port)
            _, _, text = await ask(sidecar.admin_port, "/metrics")
            status, _, same = await ask(sidecar.metrics_port, "/metrics")
            assert (await ask(sidecar.metrics_port, "/api/cache/status"))[0] == 404
    assert list(complaints(text)) == []
    names = [{line for line in each.splitlines() if line.startswith("#")} for each in (text, same)]
    assert (status, names[0]) == (200, names[1])
    for line in (
        'sidecache_l1_top_bytes{tenant="org_a"}', 'sidecache_l1_share_bytes{feature="jobs"}',
        'sidecache_l1_entry_lifetime_seconds_bucket{le="900.0"} 1.0', "sidecache_l1_tenants 1.0",
        'sidecache_l1_entry_bytes_bucket{le="2048.0"} 1.0',
        'sidecache_top_upstream_requests_total{tenant="org_a"} 1.0',
    ):  # fmt: skip
        assert line in text


async def test_without_it_there_is_no_such_port(make):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        assert sidecar.metrics_port == 0


async def test_a_metrics_port_that_is_taken_is_told(make):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ConfigError, match=f"cannot listen on {address}: .*; SIDECACHE_METRICS_LISTEN=HOST:PORT cho"
        ):
            async with running(make("http://127.0.0.1:1", SIDECACHE_METRICS_LISTEN=address)):
                pass


# Starting and stopping


async def test_it_starts_serves_hits_and_leaves_nothing_behind(make, logged):
    before = asyncio.all_tasks()
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        assert await ask(sidecar.data_port) == (200, "sidecache; fwd=uri-miss; stored", '{"asked": 1}')
        status, cache_status, body = await ask(sidecar.data_port)
        assert (status, cache_status.split(";")[:2], body) == (200, ["sidecache", " hit"], '{"asked": 1}')
        assert (await ask(sidecar.data_port, "/.sidecache/livez"))[::2] == (200, "alive\n")
        assert (await ask(sidecar.data_port, "/.sidecache/readyz"))[::2] == (200, "ready\n")
        assert (await ask(sidecar.data_port, "/.sidecache/health"))[::2] == (200, "ready\n")
        _, _, health = await ask(sidecar.admin_port, "/api/health")
        assert json.loads(health) == {"status": "healthy", "result": "PONG"}
    assert asyncio.all_tasks() == before
    (listening,) = events(logged, "listening")
    assert listening["data"] == f"127.0.0.1:{sidecar.data_port}"
    assert listening["admin"] == f"127.0.0.1:{sidecar.admin_port}"
    for port in (sidecar.data_port, sidecar.admin_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_what_the_settings_warn_of_is_logged(make, logged):
    async with running(make("http://127.0.0.1:9", SIDECACHE_LISTN="x")):
        pass
    assert [line["warning"] for line in events(logged, "setting")] == [
        "SIDECACHE_LISTN: has no effect (did you mean 'SIDECACHE_LISTEN'?)"
    ]


@pytest.mark.parametrize(("flag", "name"), [("listen", "--listen"), ("admin", "--admin")])
async def test_a_port_in_use_is_one_line_and_nothing_stays_open(rules, logged, flag, name):
    before = asyncio.all_tasks()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", flag: f"127.0.0.1:{port}"}
        settings = load({}, upstream="http://127.0.0.1:9", rules=rules, profile="development", **addresses)
        with pytest.raises(ConfigError) as caught:
            async with running(settings):
                pass
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: address already in use; {name} HOST:PORT chooses another"
    )
    assert asyncio.all_tasks() == before


async def test_missing_rules_are_no_start(make, rules, logged):
    rules.unlink()
    with pytest.raises(ConfigError, match="cannot be read: no such file"):
        async with running(make("http://127.0.0.1:9")):
            pass


async def test_a_request_under_way_is_finished_on_the_way_out(make, logged):
    gate = asyncio.Event()
    async with portal(gate=gate) as upstream, contextlib.AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(running(make(f"http://127.0.0.1:{upstream}")))
        asking = asyncio.create_task(ask(sidecar.data_port))

        async def under_way() -> bool:
            return b"sidecache_client_connections 1.0" in (await ask(sidecar.admin_port, "/metrics"))[2].encode()

        await until(under_way)
        leaving = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0)
        gate.set()
        assert (await asking)[0] == 200
        await leaving


async def test_outside_development_it_is_unready_a_while_before_it_stops_accepting(rules, logged):
    settings = load(
        {"SIDECACHE_DRAIN_S": "5"}, upstream="http://127.0.0.1:9", rules=rules, listen="127.0.0.1:0",
        admin="127.0.0.1:0", profile="staging",
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(running(settings))
        leaving = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0)
        assert (await ask(sidecar.data_port, "/.sidecache/readyz"))[::2] == (503, "draining\n")
        assert (await ask(sidecar.data_port, "/.sidecache/livez"))[::2] == (200, "alive\n")
        assert (await ask(sidecar.admin_port, "/readyz"))[0] == 503
        await leaving


async def test_a_shared_store_that_is_listened_to_holds_nobody_up_on_the_way_out(make, logged):
    settings = make("http://127.0.0.1:9", SIDECACHE_DRAIN_S="600", REDIS_HOST="127.0.0.1", REDIS_PORT=str(free_port()))
    async with asyncio.timeout(DEADLINE), running(settings):
        pass


# Upstream and JWKS that are not there


async def test_an_unreachable_upstream_is_reported_once_and_answered_with_502_until_it_is_there(make, logged):
    port = free_port()
    async with running(make(f"http://127.0.0.1:{port}")) as sidecar:
        for _ in range(3):
            status, cache_status, _ = await ask(sidecar.data_port)
            assert (status, "detail=upstream-failed" in cache_status) == (502, True)
        assert (await ask(sidecar.data_port, "/.sidecache/livez"))[0] == 200
        async with portal(port):
            assert (await ask(sidecar.data_port))[0] == 200
            assert (await ask(sidecar.data_port))[0] == 200
    assert [line["log_level"] for line in events(logged, "upstream-unreachable")] == ["warning"]
    assert [line["log_level"] for line in events(logged, "upstream-reachable")] == ["info"]


async def test_an_unreachable_jwks_is_reported_once_and_nothing_is_cached_until_it_is_there(rules, logged):
    keys = free_port()
    issuer = f"http://127.0.0.1:{keys}/"
    async with portal() as upstream:
        settings = load(
            {"SIDECACHE_DRAIN_S": "2"}, upstream=f"http://127.0.0.1:{upstream}", rules=rules, listen="127.0.0.1:0",
            admin="127.0.0.1:0", profile="development", jwt_issuer=issuer, jwt_audience="api",
        )  # fmt: skip
        async with running(settings) as sidecar:
            for _ in range(3):
                status, cache_status, _ = await ask(sidecar.data_port)
                assert status == 200
                assert "hit" not in cache_status

            async def reported() -> bool:
                return bool(events(logged, "jwks-unavailable"))

            await until(reported)
            assert (await ask(sidecar.data_port, "/.sidecache/readyz"))[0] == 200
    (line,) = events(logged, "jwks-unavailable")
    assert line["url"] == f"{issuer}.well-known/jwks.json"


# Rules


async def test_a_broken_save_is_shown_on_readyz_and_the_fix_applies_within_two_seconds(make, rules, logged):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:

        async def readyz() -> dict[str, Any]:
            status, _, body = await ask(sidecar.admin_port, "/readyz")
            assert status == 200
            return json.loads(body)

        async def refused() -> bool:
            assert (await ask(sidecar.data_port))[0] == 200
            return bool((await readyz())["rules"]["problems"])

        rules.write_text(RULES.format(ttl="15:00"))
        async with asyncio.timeout(2):
            await until(refused)
        shown = await readyz()
        assert shown["status"] == "degraded"
        assert f"{rules}:6:5: error: features.jobs.ttl" in shown["rules"]["problems"][0]
        assert (await ask(sidecar.data_port, "/.sidecache/health"))[2] == "degraded\n"
        assert "sidecache_rules_valid 0.0" in (await ask(sidecar.admin_port, "/metrics"))[2]

        async def applied() -> bool:
            return not (await readyz())["rules"]["problems"]

        rules.write_text(RULES.format(ttl="1h"))
        async with asyncio.timeout(2):
            await until(applied)
        assert await counted(sidecar, "rules-loaded") == 1
        assert await counted(sidecar, "rules-refused") == 1
    (line,) = events(logged, "rules-refused")
    assert f"{rules}:6:5: error: features.jobs.ttl" in line["problems"][0]
    assert [line["log_level"] for line in events(logged, "rules-loaded")] == ["info"]


async def test_sighup_reloads(make, rules, logged, monkeypatch):
    monkeypatch.setattr(LiveRules.watch, "__defaults__", (3600.0,))
    async with running(make("http://127.0.0.1:9")) as sidecar:
        rules.write_text(RULES.format(ttl="1h"))
        os.kill(os.getpid(), signal.SIGHUP)

        async def loaded() -> bool:
            return await counted(sidecar, "rules-loaded") == 1

        await until(loaded)


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_serve_and_a_second_one_would_end_the_process(make, logged, number):
    async with asyncio.timeout(DEADLINE):
        await serve(make("http://127.0.0.1:9"), ready=lambda: os.kill(os.getpid(), number))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


# What the parts report


async def test_what_is_delayed_is_done_on_the_way_out_while_all_it_needs_is_still_there(make, logged):
    """A purge that is to be repeated in a minute is repeated now, before the store closes."""
    answers: list[tuple[int, str, str]] = []
    async with portal() as upstream, contextlib.AsyncExitStack() as stack:
        settings = make(f"http://127.0.0.1:{upstream}")
        composition = app._Composition(settings, stack, structlog.get_logger())
        sidecar = await composition.start(lambda: None)

        async def late() -> None:
            answers.append(await ask(sidecar.admin_port, "/api/health"))

        composition._background.later(3600, late)
    assert [status for status, _, _ in answers] == [200]
    assert events(logged, "background-failed") == []


async def test_a_failure_in_the_background_is_logged_and_counted(make, logged):
    async with contextlib.AsyncExitStack() as stack:
        composition = app._Composition(make("http://127.0.0.1:9"), stack, structlog.get_logger())
        sidecar = await composition.start(lambda: None)

        async def fail() -> None:
            raise ValueError("broken")

        await asyncio.wait({composition._background.start(fail())})
        assert await counted(sidecar, "background-failed") == 1
    (line,) = events(logged, "background-failed")
    assert (line["error"], line["detail"]) == ("ValueError", "broken")


async def test_the_access_log_names_the_caller_of_what_no_rule_matches_each_time(make, logged):
    async with portal() as upstream:
        settings = make(f"http://127.0.0.1:{upstream}", SIDECACHE_ACCESS_LOG="1")
        async with running(settings) as sidecar, client() as session:
            for org in ("org_a", "org_b", "org_a", "org_a"):
                url = f"http://127.0.0.1:{sidecar.data_port}/elsewhere"
                async with session.get(url, headers={"Authorization": f"Bearer {unsigned(org)}"}) as answer:
                    await answer.read()
    lines = events(logged, "request")
    assert [line["tenant"] for line in lines] == ["org_a", "org_b", "org_a", "org_a"]
    assert {line["reason"] for line in lines} == {"no-rule"}


async def test_the_access_log_has_one_line_a_request_without_query_or_token(make, logged):
    settings = make("http://127.0.0.1:9", SIDECACHE_ACCESS_LOG="1")
    async with running(settings) as sidecar:
        await ask(sidecar.data_port, "/api/jobs?access_token=opaque-secret")
    (line,) = events(logged, "request")
    assert (line["method"], line["path"], line["status"], line["feature"]) == ("GET", "/api/jobs", 502, "jobs")
    assert (line["reason"], line["log_level"]) == ("upstream-failed", "info")
    assert "opaque-secret" not in str(logged)
    assert unsigned() not in str(logged)


async def test_an_unmatched_write_is_counted_and_not_logged(make, logged):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        async with client() as session, session.post(f"http://127.0.0.1:{sidecar.data_port}/elsewhere") as response:
            assert response.status == 200
        assert await counted(sidecar, "unmatched-write") == 1
    assert events(logged, "unmatched-write") == []


# Encryption


async def test_a_sensitive_entry_is_sealed_and_its_key_is_told_in_the_metrics(make, rules):
    rules.write_text(RULES.format(ttl="15m\n    sensitive: true"))
    new, old = (new_encryption_key(key_id, os.urandom) for key_id in ("k2", "k1"))
    async with portal() as port:
        settings = make(f"http://127.0.0.1:{port}", SIDECACHE_ENCRYPTION_KEYS=f"{new.entry()},{old.entry()}")
        async with running(settings) as sidecar:
            await ask(sidecar.data_port)

            async def sealed() -> bool:
                return (
                    'sidecache_records_sealed_total{key_id="k2"} 1.0' in (await ask(sidecar.admin_port, "/metrics"))[2]
                )

            await until(sealed)
            _, _, metrics = await ask(sidecar.admin_port, "/metrics")
    for line in (
        'sidecache_records_sealed_total{key_id="k1"} 0.0',
        'sidecache_records_opened_total{key_id="k2"} 0.0',
        'sidecache_encryption_key_needed_seconds{key_id="k1"} 0.0',
    ):
        assert line in metrics
    (needed,) = re.findall(r'sidecache_encryption_key_needed_seconds\{key_id="k2"\} ([0-9.]+)', metrics)
    assert 800 < float(needed) <= 900


async def test_without_a_key_the_metrics_name_none(make):
    async with portal() as port, running(make(f"http://127.0.0.1:{port}")) as sidecar:
        _, _, metrics = await ask(sidecar.admin_port, "/metrics")
    assert "key_id=" not in metrics


# The shared store


async def test_a_store_that_is_not_there_is_said_once_with_the_setting_to_look_at_and_stops_nothing(make, logged):
    port = free_port()
    async with portal() as upstream:
        settings = make(
            f"http://127.0.0.1:{upstream}", REDIS_PROVIDER="redis", REDIS_HOST="127.0.0.1", REDIS_PORT=str(port)
        )
        async with running(settings) as sidecar:

            async def said() -> bool:
                return bool(events(logged, "store-unavailable"))

            await until(said)
            status, cache, _ = await ask(sidecar.data_port, token=unsigned())
            # whose session has ended is not known either
            assert (status, cache) == (200, "sidecache; fwd=bypass; detail=revocations-unknown")
    (line,) = events(logged, "store-unavailable")
    assert line["error"] == f"REDIS_HOST, REDIS_PORT: nothing listens at 127.0.0.1:{port}"


@pytest.mark.parametrize(("consistency", "warned"), [("consistency: strict", True), ("", False)])
async def test_strict_features_on_upstash_are_told_of_at_the_start_and_on_a_reload(
    make, rules, logged, consistency, warned
):
    rules.write_text(RULES.format(ttl="15m") + (f"    {consistency}\n" if consistency else ""))
    settings = make(
        "http://127.0.0.1:1", UPSTASH_REDIS_REST_URL=f"http://127.0.0.1:{free_port()}", UPSTASH_REDIS_REST_TOKEN="t"
    )
    async with running(settings):
        assert bool(events(logged, "strict-best-effort")) is warned


# The admin port


async def administer(sidecar: Running, method: str, path: str, token: str | None = None, **document: Any) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{sidecar.admin_port}{path}"
    said = {"json": document} if method != "GET" else {}
    async with client() as session, session.request(method, url, headers=headers, **said) as response:
        return {"status": response.status, **await response.json(content_type=None)}


async def test_a_purge_on_the_admin_port_makes_the_next_read_fresh(make):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        for _ in range(3):
            assert (await ask(sidecar.data_port))[2] == '{"asked": 1}'
        told = await administer(sidecar, "DELETE", "/api/cache/invalidate", tags=["jobs"], tenant="org_a")
        assert (told["status"], told["accepted"]) == (200, True)
        assert (await ask(sidecar.data_port))[1:] == ("sidecache; fwd=uri-miss; stored; detail=purged", '{"asked": 2}')


async def test_an_open_dashboard_sees_requests_of_each_way_and_holds_up_no_end(make):
    async with portal() as upstream, client() as session:
        async with running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
            for path in ("/api/jobs?q=hush", "/api/jobs?q=hush", "/nowhere/7", "/nowhere/7", "/nowhere/7"):
                await ask(sidecar.data_port, path)
            stream = await session.get(f"http://127.0.0.1:{sidecar.admin_port}/api/live")
            assert await stream.content.readline() == b"event: past\n"
            past = json.loads((await stream.content.readline()).removeprefix(b"data: "))
            begun = asyncio.get_running_loop().time()
        ended = (await stream.content.read()).decode()
        assert asyncio.get_running_loop().time() - begun < DEADLINE
    shown = [(each["request"], each["result"], each["reason"]) for each in reversed(past["requests"])]
    assert sorted(shown) == [
        ("GET /api/jobs", "hit", "fresh"), ("GET /api/jobs", "miss", "cold"),
        *[("GET /nowhere/7", "pass", "no-rule")] * 3,
    ]  # fmt: skip
    assert "hush" not in str(past)
    assert 'event: end\ndata: {"why":"draining"}' in ended


async def test_bytes_that_the_upstream_did_not_have_to_send_are_counted(make):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        for _ in range(4):
            await ask(sidecar.data_port)
        _, _, text = await ask(sidecar.admin_port, "/metrics")
    body = '{"asked": 1}'
    assert f'sidecache_hit_bytes_total{{feature="jobs"}} {3 * len(body)}.0' in text


async def test_a_switch_reaches_answers_that_were_prepared_before(make):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        for _ in range(4):  # so often that the short way has it
            await ask(sidecar.data_port)
        await administer(sidecar, "POST", "/api/cache/bypass", state="on", **{"for": "1m"})
        assert (await ask(sidecar.data_port))[1:] == ("sidecache; fwd=bypass; detail=switched-off", '{"asked": 2}')
        status = await administer(sidecar, "GET", "/api/cache/status")
        assert status["verdict"]["line"].startswith("DEGRADED: caching is switched off by local")
        await administer(sidecar, "POST", "/api/cache/bypass", state="off")
        assert (await ask(sidecar.data_port))[2] == '{"asked": 1}'


async def test_a_write_is_found_by_why(make):
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        await ask(sidecar.data_port)
        url, headers = f"http://127.0.0.1:{sidecar.data_port}/api/jobs", {"Authorization": f"Bearer {unsigned()}"}
        async with client() as session, session.post(url, headers=headers) as response:
            await response.read()
        caller = {"org_id": "org_a", "headers": {"Host": f"127.0.0.1:{sidecar.data_port}"}}
        told = await administer(sidecar, "POST", "/api/cache/explain", request="GET /api/jobs", **{"as": caller})
    assert told["verdict"] == "fetched: purged"
    assert [each["by"] for each in told["purges_that_touched_it"]] == ["POST /api/jobs"]


async def test_conflicts_and_denials_are_in_the_audit_log_which_is_whole(make, rules, tmp_path):
    rules.write_text(RULES.format(ttl="15m").replace("[jwt.org_id]", "[jwt.org_id, header.x-org-id]"))
    log = tmp_path / "audit.jsonl"
    admin = new_admin_token("vera", "viewer", None, os.urandom)
    settings = make("http://127.0.0.1:9", SIDECACHE_AUDIT_LOG=str(log), SIDECACHE_ADMIN_TOKENS=admin.entry)
    async with running(settings) as sidecar:
        headers = {"Authorization": f"Bearer {unsigned()}", "X-Org-Id": "org_b"}
        url = f"http://127.0.0.1:{sidecar.data_port}/api/jobs?token=hush"
        async with client() as session, session.get(url, headers=headers) as response:
            assert response.status == 502
        assert (await administer(sidecar, "GET", "/api/audit", admin.token))["status"] == 403
    lines = await asyncio.to_thread(lambda: log.read_bytes().splitlines())
    assert [json.loads(line)["event"] for line in lines] == ["tenant-conflict", "denied", "rollup"]
    assert verify(lines).broken_at is None
    assert not [secret for secret in (b"hush", unsigned().encode(), admin.token.encode()) if secret in b"".join(lines)]


@pytest.mark.parametrize("form", ["native", "ocsf"])
async def test_each_access_to_a_sensitive_feature_is_audited_with_who_and_what_and_nothing_secret(
    make, rules, tmp_path, form
):
    rules.write_text(RULES.format(ttl="15m\n    sensitive: true\n    scope: user"))
    log = tmp_path / "audit.jsonl"
    async with portal() as upstream:
        settings = make(f"http://127.0.0.1:{upstream}", SIDECACHE_AUDIT_LOG=str(log), SIDECACHE_AUDIT_FORMAT=form)
        async with running(settings) as sidecar:
            for _ in range(3):
                assert (await ask(sidecar.data_port, "/api/jobs?token=hush"))[0] == 200
            url = f"http://127.0.0.1:{sidecar.data_port}/api/jobs"
            async with client() as session:
                for call in (session.get(url), session.post(url, headers={"Authorization": f"Bearer {unsigned()}"})):
                    async with call as response:
                        assert response.status == 200

            async def all_told() -> bool:  # a line follows its response
                whole = await administer(sidecar, "GET", "/api/audit?event=sensitive-access")
                return len(whole["lines"]) == 5

            await until(all_told)
            told = await administer(sidecar, "GET", "/api/audit?event=sensitive-access&limit=2")
            rest = await administer(sidecar, "GET", f"/api/audit?event=sensitive-access&cursor={told['next']}")
    lines = [*told["lines"], *rest["lines"]][::-1]
    assert [line["result"] for line in lines] == ["cold 200", "hit 200", "hit 200", "no-credentials 200", "write 200"]
    assert [line["actor"]["name"] for line in lines] == ["u1", "u1", "u1", None, "u1"]
    assert [line["tenant"] for line in lines] == ["org_a", "org_a", "org_a", None, "org_a"]
    assert [line["target"]["request"] for line in lines] == ["GET /api/jobs"] * 4 + ["POST /api/jobs"]
    assert lines[0]["target"]["key"].startswith("tenant:org_a:jobs:")
    written = await asyncio.to_thread(lambda: log.read_bytes().splitlines())
    assert (verify(written).lines, verify(written).broken_at) == (6, None)
    assert not [secret for secret in (b"hush", unsigned().encode(), b"asked") if secret in b"".join(written)]


async def test_an_access_that_asks_for_another_protocol_is_audited_too(make, rules):
    rules.write_text(RULES.format(ttl="15m\n    sensitive: true\n    scope: user"))
    async with portal() as upstream, running(make(f"http://127.0.0.1:{upstream}")) as sidecar:
        headers = {"Authorization": f"Bearer {unsigned()}", "Connection": "Upgrade", "Upgrade": "x"}
        url = f"http://127.0.0.1:{sidecar.data_port}/api/jobs"
        async with client() as session, session.get(url, headers=headers) as response:
            assert response.status == 200

        async def told() -> list[dict[str, Any]]:  # a line follows its response
            lines: list[dict[str, Any]] = (await administer(sidecar, "GET", "/api/audit?event=sensitive-access"))[
                "lines"
            ]
            return lines

        await until(told)
        (line,) = await told()
    assert (line["actor"]["name"], line["tenant"], line["result"]) == ("u1", "org_a", "upgrade 200")
    assert line["target"] == {"request": "GET /api/jobs", "feature": "jobs", "key": None}


async def test_what_is_not_sensitive_is_counted_by_tenant_hits_in_memory_too(make, tmp_path):
    log = tmp_path / "audit.jsonl"
    async with portal() as upstream:
        settings = make(f"http://127.0.0.1:{upstream}", SIDECACHE_AUDIT_LOG=str(log))
        async with running(settings) as sidecar, client() as session:
            for _ in range(5):
                url = f"http://127.0.0.1:{sidecar.data_port}/api/jobs"
                async with session.get(url, headers={"Authorization": f"Bearer {unsigned()}"}) as response:
                    await response.read()
            (row, *_) = (await administer(sidecar, "GET", "/api/cache/top?by=tenants"))["top"]
    assert (row["tenant"], row["requests"], row["hits"], row["upstream_requests"]) == ("org_a", 5, 4, 1)
    (line,) = await asyncio.to_thread(lambda: log.read_bytes().splitlines())
    counts = json.loads(line)["target"]["counts"]
    assert [(each["tenant"], each["outcome"], each["count"]) for each in counts] == [
        ("org_a", "hit", 4), ("org_a", "miss", 1),
    ]  # fmt: skip


async def test_an_audit_log_that_cannot_be_written_is_a_start_error(make, tmp_path):
    settings = make("http://127.0.0.1:9", SIDECACHE_AUDIT_LOG=str(tmp_path / "nowhere" / "audit.jsonl"))
    with pytest.raises(ConfigError, match=r"SIDECACHE_AUDIT_LOG: cannot use .* no such file or directory"):
        async with running(settings):
            pass
