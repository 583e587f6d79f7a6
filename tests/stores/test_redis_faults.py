"""What goes wrong between us and Redis, with real servers: never a wrong value, never a wait without end, and back by
itself."""

import asyncio
import random
import time
from contextlib import asynccontextmanager

import pytest

from proxy.errors import StoreError, StoreFullError
from proxy.stores.access import Access
from proxy.stores.breaker import Guarded
from proxy.stores.commands import CommandStore
from proxy.stores.redis import RedisLink
from tests import servers
from tests.chaos import Chaos, swapped
from tests.servers import eventually

pytestmark = [pytest.mark.process, servers.needs_redis]


@asynccontextmanager
async def store_at(access: Access, **more):
    more = {"pool_size": 10, "timeout": 2.0, **more}
    store = CommandStore(RedisLink(access, clock=time.monotonic, **more))
    store.disturbances = []
    store.on_disturbance(store.disturbances.append)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def chaotic(server: servers.Server, **more):
    """A store, and the chaos between it and a server that speaks plain text."""
    async with Chaos("127.0.0.1", server.port) as chaos, store_at(Access("127.0.0.1", chaos.port), **more) as store:
        if "--cluster-enabled" in server.command:  # its map must lead through the chaos too
            server.admin.config_set("cluster-announce-port", chaos.port)
        yield store, chaos


@pytest.fixture
def server():
    with servers.running(servers.redis_server()) as made:
        yield made


@pytest.fixture(scope="module", params=["node", "cluster"])
def either(request):
    """A server, and one that is a whole cluster: two ways to a connection."""
    clustered = request.param == "cluster"
    with servers.running(servers.redis_server(*(["--cluster-enabled", "yes"] if clustered else []))) as made:
        if clustered:
            made.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            servers.wait_until(lambda: b"cluster_state:ok" in servers.cluster_info(made))
        yield made


async def fill(store, count: int = 100) -> None:
    """Before anything goes wrong; a machine that does much else at the moment may take its time for it."""

    async def filled() -> bool:
        await asyncio.gather(*(store.set(f"k{number}", b"v%d" % number, 60) for number in range(count)))
        return True

    await eventually(filled)


