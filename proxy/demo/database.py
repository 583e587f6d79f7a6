"""How does the portal reach its data? Each query on a thread of its own, with the way to a database simulated."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
Row = dict[str, Any]

_THREADS = 4


class Database:
    """A SQLite file that lives as long as the process.

    `latency` is what a database in another availability zone costs per request and a file on this disk does not, in
    seconds. Everything else that a query takes is work.
    """

    def __init__(self, fill: Callable[[sqlite3.Connection], None], *, latency: float = 0.0) -> None:
        self._latency = latency
        self._directory = TemporaryDirectory(prefix="demo-portal-")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
        self._connections: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        file = Path(self._directory.name) / "portal.db"
        for _ in range(_THREADS):
            self._connections.put(_connect(file))
        self.work(fill)

    def work(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connections.get()
        try:
            return query(connection)
        finally:
            self._connections.put(connection)

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._latency:
            await asyncio.sleep(self._latency)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.work, query)

    def close(self) -> None:
        self._threads.shutdown()
        for _ in range(_THREADS):
            self._connections.get().close()
        self._directory.cleanup()


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    connection.row_factory = lambda cursor, row: {
        column[0]: value for column, value in zip(cursor.description, row, strict=True)
    }
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, one writer at a time: what was read inside cannot change before the commit."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


DATABASE = web.AppKey("DATABASE", Database)
SPENT = web.RequestKey("SPENT", float)  # seconds that this request has waited for its data


async def query(request: web.Request, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` for this request; Server-Timing tells how long it took."""
    started = perf_counter()
    try:
        return await request.app[DATABASE].run(work)
    finally:
        request[SPENT] = request.get(SPENT, 0.0) + perf_counter() - started
