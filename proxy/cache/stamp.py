"""Under which epochs was something read or stored? Two digests that are equal when all these epochs are (DESIGN 4)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from proxy.cache.binding import Field, binding

_DIGEST = 16
_LOCAL = b"L"  # before the digest of a stamp that no store has vouched for: it never equals one that was read


@dataclass(frozen=True, slots=True)
class Stamp:
    """The epochs that bind (space, tags), as one read gave them: a digest of the hard ones and one of the soft ones.

    `of` gives the stamp of other tags out of the same read. A local stamp was read from no store: it holds what this
    process knows of purges, and nothing of what other replicas do.
    """

    hard: bytes
    soft: bytes
    space: str = field(default="", compare=False, repr=False)
    tags: tuple[str, ...] = field(default=(), compare=False, repr=False)
    read: Mapping[Field, bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def local(self) -> bool:
        return is_local(self.hard)

    def named(self, tags: tuple[str, ...]) -> "Stamp":
        """The same for other tags with the same binding."""
        return Stamp(self.hard, self.soft, self.space, tags, self.read)

    def of(self, tags: tuple[str, ...]) -> "Stamp | None":
        """The stamp of these tags; None when their epochs were not part of this read."""
        if tags == self.tags:
            return self
        names = binding(self.space, tags)
        if not all(name in self.read for name in names):
            return None
        return stamp(self.space, tags, self.read, local=self.local)


def stamp(space: str, tags: tuple[str, ...], read: Mapping[Field, bytes], *, local: bool = False) -> Stamp:
    """The stamp of (space, tags) out of a read that covers them. All values have the same length."""
    values = [read[name] for name in binding(space, tags)]
    # hard and soft fields alternate
    prefix = _LOCAL if local else b""
    return Stamp(prefix + _digest(values[0::2]), prefix + _digest(values[1::2]), space, tags, read)


def read_stamp(space: str, tags: tuple[str, ...], fields: tuple[Field, ...], values: list[bytes], bound: int) -> Stamp:
    """The same where the values are in the order of `covered`."""
    read = dict(zip(fields, values, strict=True))
    return Stamp(_digest(values[0:bound:2]), _digest(values[1:bound:2]), space, tags, read)


def is_local(digest: bytes) -> bool:
    """Whether this digest is of epochs that only this process knows."""
    return len(digest) > _DIGEST


def _digest(values: Iterable[bytes]) -> bytes:
    return blake2b(b"".join(values), digest_size=_DIGEST).digest()
