"""Before which instant is a credential no longer good? Revocations merged into one set; pure, `now` is an argument.

A revocation names a subject and an instant: whatever was issued at or before it is over. Merging keeps the later
instant, so that order, duplicates and lateness do not matter, and nothing is forgotten before its time.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.policy.identity import Presented, Standing

LONGEST = 400 * 86400.0  # no revocation is kept longer, whatever a message says
_MAX_SUBJECT = 600
_LEEWAY = 300.0  # seconds by which an issuer's clock may differ before a token counts as too old to be judged


class Kind(StrEnum):
    ENDED = "ended"  # the credential is refused
    CHANGED = "changed"  # what it says of its holder's rights is over


@dataclass(frozen=True, slots=True)
class Revocation:
    """One subject's. `until`: unix seconds after which every credential it could mean has expired by itself."""

    subject: str
    instant: float
    until: float
    kind: Kind = Kind.ENDED

    def packed(self) -> list[Any]:
        return [self.subject, self.instant, self.until, self.kind.value]


def of_user(user: str) -> str:
    """Of this user, in every organisation."""
    return f"u:{user}"


def of_sessionless(user: str) -> str:
    """Of this user's credentials that do not say to which session they belong."""
    return f"x:{user}"


def of_member(tenant: str, user: str) -> str:
    return f"m:{tenant}:{user}"  # a tenant has no colon


def of_organisation(tenant: str) -> str:
    return f"o:{tenant}"


def of_session(session: str) -> str:
    return f"s:{session}"


def of_credential(digest: bytes) -> str:
    return f"d:{digest.hex()}"


def subjects(presented: Presented) -> Iterator[str]:
    """Everything by which a revocation can mean this credential."""
    if presented.digest:
        yield of_credential(presented.digest)
    if presented.session is not None:
        yield of_session(presented.session)
    if presented.user is not None:
        yield of_user(presented.user)
        if presented.session is None:
            yield of_sessionless(presented.user)
        if presented.tenant is not None:
            yield of_member(presented.tenant, presented.user)
    if presented.tenant is not None:
        yield of_organisation(presented.tenant)


def unpacked(said: object, now: float) -> list[Revocation]:
    """The revocations in a message or a log entry; what is none of ours is left out."""
    return [each for item in said if (each := _one(item, now)) is not None] if isinstance(said, list) else []


def _one(item: object, now: float) -> Revocation | None:
    match item:
        case [str(subject), int() | float() as instant, int() | float() as until, "ended" | "changed" as kind]:
            sane = math.isfinite(instant) and math.isfinite(until) and 2 < len(subject) <= _MAX_SUBJECT
            return Revocation(subject, instant, min(until, now + LONGEST), Kind(kind)) if sane else None
        case _:
            return None


class NotBefore:
    """All revocations that still count. `keep`: seconds after which the longest-lived token has expired.

    Bounded: beyond `most`, the older half becomes one instant for everybody (`floor`), which revokes too much and
    never too little.
    """

    def __init__(self, *, most: int = 262_144) -> None:
        self.keep = 86400.0
        self.floor = float("-inf")
        self._most = most
        self._kept: dict[Kind, dict[str, tuple[float, float]]] = {kind: {} for kind in Kind}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def __iter__(self) -> Iterator[Revocation]:
        for kind, kept in self._kept.items():
            for subject, (instant, until) in kept.items():
                yield Revocation(subject, instant, until, kind)

    @property
    def any(self) -> bool:
        return any(self._kept.values()) or self.floor > 0

    def merge(self, revocations: Iterable[Revocation], now: float) -> list[Revocation]:
        """Take these in; those that tell something new."""
        news = []
        for each in revocations:
            if each.until <= now:
                continue
            kept = self._kept[each.kind]
            instant, until = kept.get(each.subject, (float("-inf"), float("-inf")))
            if each.instant > instant or each.until > until:
                kept[each.subject] = max(instant, each.instant), max(until, each.until)
                news.append(each)
        if len(self) > self._most:
            self._raise_floor()
        return news

    def get(self, subject: str, kind: Kind) -> Revocation | None:
        found = self._kept[kind].get(subject)
        return Revocation(subject, *found, kind) if found is not None else None

    def prune(self, now: float) -> None:
        """Forget what cannot mean anybody any more."""
        for kind, kept in self._kept.items():
            if any(until <= now for _, until in kept.values()):
                self._kept[kind] = {subject: each for subject, each in kept.items() if each[1] > now}

    def of(self, presented: Presented, now: float) -> Standing:
        issued = presented.issued if presented.issued is not None else float("-inf")
        if self.floor > 0 and issued <= self.floor:
            return Standing.REVOKED
        names = tuple(subjects(presented))
        if self._names(Kind.ENDED, names, issued):
            return Standing.REVOKED
        if presented.issued is not None and presented.issued < now - self.keep - _LEEWAY:
            return Standing.UNKNOWN  # what was revoked so long ago is forgotten
        return Standing.OUTDATED if self._names(Kind.CHANGED, names, issued) else Standing.GOOD

    def _names(self, kind: Kind, names: tuple[str, ...], issued: float) -> bool:
        kept = self._kept[kind]
        if not kept:
            return False
        for name in names:
            found = kept.get(name)
            # a digest means this one credential, whenever it was issued
            if found is not None and (issued <= found[0] or name.startswith("d:")):
                return True
        return False

    def _raise_floor(self) -> None:
        instants = sorted(each.instant for each in self)
        self.floor = max(self.floor, instants[len(instants) // 2])
        for kind, kept in self._kept.items():
            self._kept[kind] = {subject: each for subject, each in kept.items() if each[0] > self.floor}
