"""What does `count` in a rule add to a hit, and what does a counted job cost in the store? (targets: 0.5 us; 200 bytes)

    the same head     the answer was prepared with what it counts as: one addition in a table
    decided anew      what it counts as is found out first: a value of the path, and the user
    a flush           of a second in which many users looked at many jobs, per different thing that was counted

The same hits are measured with rules that count and with rules that do not, by turns. Bytes are MEMORY USAGE of real
servers, for a tenant's name as Auth0 makes them; of a day, as five stand together.

python -m bench.analytics [--json FILE]
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.analytics import names
from proxy.analytics.counters import Counters
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request
from proxy.policy.route import Match
from proxy.rules.counting import Counted, counted
from proxy.serving import hits
from proxy.stores.memory import MemoryStore
from tests import servers
from tests.builders import KEYS
from tests.serving.short import dated
from tests.serving.world import World, unsigned

TARGET = 0.5
TARGET_BYTES = 200
ROUNDS = 41  # short ones, by turns: the machine's speed drifts by more than what is looked for
SECONDS = 0.05  # of each
ORG = "org_0123456789abcdef"
FIELDS = {"Host": "portal.test", "Authorization": f"Bearer {unsigned(ORG)}"}
HEAD = ("GET /api/jobs/77 HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items())).encode()
RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
features:
  jobs: {ttl: 15m, read: [{route: 'GET /api/jobs/{job-id}'%s}], write: []}
"""
COUNT = ", count: {name: job-views, by: job-id, unique: user}"


class Hitting:
    """The short way over one stored answer, without a socket."""

    def __init__(self, count: str) -> None:
        self.world = world = World(RULES % count)
        self.counters = Counters(world.store, world.clock, digest=KEYS.digest)
        self._request = Request("GET", "/api/jobs/77", Fields(FIELDS.items()), peer="127.0.0.1")
        cell = [0, 0, 0]
        self._short = hits.Hits(
            world.cache, world.epochs, prompt=world.exchange.prompt, request_of=lambda *_: self._request,
            is_own=lambda _: False,
            cell_of=lambda _: cell, logged=None, serving=hits.ServingEpoch(), clock=world.clock, max_bytes=1 << 20,
            counted_of=self._counted_of, count=self.counters.add,
        )  # fmt: skip

    def _counted_of(self, request: Request, match: Match, identity: Identity | None, status: int) -> Counted | None:
        """As `proxy.counting.Counting.of` does it."""
        if match.route.count is None:
            return None
        assert identity is not None
        return counted(request, match, identity, status)

    async def fill(self) -> "Hitting":
        self.world.upstream.answer = lambda request, n: dated(b"{}")
        for _ in range(2):
            await self.world.send("GET", "/api/jobs/77", headers=FIELDS, token="")
            await self.world.settle()
        anew: Any = self._short._anew  # past the parser, whose message it would be given
        assert anew(HEAD + b"\r\n", None, "", False) is not None
        hit = self.world.exchange.prompt.at_once(self._request)
        assert hit is not None
        self._reading = hit.reading
        assert self._short.known(HEAD + b"\r\n", False) is not None
        return self

    def repeat(self) -> None:
        self._short.known(HEAD + b"\r\n", False)

    def count(self) -> None:
        """What is done beside deciding."""
        reading = self._reading
        found = self._counted_of(reading.request, reading.match, reading.identity, 200)
        if found is not None:
            self.counters.add(found)


def cost(call: Callable[[], object]) -> float:
    """Microseconds of CPU per call in one round."""
    calls, begin = 0, time.process_time()
    while (elapsed := time.process_time() - begin) < SECONDS:
        for _ in range(200):
            call()
        calls += 200
    return elapsed / calls * 1e6


async def added() -> dict[str, float]:
    counting, plain = await Hitting(COUNT).fill(), await Hitting("").fill()
    differences = [cost(counting.repeat) - cost(plain.repeat) for _ in range(ROUNDS)]
    anew = [cost(counting.count) for _ in range(ROUNDS)]  # all that is added: the rest drifts by more than that
    counting.counters._sum_up()
    assert sum(counting.counters._tally.values()) > 1000
    return {
        "the same head": round(statistics.median(differences), 3),
        "decided anew": round(statistics.median(anew), 3),
    }


async def flushed(users: int = 100, jobs: int = 100) -> float:
    clock = time.time
    counters = Counters(MemoryStore(1 << 28, clock), clock, digest=KEYS.digest)
    for job in range(jobs):
        for user in range(users):
            counters.add(Counted(ORG, "job-views", str(job), f"u{user}"))
    begin = time.process_time()
    await counters._collect()
    return round((time.process_time() - begin) / (users * jobs) * 1e6, 2)


def bytes_of(server: servers.Server) -> dict[str, int | float]:
    admin, at = server.admin, time.time()
    found: dict[str, int | float] = {}
    for hours, count in ((1, 10), (12, 100), (20, 100), (24, 100), (24, 1000), (24, 100_000)):
        begin = at // names.DAYS * names.DAYS
        place = names.by_hour(ORG, "job-views", "4711", begin)
        admin.delete(place)
        for hour in range(hours * names.DAYS // names.DAY):
            day, of_day = divmod(hour, hours)
            admin.hincrby(place, names.hour_of(begin + day * names.DAY + of_day * names.HOUR), count)
        found[f"{hours} hours of {count}"] = int(admin.memory_usage(place)) * names.DAY / names.DAYS
    admin.delete(place := names.by_hour(ORG, "job-views", "4711", at))
    for hour in range(12):
        admin.hincrby(place, str(hour), 100)
    found["12 hours of 100, on one day of five"] = int(admin.memory_usage(place))
    index = names.by_value(ORG, "job-views", at)
    for number in range(1000):
        admin.hincrby(index, str(4000 + number), 1200)
    found["its part of the day's list of 1,000 jobs"] = int(admin.memory_usage(index, samples=0)) / 1000
    for users in (10, 100, 1000):
        seen = names.uniques(ORG, "job-views", "4711", at)
        admin.delete(seen)
        admin.execute_command("PFADD", seen, *(KEYS.digest(str(number)) for number in range(users)))
        found[f"{users} users of a day"] = int(admin.memory_usage(seen))
    return found


def stored() -> dict[str, dict[str, int | float]]:
    found = {}
    with servers.running(servers.valkey_server()) as server:
        found[f"Valkey {server.admin.info('server')['valkey_version']}"] = bytes_of(server)
    if servers.REDIS is not None:
        with servers.running(servers.redis_server()) as server:
            found[f"Redis {server.admin.info('server')['redis_version']}"] = bytes_of(server)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    figures = asyncio.run(added())
    print("us of CPU that counting adds to a hit, median of differences")
    for name, figure in figures.items():
        print(f"{name:36}{figure:7.3f}")
    each = asyncio.run(flushed())
    print(f"us of CPU for each different thing of a second: {each}")
    met = figures["the same head"] <= TARGET
    sizes = stored()
    print("bytes in the store (MEMORY USAGE) of one job's day")
    for server, found in sizes.items():
        for name, size in found.items():
            print(f"{server:16}{name:44}{size:8g}")
    met_bytes = all(found["24 hours of 1000"] <= TARGET_BYTES for found in sizes.values())
    print(
        f"at most {TARGET} us: {'met' if met else 'MISSED'}; {TARGET_BYTES} bytes: {'met' if met_bytes else 'MISSED'}"
    )
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"added_us": figures, "flush_us": each, "bytes": sizes, "target": TARGET}, indent=2) + "\n"
        )
    return 0 if met and met_bytes else 1


if __name__ == "__main__":
    sys.exit(main())