async def wrong_reads(store, reads: int, *, at_once: int = 20, cancel: float = 0.0) -> tuple[int, int]:
    """How many of the reads gave another value than was set, and how many gave the right one."""
    dice = random.Random(7)
    wrong = right = 0

    async def read(number: int) -> None:
        nonlocal wrong, right
        try:
            (value,) = await store.get([f"k{number}"])
        except StoreError:
            return
        right += value == b"v%d" % number
        wrong += value != b"v%d" % number

    for _ in range(reads // at_once):
        tasks = [asyncio.ensure_future(read(dice.randrange(100))) for _ in range(at_once)]
        for task in tasks:
            if dice.random() < cancel:
                asyncio.get_running_loop().call_later(dice.random() * 0.004, task.cancel)
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
    return wrong, right


# The server goes away


async def test_a_server_that_is_killed_and_comes_back_empty_is_used_again_and_said(server):
    async with store_at(server.access) as store:
        await fill(store, 5)
        server.kill()
        with pytest.raises(StoreError, match=r"nothing listens|the connection was lost"):
            await store.get(["k1"])
        server.start().wait()
        assert await eventually(lambda: store.get(["k1"])) == [None]
        assert any("restarted" in each for each in store.disturbances)
        assert any("reached again" in each for each in store.disturbances)


async def test_a_restart_between_two_reads_is_noticed_without_a_failed_one(server):
    async with store_at(server.access) as store:
        await fill(store, 5)
        server.kill()
        server.start().wait()
        assert await store.get(["k1"]) == [None]
        assert store.disturbances == [f"127.0.0.1:{server.port} was restarted or is another server now"]


async def test_a_hung_server_costs_one_deadline_and_then_nothing_and_is_found_to_be_back(server):
    reports: list[str] = []
    async with store_at(server.access, timeout=0.5) as inner:
        store = Guarded(inner, timeout=0.1, clock=time.monotonic, report=lambda event, _: reports.append(event))
        await fill(store, 5)
        server.pause()
        try:
            failed = await asyncio.gather(*(store.get(["k1"]) for _ in range(40)), return_exceptions=True)
            assert all(isinstance(each, StoreError) for each in failed)
            with pytest.raises(StoreError, match="not asked for now"):
                await store.get(["k1"])
        finally:
            server.resume()
        assert await eventually(lambda: store.get(["k1"])) == [b"v1"]
        assert reports == ["store-unavailable", "store-available"]
        await store.close()


async def test_a_store_that_was_never_there_is_no_error_until_it_is_asked_and_then_comes_by_itself():
    late = servers.redis_server()
    async with store_at(late.access) as store:
        with pytest.raises(StoreError, match=f"REDIS_HOST, REDIS_PORT: nothing listens at 127.0.0.1:{late.port}"):
            await store.get(["a"])
        with servers.running(late):
            assert await store.get(["a"]) == [None]


async def test_what_was_failing_over_takes_no_writes_and_is_left(server):
    """A primary endpoint behind one name: after a failover the old connections lead to a replica."""
    async with store_at(server.access) as store:
        await fill(store, 5)
        server.admin.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreError, match="READONLY"):
            await store.set("k1", b"x", 60)
        assert any("no primary any more" in each for each in store.disturbances)
        with pytest.raises(StoreError, match="REDIS_HOST: the server is a replica"):
            await store.get(["k1"])
        server.admin.replicaof("NO", "ONE")
        assert await store.get(["k1"]) == [b"v1"]


# Wrong settings: one line that names the one to look at


@pytest.fixture(scope="module")
def guarded_server():
    with servers.running(servers.redis_server(tls=servers.authority(), acl=True)) as made:
        yield made


@pytest.fixture(scope="module")
def elsewhere():
    """Its certificate is for another address."""
    tls = servers.authority("elsewhere", "127.0.0.9")
    with servers.running(servers.redis_server(tls=tls, acl=True), insecure=True) as made:
        yield made


@pytest.mark.parametrize(
    ("change", "more", "line"),
    [
        ({"password": "wrong-secret"}, {}, r"^REDIS_USERNAME, REDIS_PASSWORD: 127.0.0.1:\d+ refuses them$"),
        ({"username": "nobody"}, {}, r"^REDIS_USERNAME, REDIS_PASSWORD: 127.0.0.1:\d+ refuses them$"),
        ({"username": None, "password": None}, {}, r"^REDIS_USERNAME, REDIS_PASSWORD: 127.0.0.1:\d+ refuses them$"),
        ({"tls_ca": None}, {}, r"^REDIS_TLS_CA: the certificate of 127.0.0.1:\d+ is not accepted: "),
        ({"tls": False}, {}, r"^REDIS_TLS: 127.0.0.1:\d+ broke off the greeting; does it want TLS\?$"),
        ({}, {"cluster": "true"}, r"^REDIS_CLUSTER: the server is no cluster but standalone; set it to auto$"),
        ({"host": "no-such-host.invalid"}, {}, r"^REDIS_HOST: no-such-host.invalid:\d+ cannot be resolved$"),
        ({"port": 1}, {}, r"^REDIS_HOST, REDIS_PORT: nothing listens at 127.0.0.1:1$"),
    ],
)
async def test_a_wrong_setting_is_named(guarded_server, change, more, line):
    access = {name: getattr(guarded_server.access, name) for name in Access.__slots__} | change
    async with store_at(Access(**access), **more) as store:
        with pytest.raises(StoreError, match=line) as caught:
            await store.get(["a"])
    assert "secret" not in str(caught.value)
    assert servers.PASSWORD not in str(caught.value)


