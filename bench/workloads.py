"""What is compared? One function a question; `make bench` asks those of `SHORT`, `make bench-full` all of them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bench import herd, load, peers
from bench.compare import Comparison, Contestant, Target
from bench.ground import Ground, Starter
from bench.heads import Head, head
from bench.machine import NotAvailable
from bench.peers import Place, Server, Started
from bench.sidecar import holding, many_rules, sidecache, tokens

PATH = "/api/jobs/b2048-77"
_REDIS_KEYS = 20_000
_LOAD = 0.7  # of what the server can do
_FILLING_SECONDS = 420.0  # for all servers of a workload; who is not full by then is left out
_CONDITION = 'If-None-Match: "v1-2048"\n'

Workload = Callable[[Ground], Comparison]


def _token() -> str:
    return tokens().of("org_acme")


def _hits(ground: Ground, comparison: Comparison, request: Head, *starters: Starter, status: int = 200) -> Comparison:
    with ground.up(comparison, *starters) as servers:
        ground.verify(servers, request, status=status)
        return ground.take_turns(comparison, [ground.contestant(each, request) for each in servers])


def repeated(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "repeated heads",
        "A hit of 2 KiB; each client sends the same head again and again.",
        Target("sidecache", "HAProxy", 1.0),
        Target("sidecache", "nginx", 0.7),
    )
    starters = (sidecache, peers.nginx, peers.varnish, peers.haproxy, peers.floor, peers.aiohttp_plain)
    return _hits(ground, comparison, head(PATH, _token()), *starters)


def distinct(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "distinct heads",
        "A hit of 2 KiB; cookie, traceparent and request id are never those of another request.",
        Target("sidecache", "nginx", 1.25),
        Target("sidecache", "Varnish", 0.9),
    )
    starters = (sidecache, peers.nginx, peers.varnish, peers.haproxy)
    return _hits(ground, comparison, head(PATH, _token(), distinct=True), *starters)


def not_modified(ground: Ground) -> Comparison:
    """The 200s of the same servers take part: a 304 may not cost more."""
    comparison = ground.comparison(
        "304",
        "The client has the 2 KiB already (If-None-Match), beside the whole answer.",
        Target("sidecache", "sidecache", 1.0, at="304", against_at="200"),
    )
    conditional, plain = head(PATH, _token(), extra=_CONDITION), head(PATH, _token())
    with ground.up(comparison, sidecache, peers.nginx) as servers:
        ground.verify(servers, plain)
        ground.verify(servers, conditional, status=304)
        return ground.take_turns(
            comparison,
            [
                ground.contestant(server, request, at=at)
                for server in servers
                for at, request in (("200", plain), ("304", conditional))
            ],
        )


def pass_through(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "pass-through", "No rule matches: 2 KiB forwarded from the origin.", Target("sidecache", "nginx", 2.0)
    )
    request = head("/other/b2048-77", _token())
    with ground.up(comparison, sidecache, peers.nginx, peers.varnish, peers.haproxy) as servers:
        ground.verify(servers, request, cached=False)
        return ground.take_turns(comparison, [ground.contestant(each, request, fetches=1.0) for each in servers])


def pass_distinct(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "pass-through, distinct heads",
        "The same; cookie, traceparent and request id are never those of another request, and neither is the path.",
    )
    with ground.up(comparison, sidecache, peers.nginx) as servers:
        ground.verify(servers, head("/other/b2048-77", _token()), cached=False)
        contestants = []
        for at, path in (("a path", "/other/b2048-77"), ("any path", "/other/b2048-{n}")):
            request = head(path, _token(), distinct=True)
            contestants += [ground.contestant(each, request, at=at, fetches=1.0) for each in servers]
        return ground.take_turns(comparison, contestants)


def misses(ground: Ground) -> Comparison:
    comparison = ground.comparison("misses", "2 KiB that are asked for the first time: fetched, answered and stored.")
    with ground.up(comparison, sidecache, peers.nginx, peers.varnish, peers.haproxy) as servers:
        ground.verify(servers, head(PATH, _token()))
        request = head("/api/jobs/b2048-{n}", _token())
        return ground.take_turns(comparison, [ground.contestant(each, request, fetches=1.0) for each in servers])


def latency(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "hits at 70 % load",
        "2 KiB hits in an open loop at 70 % of what each server managed a moment before.",
        Target("sidecache", "nginx", 1.5, measure="p99"),
    )
    request = head(PATH, _token())
    with ground.up(comparison, sidecache, peers.nginx) as servers:
        ground.verify(servers, request)
        rates: dict[str, float] = {}
        paced = [_paced(ground, each, request, rates, of=each.name) for each in servers]
        if len(servers) > 1:  # and beside it: nobody waits less for being asked more
            first, other = servers[0], servers[1]
            paced.append(_paced(ground, first, request, rates, of=other.name, series=f"{first.name} as {other.name}"))
        return ground.take_turns(comparison, paced)


def _paced(
    ground: Ground, server: Server, request: Head, rates: dict[str, float], *, of: str, series: str = ""
) -> Contestant:
    """At 70 % of what `of` managed a moment before: the server itself, or another one."""
    script, place = request.script(ground.place.folder), ground.place

    def find_rate() -> None:
        if of == server.name or of not in rates:
            most = load.closed_loop(script, server.port, place.cores)
            rates[server.name] = _LOAD * most.requests / most.seconds

    def send() -> load.Answered:
        rate = rates.get(of) or rates[server.name]
        return load.open_loop(request, server.port, place.cores, place.folder, rate=rate, seconds=ground.seconds)

    return Contestant(series or server.name, server, send, prepare=find_rate)


def second_tier(ground: Ground) -> Comparison:
    """A first tier of 1 MiB holds 2 % of the keys."""
    comparison = ground.comparison(
        "L2 hits",
        f"2 KiB that another replica stored: from Redis, one of {_REDIS_KEYS:,} keys at random.",
        Target("sidecache", "nginx+Lua+Redis", 2.0),
    )
    request = head("/api/jobs/b2048-{key}", _token(), keys=_REDIS_KEYS)
    try:
        with peers.redis_server(ground.place.cores, ground.place.folder) as redis:
            lua: Starter = partial(peers.nginx_lua_redis, redis=redis)
            with ground.up(comparison, _with_redis(redis, SIDECACHE_L1_BYTES=str(1 << 20)), lua) as servers:
                ground.verify(servers, request)
                for server in servers:
                    ground.fill(server, request, time.monotonic() + _FILLING_SECONDS / len(servers))
                return ground.take_turns(comparison, [ground.contestant(each, request) for each in servers])
    except NotAvailable as reason:
        comparison.skipped["redis-server"] = str(reason)
        return comparison


def _with_redis(redis: int, *flags: str, **environ: str) -> Starter:
    # staging: production refuses a Redis without TLS
    settings = {"REDIS_PROVIDER": "redis", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis)}

    def sidecache_with_redis(place: Place) -> Started:
        return sidecache(place, *flags, **settings, SIDECACHE_PROFILE="staging", **environ)

    return sidecache_with_redis


def workers(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "workers",
        "2 KiB hits, distinct heads: one process against two on the same core.",
        Target("sidecache", "sidecache", 1.1, at="2 workers", against_at="1 worker"),
    )
    request = head(PATH, _token(), distinct=True)
    try:
        with peers.redis_server(ground.place.cores, ground.place.folder) as redis:
            one, two = _with_redis(redis), _with_redis(redis, "--workers", "2")
            with ground.up(comparison, one, two) as servers:
                if len(servers) < 2:
                    return comparison
                ground.verify(servers, request)
                named = zip(servers, ("1 worker", "2 workers"), strict=True)
                return ground.take_turns(comparison, [ground.contestant(each, request, at=at) for each, at in named])
    except NotAvailable as reason:
        comparison.skipped["redis-server"] = str(reason)
        return comparison


def herds(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "herd",
        f"{herd.CLIENTS} clients ask at once for 2 KiB that are not there yet; the origin takes 30 ms. See fetches.",
    )
    request = head("/api/jobs/b2048-slow{n}", _token())
    with ground.up(comparison, sidecache, peers.nginx, peers.varnish, peers.haproxy) as servers:
        return ground.take_turns(
            comparison,
            [Contestant(each.name, each, partial(_stampede, each.port, request), fetches=None) for each in servers],
        )


def _stampede(port: int, request: Head) -> load.Answered:
    return asyncio.run(herd.stampede(port, request))


# Curves: the same request, while one thing grows


def bodies(ground: Ground) -> Comparison:
    comparison = ground.comparison("bodies", "Hits with the same head again and again, by the size of the body in KiB.")
    sizes = {"0.5": 512, "2": 2048, "20": 20_480, "200": 204_800}
    with ground.up(comparison, sidecache, peers.nginx, peers.varnish, peers.haproxy) as servers:
        contestants = []
        for at, size in sizes.items():
            request = head(f"/api/jobs/b{size}-77", _token())
            ground.verify(servers, request)
            contestants += [ground.contestant(each, request, at=at) for each in servers]
        return ground.take_turns(comparison, contestants)


def connections(ground: Ground) -> Comparison:
    comparison = ground.comparison("connections", "2 KiB hits, distinct heads, by the number of connections.")
    request = head(PATH, _token(), distinct=True)
    with ground.up(comparison, sidecache, peers.nginx, peers.varnish, peers.haproxy) as servers:
        ground.verify(servers, request)
        contestants = [
            ground.contestant(each, request, at=str(many), connections=many)
            for many in (1, 10, 100, 1000)
            for each in servers
        ]
        return ground.take_turns(comparison, contestants)


def routes(ground: Ground) -> Comparison:
    """nginx gets as many locations, all of the kind that it finds fastest."""
    comparison = ground.comparison(
        "routes",
        "2 KiB hits, distinct heads, by the number of routes in the rules.",
        Target("sidecache", "sidecache", 1.2, at="1000", against_at="10"),
    )
    request = head(PATH, _token(), distinct=True)
    contestants = []
    with ExitStack() as stack:
        for size in (10, 100, 1000):
            starters = partial(sidecache, rules=many_rules(size)), partial(peers.nginx, locations=size)
            servers = stack.enter_context(ground.up(comparison, *starters))
            ground.verify(servers, request)
            contestants += [ground.contestant(each, request, at=str(size)) for each in servers]
        return ground.take_turns(comparison, contestants)


def keys(ground: Ground) -> Comparison:
    """Bodies of 0.5 KiB. The larger the table, the more of a hit is waiting for memory."""
    sizes = (1_000, 100_000, 1_000_000)
    least, most = str(sizes[0]), str(sizes[-1])
    comparison = ground.comparison(
        "keys",
        "0.5 KiB hits of one of so many keys, distinct heads; all alike, or by Zipf's law (1/rank).",
        Target("sidecache", "sidecache", 1.2, at=most, against_at=least),
        Target("sidecache, Zipf", "sidecache, Zipf", 1.2, at=most, against_at=least),
    )

    def requests(size: int) -> dict[str, Head]:
        alike = head("/api/jobs/b512-{key}", _token(), distinct=True, keys=size)
        return {"": alike, ", Zipf": replace(alike, zipf=True)}

    starters = {size: (holding(size), peers.nginx, peers.varnish) for size in sizes}
    return _filled(ground, comparison, starters, requests)


def tenants(ground: Ground) -> Comparison:
    comparison = ground.comparison(
        "tenants",
        "2 KiB hits of one of so many tenants at random, each with a token of its own; distinct heads.",
        Target("sidecache", "sidecache", 1.2, at="10000", against_at="1"),
    )

    def requests(many: int) -> dict[str, Head]:
        return {"": head(PATH, [tokens().of(f"org_{number}") for number in range(many)], distinct=True)}

    starters = (partial(sidecache, SIDECACHE_L1_BYTES=str(512 << 20)), peers.nginx, peers.varnish)
    return _filled(ground, comparison, dict.fromkeys((1, 100, 10_000), starters), requests)


def _filled(
    ground: Ground,
    comparison: Comparison,
    sizes: Mapping[int, tuple[Starter, ...]],
    requests: Callable[[int], dict[str, Head]],
) -> Comparison:
    """Servers of their own for each size, all filled before the first turn; which one could not be filled is noted."""
    contestants = []
    until = time.monotonic() + _FILLING_SECONDS
    with ExitStack() as stack:
        for size, starters in sizes.items():
            wanted = requests(size)
            for server in stack.enter_context(ground.up(comparison, *starters)):
                try:
                    ground.fill(server, wanted[""], until)
                except NotAvailable as reason:
                    comparison.skipped[f"{server.name} {size}"] = str(reason)
                    continue
                for kind, request in wanted.items():
                    contestants.append(ground.contestant(server, request, series=server.name + kind, at=str(size)))
        return ground.take_turns(comparison, contestants, warm=True)


SHORT: dict[str, Workload] = {
    "repeated": repeated,
    "distinct": distinct,
    "304": not_modified,
    "pass": pass_through,
    "misses": misses,
    "latency": latency,
    "l2": second_tier,
}
FULL: dict[str, Workload] = SHORT | {
    "pass-distinct": pass_distinct,
    "workers": workers,
    "herd": herds,
    "bodies": bodies,
    "connections": connections,
    "routes": routes,
    "tenants": tenants,
    "keys": keys,  # the longest
}
