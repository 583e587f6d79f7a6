"""Which purges must be made again? Those that the store refused, and those that it may have lost since."""

from collections.abc import Iterable, Mapping

from proxy.cache.binding import EVERYTHING, SHARED


class Refused:
    """Purges that the store has not accepted yet: by hash, field, and the ticket of the latest refusal.

    Bounded: too many fields of one hash become its `*`, which binds all of it, and too many hashes the shared one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._fields: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._fields.values()))

    def __bool__(self) -> bool:
        return bool(self._fields)

    def of(self, hashed: str) -> Mapping[str, int]:
        return self._fields.get(hashed, {})

    def meets(self, by_hash: Mapping[str, Iterable[str]]) -> bool:
        """Whether any of these fields is among them."""
        return any(name in self.of(hashed) for hashed, names in by_hash.items() for name in names)

    def items(self) -> list[tuple[str, dict[str, int]]]:
        return [(hashed, dict(names)) for hashed, names in self._fields.items()]

    def add(self, hashed: str, names: Iterable[str], ticket: int) -> list[str]:
        """Remember a refusal; the hashes that are from now on pending as a whole, their `*` to be distrusted."""
        if EVERYTHING in self.of(hashed):
            names = (EVERYTHING,)
        self._fields.setdefault(hashed, {}).update(dict.fromkeys(names, ticket))
        widened = []
        if len(self) > self._most:
            self._fields[hashed] = {EVERYTHING: ticket}
            widened.append(hashed)
        if len(self) > self._most:
            self._fields = {SHARED: {EVERYTHING: ticket}}
            widened.append(SHARED)
        return widened

    def accepted(self, hashed: str, attempted: Mapping[str, int]) -> list[str]:
        """The store took these; which of them are settled. One refused again since the attempt began is not."""
        names = self._fields.get(hashed, {})
        settled = [name for name, ticket in attempted.items() if names.get(name) == ticket]
        for name in settled:
            del names[name]
        if not names:
            self._fields.pop(hashed, None)
        return settled


class Recent:
    """What was purged within the last `seconds`: a store that loses its latest writes revives what they purged."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._purged: dict[tuple[str, str], float] = {}  # by hash and field, the latest last

    def __len__(self) -> int:
        return len(self._purged)

    def add(self, hashed: str, names: Iterable[str], now: float) -> None:
        for name in names:
            self._purged.pop((hashed, name), None)
            self._purged[hashed, name] = now
        while self._purged and next(iter(self._purged.values())) <= now - self._seconds:
            del self._purged[next(iter(self._purged))]
        if len(self._purged) > self._most:
            self._purged = {(SHARED, EVERYTHING): now}

    def since(self, now: float) -> dict[str, list[str]]:
        """The fields to purge again, by hash."""
        fields: dict[str, list[str]] = {}
        for (hashed, name), at in self._purged.items():
            if at > now - self._seconds:
                fields.setdefault(hashed, []).append(name)
        return fields
