"""Several sidecars on one store: a write through one is seen through all, one fetch serves them, each can be alone."""

import asyncio
import re
import time
from contextlib import asynccontextmanager

import pytest
import structlog

from tests import servers, wire
from tests.chaos import Chaos
from tests.faults.scene import SLACK, plain, reached_at
from tests.fleet import delete_on_write, fleet, observed
from tests.portal import BOUND, TENANTS, History, User, is_hit, is_vouched_for, item, opened, price

pytestmark = [pytest.mark.process, servers.needs_redis]

ORG = TENANTS[0]
TRUSTED = 0.8  # seconds in which an answer may be served again while the store is lost
PUSHED = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")


@pytest.fixture
def server():
    with plain() as made:
        yield made


@pytest.mark.parametrize("replicas", [2, 3])
async def test_no_read_is_older_than_a_write_one_knows_of(server, tmp_path, replicas):
    history = await observed(tmp_path, [reached_at(server)] * replicas, operations=3000, seed=replicas)
    assert history.wrong == {}
    assert history.hits > 1000  # it was about a cache


async def test_deleting_entries_instead_is_caught(server, tmp_path):
    """Positive control: the same workload, entries deleted in every replica before the write's answer."""
    with delete_on_write():
        history = await observed(tmp_path, [reached_at(server)] * 2, operations=6000, seed=1)
    assert history.stale() > 0
    assert set(history.wrong) <= {"C3 same", "C3 other", "C5"}


async def test_replicas_that_know_nothing_of_each_other_are_caught(server, tmp_path):
    """Positive control: each believes that it is alone, so that it trusts its copies for ever."""
    alone = {"SIDECACHE_SOLE_REPLICA": "1"}
    history = await observed(tmp_path, [reached_at(server) | alone] * 2, operations=3000, seed=1)
    assert history.wrong["C3 other"]
    assert "C3 same" not in history.wrong


# Without the doorbell


@asynccontextmanager
async def deaf(server: servers.Server):
    """The way to a replica on which no message arrives; and how many were dropped."""
    dropped: list[int] = [0]

    def drop(said: bytes) -> bytes:
        said, count = PUSHED.subn(b"", said)
        dropped[0] += count
        return said

    async with Chaos("127.0.0.1", server.port) as chaos:
        chaos.rewrite = drop
        yield chaos, dropped


async def test_without_messages_a_write_is_seen_elsewhere_within_a_second(server, tmp_path):
    async with (
        deaf(server) as (chaos, dropped),
        fleet(tmp_path, reached_at(server), reached_at(server, chaos.port)) as made,
    ):
        user, history = User(made.history.ports), made.history
        for _ in range(3):
            await _hit(history, user, 1, item(1))
            await history.write(user, 0, ORG, item(1))
            assert await _seconds_until_seen(history, user, 1, item(1)) < BOUND * SLACK
        assert dropped[0] > 0
        await user.close()
    assert history.wrong == {}


async def test_a_whole_history_without_messages(server, tmp_path):
    async with deaf(server) as (chaos, dropped):
        settings = [reached_at(server), reached_at(server, chaos.port)]
        history = await observed(tmp_path, settings, operations=3000, seed=5)
    assert history.wrong == {}
    assert dropped[0] > 20


async def test_who_may_not_subscribe_keeps_the_bound(tmp_path):
    with servers.running(servers.redis_server(acl=True)) as server:
        server.admin.execute_command(
            "ACL", "SETUSER", "deaf", "on", f">{servers.PASSWORD}", "~*", "resetchannels", "+@all"
        )
        settings = [reached_at(server), reached_at(server) | {"REDIS_USERNAME": "deaf"}]
        with structlog.testing.capture_logs() as logged:
            async with fleet(tmp_path, *settings) as made:
                user = User(made.history.ports)
                await _hit(made.history, user, 1, item(1))
                await made.history.write(user, 0, ORG, item(1))
                assert await _seconds_until_seen(made.history, user, 1, item(1)) < BOUND * SLACK
                await wire.until(lambda: any(line["event"] == "doorbell-lost" for line in logged))
                await user.close()
    assert made.history.wrong == {}
    lost = [(line["way"], line["error"].partition(":")[0]) for line in logged if line["event"] == "doorbell-lost"]
    assert lost == [("subscribe", "REDIS_USERNAME")]


