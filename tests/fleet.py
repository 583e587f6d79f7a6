"""Several sidecars on one store, in one process; and one that deletes entries instead of epochs, to be caught."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from proxy.cache.epochs import Epochs
from proxy.cache.tiers import Cache
from tests import servers, wire
from tests.cli.process import MODULE, environment
from tests.portal import HOST, RULES, History, Portal, traffic


@dataclass(frozen=True)
class Fleet:
    portal: Portal
    history: History


@asynccontextmanager
async def fleet(
    folder: Path, *settings: Mapping[str, str], dawdle: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[Fleet]:
    """One sidecar for each of the settings, all before the same portal."""
    portal = Portal(dawdle)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(wire.upstream(portal.answer))
        ports = []
        for number, each in enumerate(settings):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            # room for a busy machine: while a store counts as lost, what was written is not heard of elsewhere
            environ = {"SIDECACHE_HOSTS": HOST, "SIDECACHE_STORE_TIMEOUT_MS": "400", **each}
            sidecar = await stack.enter_async_context(wire.sidecar(upstream.port, own, RULES, **environ))
            ports.append(sidecar.data_port)
        yield Fleet(portal, History(portal, ports))


async def observed(
    folder: Path, settings: Sequence[Mapping[str, str]], *, operations: int, seed: int, users: int = 24,
    progress: Callable[[History], None] | None = None,
) -> History:  # fmt: skip
    """The history of that many operations at these replicas, with an upstream that dawdles."""
    chance = Random(seed)
    async with fleet(folder, *settings, dawdle=lambda: chance.choice((0.0, 0.0, 0.001, 0.004))) as made:
        watching = asyncio.ensure_future(_watch(made.history, progress)) if progress is not None else None
        await traffic(made.history, users=users, operations=operations, seed=seed)
        if watching is not None:
            watching.cancel()
            await asyncio.wait((watching,))
        return made.history


async def _watch(history: History, progress: Callable[[History], None]) -> None:
    while True:
        await asyncio.sleep(1)
        progress(history)


@contextmanager
def delete_on_write() -> Iterator[None]:
    """Sidecars started meanwhile purge by deleting: here, in the store, and at once in every other replica.

    That is what a cache without epochs does at its best. A fill under way during a write still brings the old state.
    """
    caches: list[Cache] = []
    made, advance = Cache.__init__, Epochs.advance

    def remember(self: Cache, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        caches.append(self)

    async def delete(self: Epochs, purges: Mapping[str, Sequence[str]], *, soft: bool = False) -> bool:
        names = [f"tenant:{space}:{tag}" for space, tags in purges.items() for tag in tags]
        await asyncio.gather(*(cache.drop(name) for cache in caches for name in names))
        return True

    Cache.__init__, Epochs.advance = remember, delete  # type: ignore[method-assign]
    try:
        yield
    finally:
        Cache.__init__, Epochs.advance = made, advance  # type: ignore[method-assign]


@asynccontextmanager
async def processes(folder: Path, *settings: Mapping[str, str]) -> AsyncIterator[Fleet]:
    """The same with a process for each sidecar."""
    portal = Portal()
    (folder / "rules.yaml").write_text(RULES)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(wire.upstream(portal.answer))
        ports = [servers.free_port() for _ in settings]
        for port, each in zip(ports, settings, strict=True):
            environ = {"SIDECACHE_HOSTS": HOST, "SIDECACHE_DEV_AUTH": "1", "SIDECACHE_DRAIN_S": "2", **each}
            words = [
                "run", "--profile", "development", "--upstream", f"http://127.0.0.1:{upstream.port}", "--rules",
                str(folder / "rules.yaml"), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0",
            ]  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                *MODULE, *words, cwd=folder, env=environment(**environ), stdout=DEVNULL, stderr=DEVNULL
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
        for port in ports:
            await wire.until(lambda port=port: _listens(port))
        yield Fleet(portal, History(portal, ports))


async def _listens(port: int) -> bool:
    return not await wire.refuses(port)
