"""What do two organisations do all day? `python -m proxy.demo.traffic --base URL`: reads, searches, some writes."""

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MAX_SECONDS = 3600.0
MAX_RATE = 500.0
_MOST_OPEN = 64  # requests on their way; more than that waits
_WORDS = "welder forklift engineer nurse night senior planner data safety buyer".split()
_PLACES = "Berlin Lisbon Lyon Leeds Porto Chicago Remote".split()
_OLDEST_JOBS = 4000  # of both organisations; the most wanted have the lowest numbers

Step = tuple[str, str, dict[str, Any] | None]


@dataclass(slots=True)
class Report:
    """What came back: statuses, and milliseconds by what the cache did (`direct` when there is none)."""

    statuses: Counter[int] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0

    def add(self, status: int, cache_status: str | None, milliseconds: float) -> None:
        self.statuses[status] += 1
        self.times.setdefault(_outcome(cache_status), []).append(milliseconds)

    def __str__(self) -> str:
        total = self.statuses.total()
        lines = [f"{total} answers, {self.failures} failures; statuses: {dict(sorted(self.statuses.items()))}"]
        for outcome, times in sorted(self.times.items()):
            ordered = sorted(times)
            middle, slow = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
            share = 100 * len(ordered) / total
            lines.append(f"{outcome:>12}: {len(ordered):6} ({share:4.1f} %)  median {middle:.1f} ms, p95 {slow:.1f} ms")
        return "\n".join(lines)


def _outcome(cache_status: str | None) -> str:
    """`hit`, or why it was forwarded, from the nearest cache's member (RFC 9211 2)."""
    if cache_status is None:
        return "direct"
    parameters = [part.strip() for part in cache_status.rpartition(",")[2].split(";")[1:]]
    forwarded = next((part.removeprefix("fwd=") for part in parameters if part.startswith("fwd=")), "other")
    return "hit" if "hit" in parameters else forwarded


def next_step(rng: random.Random, org: str) -> Step:
    """What a member does next: method, target, JSON body. A few jobs are looked at most; one step in 25 writes."""
    number = 3 * int(1 + _OLDEST_JOBS / 3 * rng.random() ** 4)  # every third job is Globex's
    job = f"/api/jobs/job_{number if org == 'org_globex' else number - 2}"
    kind = rng.random()
    if kind < 0.35:
        return "GET", job, None
    if kind < 0.60:
        return "GET", f"/api/jobs?page={1 + int(4 * rng.random() ** 3)}", None
    if kind < 0.78:
        return "GET", f"/api/search?q={rng.choice(_WORDS)}&location={rng.choice(_PLACES)}&utm_source=mail", None
    if kind < 0.83:
        return "POST", "/api/search", {"q": rng.choice(_WORDS), "sort": "newest"}
    if kind < 0.92:
        return "GET", f"/api/analytics/{rng.choice(('summary', 'funnel', 'top-jobs'))}", None
    if kind < 0.96:
        return "GET", f"{job}/applications", None
    if kind < 0.98:
        return (
            "POST",
            f"{job}/applications",
            {"candidate": "Kim Doe", "email": f"kim{rng.randrange(10**6)}@mail.example"},
        )
    if kind < 0.99:
        return "POST", "/api/jobs", {"title": f"Seasonal {rng.choice(_WORDS)}", "location": rng.choice(_PLACES)}
    return "PATCH", job, {"salary_max": 90_000 + rng.randrange(9000)}


async def run(base: str, *, seconds: float, rate: float, seed: int = 1) -> Report:
    """Send `rate` requests a second for `seconds`, whether or not the answers keep up (64 on their way at most)."""
    rng, report, room = random.Random(seed), Report(), asyncio.Semaphore(_MOST_OPEN)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(base, timeout=timeout) as session, asyncio.TaskGroup() as requests:
        tokens = [(org, await _token(session, org)) for org in ("org_acme", "org_globex")]
        started = time.monotonic()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(started + number / rate - time.monotonic())
            await room.acquire()
            org, token = rng.choice(tokens)
            task = requests.create_task(_send(session, next_step(rng, org), token, report))
            task.add_done_callback(lambda _: room.release())
    return report


async def _token(session: aiohttp.ClientSession, org: str) -> str:
    async with session.post("/oauth/token", json={"org": org}, raise_for_status=True) as response:
        return str((await response.json())["access_token"])


async def _send(session: aiohttp.ClientSession, step: Step, token: str, report: Report) -> None:
    method, target, body = step
    started = time.perf_counter()
    try:
        async with session.request(method, target, json=body, headers={"Authorization": f"Bearer {token}"}) as response:
            await response.read()
    except (aiohttp.ClientError, TimeoutError):
        report.failures += 1
    else:
        report.add(response.status, response.headers.get("Cache-Status"), (time.perf_counter() - started) * 1000)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.traffic", description="Traffic of two organisations.")
    parser.add_argument("--base", default="http://127.0.0.1:8080", help="the sidecar's or the portal's URL")
    parser.add_argument("--seconds", type=float, default=30.0, help=f"how long (30; {MAX_SECONDS:.0f} at most)")
    parser.add_argument("--rate", type=float, default=20.0, help=f"requests a second (20; {MAX_RATE:.0f} at most)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another day")
    options = parser.parse_args(arguments)
    if not (0 < options.seconds <= MAX_SECONDS and 0 < options.rate <= MAX_RATE):
        parser.error(f"--seconds is at most {MAX_SECONDS:.0f}, --rate at most {MAX_RATE:.0f}; both more than 0")
    try:
        print(asyncio.run(run(options.base, seconds=options.seconds, rate=options.rate, seed=options.seed)))
    except* aiohttp.ClientError as errors:
        parser.exit(1, f"{options.base} gives no tokens: {errors.exceptions[0]}\n")


if __name__ == "__main__":
    main()
