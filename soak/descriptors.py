"""What happens when no descriptors are left? Degraded, not ended, and well again when some are free."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from soak.crowd import Crowd, Watched
from soak.judged import Judged
from soak.sidecars import Sidecar, replicas
from tests import wire
from tests.portal import HOST, TENANTS, TOKENS, Portal, item, opened

METHOD = (
    "a sidecar that may have {limit} descriptors on one redis-server; {clients} connections come at once and stay for "
    "{seconds} s, while {before} that were there before go on asking; then all of the {clients} leave"
)
LIMIT = 144  # it refuses to start with less than 128
CLIENTS = 400
BEFORE = 8


class Standing:
    """A connection that was there before, and goes on asking for what is kept."""

    def __init__(self, client: wire.Client, tenant: str, path: str) -> None:
        self.client, self.tenant, self.path = client, tenant, path
        self.answers = self.status = 0
        self.failed: list[str] = []

    async def ask(self) -> None:
        try:
            answer = await self.client.ask(self.path, f"Authorization: Bearer {TOKENS[self.tenant]}", host=HOST)
        except (OSError, wire.Cut) as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            return
        self.answers, self.status = self.answers + 1, answer.status
        if answer.status != 200 or opened(answer.body)["tenant"] != self.tenant:
            self.failed.append(f"{answer.status} {self.path} {answer.cache}")


async def run(folder: Path, *, short: bool) -> Judged:
    seconds = 2.0 if short else 8.0
    method = METHOD.format(limit=LIMIT, clients=CLIENTS, before=BEFORE, seconds=seconds)
    judged = Judged("descriptors used up", method)
    portal = Portal()
    async with replicas(folder, portal, before=("prlimit", f"--nofile={LIMIT}:{LIMIT}")) as (sidecar,):
        crowd = Crowd(Watched(portal, [sidecar.port]))
        await crowd.hits_again()
        standing = [
            Standing(await wire.connect(sidecar.port), TENANTS[number % 2], item(number)) for number in range(BEFORE)
        ]
        for each in standing:
            await each.ask()
        crowding = await asyncio.gather(*(_come(sidecar.port) for _ in range(CLIENTS)))
        until, misses = time.monotonic() + seconds, Counter[int]()
        while time.monotonic() < until:
            await asyncio.gather(*(each.ask() for each in standing))
            miss = Standing(standing[0].client, TENANTS[0], item(10_000 + misses.total()))
            await miss.ask()
            misses[miss.status] += 1
            await asyncio.sleep(0.02)
        judged.figures["misses meanwhile"] = ", ".join(f"{status} x {count}" for status, count in misses.items())
        judged.figures["most descriptors"] = sidecar.held()["descriptors"]
        fates = Counter([await _fate(client) for client in crowding])
        judged.figures["of those that came"] = ", ".join(f"{fate} {count}" for fate, count in sorted(fates.items()))
        judged.at_most("a new connection is answered after they left", await _answered(sidecar), 5.0)
        judged.at_most("hits after they left", await crowd.hits_again(), 10.0)
        for each in standing:
            await each.ask()
            await each.client.close()
        judge(judged, sidecar, crowd, standing)
    return judged


async def _come(port: int) -> wire.Client | None:
    """One that asks for something and stays."""
    with suppress(OSError):
        client = await wire.connect(port)
        token = f"Authorization: Bearer {TOKENS[TENANTS[0]]}"
        await client.send(f"GET {item(1)} HTTP/1.1\r\nHost: {HOST}\r\n{token}\r\n\r\n".encode())
        return client
    return None


async def _fate(client: wire.Client | None) -> str:
    """What became of it; then it leaves."""
    if client is None:
        return "refused"
    try:
        async with asyncio.timeout(0.05):
            return "answered" if await client.reader.read(1) else "closed"
    except TimeoutError:
        return "left waiting"
    except OSError:
        return "closed"
    finally:
        client.writer.transport.abort()


async def _answered(sidecar: Sidecar) -> float:
    began = time.monotonic()
    while not await sidecar.ready() and time.monotonic() < began + 20.0:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def judge(judged: Judged, sidecar: Sidecar, crowd: Crowd, standing: list[Standing]) -> None:
    judged.figures["answers on those before"] = sum(each.answers for each in standing)
    judged.true("the process is the same and runs", sidecar.runs)
    judged.at_most("descriptors", judged_most(judged), LIMIT, "descriptors")
    judged.at_least("answers on connections that were there before", sum(each.answers for each in standing), 100)
    judged.none("of them other than the right one", [told for each in standing for told in each.failed])
    judged.none("answers afterwards that were wrong", [each.told for each in crowd.history.of("C1", "C2", "C7")])
    alarming = [line for line in sidecar.alarming() if "Too many open files" not in line]
    judged.none("alarming lines in the log that are about something else", alarming)
    lines = len(sidecar.log.read_text().splitlines())
    judged.at_most("lines in the log", lines, 200, "lines")


def judged_most(judged: Judged) -> float:
    return float(judged.figures["most descriptors"])
