"""What is known of a session that is in use? One record in the store for each member, `session:{userId}:{orgId}`.

It is created when its holder is first seen, touched at most once a minute, and ends an hour after the last touch. What
a logout has deleted is never brought back: a record is created only where there is none, and the revocation is looked
at again behind that; touched only where there is one; and whoever reads one compares when its token was issued.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b

import orjson

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.identity.sources import Standings
from proxy.policy.identity import Identity, Presented, Standing
from proxy.sessions.notbefore import Revocation, subjects
from proxy.stores.base import Store

TTL = 3600.0
TOUCHED = 60.0  # seconds between two writes of one session by one process
KNOWN = 65_536  # sessions that a process remembers to have touched
_PLAIN = re.compile(r"[!-~]{1,150}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Record:
    """One session. Times are unix seconds; `issued` and `expires` are those of the newest token that was seen."""

    user: str
    tenant: str
    session: str | None
    roles: tuple[str, ...] | None
    issued: float | None
    expires: float | None
    created: float
    seen: float

    def packed(self) -> bytes:
        return orjson.dumps(asdict(self))

    def presented(self) -> Presented:
        return Presented(self.user, self.tenant, self.session, self.issued)


def name_of(user: str, tenant: str) -> str:
    """The record's name in the store. A tenant has no colon, so that no two sessions have the same."""
    if _PLAIN.fullmatch(user) is None:
        user = f"h-{blake2b(user.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
    return f"session:{user}:{tenant}"


def unpacked(value: bytes) -> Record | None:
    """The record in a value of the store; None for what is none."""
    try:
        said = orjson.loads(value)
    except ValueError:
        return None
    match said:
        case {
            "user": str(user), "tenant": str(tenant), "session": str() | None as session,
            "roles": list() | None as roles, "issued": int() | float() | None as issued,
            "expires": int() | float() | None as expires, "created": int() | float() as created,
            "seen": int() | float() as seen,
        }:  # fmt: skip
            if roles is not None and not all(isinstance(role, str) for role in roles):
                return None
            kept = None if roles is None else tuple(roles)
            return Record(user, tenant, session, kept, issued, expires, created, seen)
        case _:
            return None


@dataclass(slots=True)
class _Known:
    due: float  # when it is to be touched again
    presented: Presented


class Records:
    """The sessions that pass through this process."""

    def __init__(
        self, store: Store, standings: Standings, clock: Callable[[], float], background: Background,
        *, most: int = KNOWN,
    ) -> None:  # fmt: skip
        self._store = store
        self._standings = standings
        self._clock = clock
        self._background = background
        self._most = most
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()  # the one touched longest ago first
        self.written = 0
        self.failed = 0

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, identity: Identity) -> None:
        """This caller has just been judged, and is in good standing."""
        user, tenant, presented = identity.user, identity.tenant, identity.presented
        if user is None or tenant is None or presented is None:
            return
        known = self._known.get((user, tenant))
        now = self._clock()
        if known is not None and now < known.due and known.presented.digest == presented.digest:
            return
        if known is not None and now < known.due and (known.presented.issued or 0) >= (presented.issued or 0):
            return  # an older token of the same member, beside the newer
        self._known[user, tenant] = _Known(now + TOUCHED, presented)
        self._known.move_to_end((user, tenant))
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        _ = self._background.start(self._touch(_made(identity, presented, user, tenant, now)))

    async def _touch(self, made: Record) -> None:
        name = name_of(made.user, made.tenant)
        try:
            (value,) = await self._store.get([name])
            found = unpacked(value) if value is not None else None
            if value is None:
                await self._create(name, made)
            elif found is None or self._is_over(found):
                await self._store.delete([name])
                await self._create(name, made)
            else:
                newest = made if (made.issued or 0) >= (found.issued or 0) else found
                touched = Record(
                    made.user, made.tenant, newest.session, newest.roles, newest.issued, newest.expires,
                    min(found.created, made.created), made.seen,
                )  # fmt: skip
                # where it has gone meanwhile it stays away: somebody deleted it
                await self._store.replace(name, touched.packed(), TTL)
            self.written += 1
        except StoreError:
            self.failed += 1

    async def _create(self, name: str, made: Record) -> None:
        if await self._store.claim(name, made.packed(), TTL) and self._is_over(made):
            await self._store.delete([name])  # revoked since it was judged

    def _is_over(self, record: Record) -> bool:
        return self._standings.of(record.presented()) in (Standing.REVOKED, Standing.OUTDATED)

    async def read(self, user: str, tenant: str) -> Record | None:
        """The session as the store has it; None also for one that is over. StoreError when it cannot be read."""
        (value,) = await self._store.get([name_of(user, tenant)])
        found = unpacked(value) if value is not None else None
        if found is None or (found.user, found.tenant) != (user, tenant) or self._is_over(found):
            return None
        return found

    def here(self) -> Iterator[tuple[str, str, Presented, float]]:
        """User, tenant, credential and last touch of the sessions that passed through this process lately."""
        for (user, tenant), known in reversed(self._known.items()):
            yield user, tenant, known.presented, known.due - TOUCHED

    def forget(self, news: Sequence[Revocation]) -> None:
        """Delete what these revocations mean, as far as it is known here; whoever reads the rest knows by itself."""
        named = {each.subject for each in news}
        names = {
            (user, tenant)
            for user, tenant, presented, _ in self.here()
            if not named.isdisjoint(subjects(presented)) and self._standings.of(presented) is not Standing.GOOD
        }
        for each in names:
            del self._known[each]
        direct = [subject[2:].split(":", 1) for subject in named if subject.startswith("m:")]
        names |= {(user, tenant) for tenant, user in direct}
        if names:
            _ = self._background.start(self._delete(name_of(user, tenant) for user, tenant in names))

    async def _delete(self, names: Iterable[str]) -> None:
        listed = list(names)
        try:
            values = await self._store.get(listed)
            found = [unpacked(value) if value is not None else None for value in values]
            # a newer login may have one of its own already
            over = [
                name
                for name, value, record in zip(listed, values, found, strict=True)
                if value is not None and (record is None or self._is_over(record))
            ]
            if over:
                await self._store.delete(over)
        except StoreError:
            self.failed += 1


def _made(identity: Identity, presented: Presented, user: str, tenant: str, now: float) -> Record:
    roles = None if identity.roles is None else tuple(sorted(identity.roles))
    expires = presented.expires if presented.expires != float("inf") else None
    return Record(user, tenant, presented.session, roles, presented.issued, expires, now, now)
