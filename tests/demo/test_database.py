import asyncio
import sqlite3

import pytest

from proxy.demo.database import Database, transaction


@pytest.fixture
def database():
    made = Database(lambda connection: connection.executescript("CREATE TABLE t (n INTEGER)"))
    yield made
    made.close()


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row["n"] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def test_a_transaction_that_fails_leaves_nothing_behind(database: Database):
    def write(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (1)")
            raise KeyError("no")

    with pytest.raises(KeyError):
        database.work(write)
    assert database.work(numbers) == []


async def test_writers_on_several_threads_lose_no_update(database: Database):
    database.work(lambda connection: connection.execute("INSERT INTO t VALUES (0)"))

    def increment(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            [value] = numbers(connection)
            connection.execute("UPDATE t SET n = ?", (value + 1,))

    await asyncio.gather(*(database.run(increment) for _ in range(40)))
    assert await database.run(numbers) == [40]


async def test_what_one_request_has_written_the_next_reads_whatever_thread_it_gets(database: Database):
    for number in range(1, 9):
        await database.run(lambda connection, number=number: connection.execute("INSERT INTO t VALUES (?)", (number,)))
        seen = await asyncio.gather(*(database.run(numbers) for _ in range(4)))
        assert all(found == list(range(1, number + 1)) for found in seen)
