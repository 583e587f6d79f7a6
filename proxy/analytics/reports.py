"""What was counted? Numbers of one tenant from the store, over the time that is asked for."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.analytics import names
from proxy.analytics.questions import SECONDS, Question
from proxy.stores.base import Store

ERROR = 0.0081  # the standard error of a HyperLogLog with 16,384 registers
_AT_A_TIME = 100  # hashes of one batch
_ASKED_BESIDE = 5  # sets that are asked of at the same time: each takes a connection


@dataclass(frozen=True, slots=True)
class Row:
    """What was counted of one value, and about how many did it (None: that is not counted)."""

    value: str
    count: int
    unique: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """`series`: the beginning of each bucket and its count. `as_of`: until when all that was counted is in it.

    `unique`: about how many, over the whole days from `unique_from` on. `other`: counts that no row tells, because
    there were too many values; None where there are no rows.
    """

    question: Question
    series: tuple[tuple[int, int], ...]
    count: int
    unique: int | None
    unique_from: int
    rows: tuple[Row, ...]
    other: int | None
    as_of: float

    @property
    def partial(self) -> bool:
        return self.question.end > self.as_of


class Reports:
    """Reads what `Counters` write. `as_of` is that of this process."""

    def __init__(self, store: Store, as_of: Callable[[], float]) -> None:
        self._store = store
        self._as_of = as_of

    async def answer(self, tenant: str, question: Question) -> Report:
        """StoreError when the store does not tell."""
        as_of = self._as_of()  # before it is asked
        value = names.ALL if question.value is None else names.written(question.value)
        series = await self._series(tenant, question, value)
        rows, other = await self._rows(tenant, question) if question.rows else ((), None)
        first = max(question.begin, int(as_of) - names.UNIQUES_KEPT + names.DAY) // names.DAY * names.DAY
        unique = await self._unique(tenant, question, value) if question.report.unique else None
        return Report(question, series, sum(count for _, count in series), unique, first, rows, other, as_of)

    async def _series(self, tenant: str, question: Question, value: str) -> tuple[tuple[int, int], ...]:
        """Days are summed up from their hours, an hour's minutes are kept apart."""
        report, minutes = question.report.name, question.bucket == "minute"
        place, field, size = (
            (names.by_minute, names.MINUTE, names.HOUR) if minutes else (names.by_hour, names.HOUR, names.DAYS)
        )
        counts: Counter[int] = Counter()
        begins = list(_steps(question.begin, question.end, size))
        for at in range(0, len(begins), _AT_A_TIME):
            part = begins[at : at + _AT_A_TIME]
            found = await self._store.counts([place(tenant, report, value, begin) for begin in part])
            for begin, numbers in zip(part, found, strict=True):
                for number, count in numbers.items():
                    counts[begin + int(number) * field] += count
        bucket = SECONDS[question.bucket]
        summed: Counter[int] = Counter()
        for begin, count in counts.items():
            if question.begin <= begin < question.end:
                summed[begin // bucket * bucket] += count
        return tuple((begin, summed[begin]) for begin in range(question.begin, question.end, bucket))

    async def _rows(self, tenant: str, question: Question) -> tuple[tuple[Row, ...], int]:
        totals: Counter[str] = Counter()
        for day in _steps(question.begin, question.end, names.DAY):
            (found,) = await self._store.counts([names.by_value(tenant, question.report.name, day)])
            totals.update(found)
            await asyncio.sleep(0)  # ten thousand values a day take their time
        other = totals.pop(names.OTHER, 0)
        first = totals.most_common(question.rows)
        other += totals.total() - sum(count for _, count in first)
        uniques: list[int | None] = [None] * len(first)
        if question.report.unique:
            for at in range(0, len(first), _ASKED_BESIDE):
                part = [self._unique(tenant, question, value) for value, _ in first[at : at + _ASKED_BESIDE]]
                uniques[at : at + _ASKED_BESIDE] = await asyncio.gather(*part)
        rows = zip(first, uniques, strict=True)
        return tuple(Row(names.read(value), count, unique) for (value, count), unique in rows), other

    async def _unique(self, tenant: str, question: Question, value: str) -> int:
        days = list(_steps(question.begin, question.end, names.DAY))[-names.UNIQUES_KEPT // names.DAY :]
        return await self._store.distinct([names.uniques(tenant, question.report.name, value, day) for day in days])


def _steps(begin: int, end: int, size: int) -> Iterator[int]:
    yield from range(begin // size * size, end, size)