async def test_a_certificate_for_another_host_is_not_accepted(elsewhere):
    async with store_at(elsewhere.access) as store:
        with pytest.raises(StoreError, match=r"^REDIS_TLS_CA: .* IP address mismatch"):
            await store.get(["a"])


async def test_tls_towards_a_plain_port_is_named(server):
    access = Access("127.0.0.1", server.port, tls=True, tls_ca=str(servers.authority().ca), connect_timeout=0.2)
    async with store_at(access) as store:
        with pytest.raises(StoreError, match=r"does not answer in time \(or not with TLS: REDIS_TLS\)$"):
            await store.get(["a"])


async def test_a_port_where_something_else_speaks_is_named():
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with other, store_at(Access("127.0.0.1", other.sockets[0].getsockname()[1])) as store:
        with pytest.raises(StoreError, match=r"^REDIS_PORT: .* not the Redis protocol$"):
            await store.get(["a"])


async def test_what_the_user_may_not_do_is_said_and_the_rest_goes_on(guarded_server):
    guarded_server.admin.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["ok:*"], commands=["+@all"])
    access = {name: getattr(guarded_server.access, name) for name in Access.__slots__}
    async with store_at(Access(**(access | {"username": "reader", "password": "pw"}))) as store:
        read = await asyncio.gather(store.get(["no"]), store.get(["ok:1"]), return_exceptions=True)
    assert read[1] == [None]
    assert str(read[0]).startswith("REDIS_USERNAME: the user may not do this at")


async def test_a_full_server_refuses_writes_and_answers_reads(server):
    async with store_at(server.access) as store:
        await store.set("k1", b"v1", 60)
        server.admin.config_set("maxmemory", "1")
        with pytest.raises(StoreFullError, match="no room"):
            await store.set("k2", b"v2", 60)
        assert await store.get(["k1"]) == [b"v1"]


# The network


async def test_four_hundred_readers_and_ten_connections_are_no_error(either):
    async with chaotic(either) as (store, chaos):
        await fill(store)
        chaos.delay = lambda: 0.002

        async def read(number: int) -> list[bytes | None]:
            for _ in range(number % 40):
                await asyncio.sleep(0)
            values: list[bytes | None] = await store.get([f"k{number % 100}"])
            return values

        read_all = await asyncio.gather(*(read(number) for number in range(400)))
        assert read_all == [[b"v%d" % (number % 100)] for number in range(400)]
        assert chaos.open_connections <= 10


async def test_whoever_waits_too_long_for_a_connection_is_told_which_setting(server):
    async with chaotic(server, pool_size=1, timeout=0.5) as (store, chaos):
        await store.ping()
        chaos.hang()
        failed = await asyncio.gather(*(store.ping() for _ in range(3)), return_exceptions=True)
        assert sorted(str(each).partition(":")[0] for each in failed)[-1] == "SIDECACHE_POOL_SIZE"
        assert all(isinstance(each, StoreError) for each in failed)


@pytest.mark.parametrize("cancel", [0.0, 0.5])
@pytest.mark.isolation
async def test_cancelled_callers_and_a_slow_network_never_give_another_s_value(either, cancel):
    dice = random.Random(1)
    async with chaotic(either) as (store, chaos):
        await fill(store)
        chaos.delay = lambda: dice.random() * 0.004
        wrong, right = await wrong_reads(store, 2000, cancel=cancel)
        assert wrong == 0
        assert right > 2000 * (1 - cancel) * 0.8
        assert chaos.open_connections <= 10


@pytest.mark.parametrize(
    "stray",
    [b"$3\r\nbad\r\n", b"+OK\r\n", b"$-1\r\n", b":1\r\n", b"$100\r\nba", b"*1\r\n$3\r\nbad\r\n", b"-ERR bad\r\n"],
    ids=repr,
)
async def test_a_stray_reply_on_an_idle_connection_is_nobody_s_value(either, stray):
    async with chaotic(either) as (store, chaos):
        await fill(store)
        for _ in range(10):
            await chaos.stray(stray)
            assert await wrong_reads(store, 40) == (0, 40)