async def test_subscriptions_that_are_cut_again_and_again_keep_the_bound(server, tmp_path):
    async def cut() -> None:
        while True:
            await asyncio.to_thread(server.admin.execute_command, "CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.02)

    cutting = asyncio.ensure_future(cut())
    history = await observed(tmp_path, [reached_at(server)] * 2, operations=2000, seed=6)
    cutting.cancel()
    await asyncio.wait((cutting,))
    assert history.wrong == {}
    assert history.hits > 500


async def test_strict_needs_no_message(server, tmp_path):
    async with (
        deaf(server) as (chaos, _),
        fleet(tmp_path, reached_at(server), reached_at(server, chaos.port)) as made,
    ):
        user, history = User(made.history.ports), made.history
        for _ in range(20):
            await history.read(user, 1, ORG, price(1))
            assert is_hit(await history.read(user, 1, ORG, price(1)))
            await history.write(user, 0, ORG, price(1))
            await history.read(user, 1, ORG, price(1))  # the history says whether that is the new one
        await user.close()
    assert history.wrong == {}


async def _hit(history: History, user: User, replica: int, path: str) -> None:
    async with asyncio.timeout(5):
        while not is_vouched_for(await history.read(user, replica, ORG, path)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _seconds_until_seen(history: History, user: User, replica: int, path: str) -> float:
    newest, began = history.portal.versions[ORG, path], time.monotonic()
    async with asyncio.timeout(10):
        while True:
            answer = await user.ask(replica, ORG, path)
            if opened(answer.body)["versions"][path] == newest:
                return time.monotonic() - began
            await asyncio.sleep(0.005)


# One fetch


async def test_a_thousand_clients_of_three_replicas_cost_one_request(server, tmp_path):
    async with fleet(tmp_path, *[reached_at(server)] * 3) as made:
        made.portal.gate = asyncio.Event()
        users = [await User([made.history.ports[number % 3]]).connect() for number in range(1000)]
        asking = [asyncio.ensure_future(user.ask(0, ORG, item(1))) for user in users]
        await wire.until(lambda: made.portal.asked)
        made.portal.gate.set()
        answers = await asyncio.gather(*asking)
        assert {opened(answer.body)["path"] for answer in answers} == {item(1)}
        assert {answer.status for answer in answers} == {200}
        assert made.portal.asked == {(ORG, item(1)): 1}
        await asyncio.gather(*(user.close() for user in users))


async def test_with_the_store_lost_a_hot_key_costs_one_request_per_replica_and_moment(server, tmp_path):
    async with fleet(tmp_path, *[reached_at(server)] * 3) as made:
        users = [await User(made.history.ports).connect() for _ in range(12)]
        await made.history.read(users[0], 0, ORG, item(1))
        server.kill()
        for replica in range(3):
            for _ in range(10):  # until the breakers are open
                await made.history.read(users[0], replica, ORG, item(2))
        before, began = made.portal.asked[ORG, item(1)], time.monotonic()

        async def use(user: User, number: int) -> None:
            while time.monotonic() - began < 2.0:
                await made.history.read(user, number % 3, ORG, item(1))

        await asyncio.gather(*(use(user, number) for number, user in enumerate(users)))
        moments = 1 + (time.monotonic() - began) // TRUSTED
        assert made.portal.asked[ORG, item(1)] - before <= 3 * (moments + 1)
        assert made.history.hits > 300
        assert made.history.wrong == {}
        await asyncio.gather(*(user.close() for user in users))
