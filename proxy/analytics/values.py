"""How many values may one count be split by? So many a day; the rest are counted together, as the others.

Values come from requests: whoever may ask for anything must not fill memory and store by asking for everything.
"""

from proxy.analytics import names

MOST_VALUES = 10_000  # of one report and tenant, in one day and process
MOST_IN_ALL = 200_000  # of all of them


class Values:
    """Those seen today by this process. Bounded."""

    def __init__(self, most: int = MOST_VALUES, in_all: int = MOST_IN_ALL) -> None:
        self._most = most
        self._in_all = in_all
        self._day = 0
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._size = 0
        self.turned_away = 0  # counts that went to the others

    def __len__(self) -> int:
        return self._size

    def admitted(self, tenant: str, name: str, value: str, at: float) -> str:
        """The value as it stands in names; OTHER when it is one too many, or too long for a name."""
        day = int(at) // names.DAY
        if day != self._day:
            self._day, self._seen, self._size = day, {}, 0
        value = names.written(value)
        seen = self._seen.setdefault((tenant, name), set())
        if value in seen:
            return value
        if value == names.OTHER or len(seen) >= self._most or self._size >= self._in_all:
            self.turned_away += 1
            return names.OTHER
        seen.add(value)
        self._size += 1
        return value