async def test_a_stray_reply_that_arrives_while_ours_is_under_way_is_nobody_s_value(either):
    async with chaotic(either) as (store, chaos):
        await fill(store)
        chaos.rewrite = lambda said: b"$3\r\nbad\r\n" + said
        wrong, right = await wrong_reads(store, 100)
        assert (wrong, right) == (0, 0)
        chaos.rewrite = None
        assert await wrong_reads(store, 100) == (0, 100)


@pytest.mark.isolation
async def test_replies_that_reach_another_connection_are_nobody_s_value(either):
    async with chaotic(either, timeout=1.0) as (store, chaos):
        await fill(store)
        chaos.delay = lambda: 0.001
        await wrong_reads(store, 100)
        chaos.crossed = True
        wrong, _ = await wrong_reads(store, 200)
        assert wrong == 0


async def test_replies_of_one_batch_that_change_places_are_beyond_what_a_connection_can_know(server):
    """The control of the tests above: this is why a record names the key it is of."""
    async with chaotic(server) as (store, chaos):
        await fill(store)
        chaos.rewrite = swapped
        values = await asyncio.gather(store.get(["k1"]), store.get(["k2"]))
        assert values == [[b"v2"], [b"v1"]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda chaos: chaos.reset(),
        lambda chaos: setattr(chaos, "cut_after", 7),
        lambda chaos: setattr(chaos, "rewrite", lambda said: b"\x00\xff garbage"),
        lambda chaos: setattr(chaos, "rewrite", lambda said: said[:-3]),
        lambda chaos: chaos.hang(),
    ],
    ids="reset cut garbage short hang".split(),
)
async def test_a_spoiled_connection_is_an_error_at_most_and_the_next_one_is_good(either, spoil):
    async with chaotic(either, timeout=1.5) as (store, chaos):
        await fill(store)
        spoil(chaos)
        wrong, _ = await wrong_reads(store, 40)
        assert wrong == 0
        chaos.rewrite = chaos.cut_after = None
        chaos.go_on()
        assert await eventually(lambda: store.get(["k1"])) == [b"v1"]
        assert await wrong_reads(store, 40) == (0, 40)


async def test_closing_does_not_wait_for_a_server_that_does_not_answer(either):
    async with chaotic(either, timeout=30.0) as (store, chaos):
        await store.ping()
        chaos.hang()
        calls = [asyncio.ensure_future(store.get([f"k{number}"])) for number in range(5)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(store.close(), 5)
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert {str(each) for each in failed} == {"the store is closed"}


async def test_a_listener_notices_that_nobody_is_there_any_more(server):
    async with chaotic(server) as (store, chaos):
        heard = store.listen(["c"])
        assert await anext(heard) is None
        chaos.hang()
        with pytest.raises(StoreError, match="does not answer in time"):
            await asyncio.wait_for(anext(heard), 5)
        await heard.aclose()


async def test_a_listener_that_hears_nothing_for_a_while_goes_on_listening(server):
    async with chaotic(server) as (store, chaos):
        heard = store.listen(["c"])
        assert await anext(heard) is None
        waiting = asyncio.ensure_future(anext(heard))
        await eventually(lambda: _asked(server, b"ping"))
        await store.publish("c", b"m")
        assert await asyncio.wait_for(waiting, 5) == ("c", b"m")
        chaos.reset()
        with pytest.raises(StoreError, match="lost"):
            await asyncio.wait_for(anext(heard), 5)
        await heard.aclose()


async def _asked(server: servers.Server, command: bytes) -> bool:
    """Whether a subscriber has sent that command last."""
    clients = server.admin.client_list(_type="pubsub")
    return any(client["cmd"] == command.decode() for client in clients)
