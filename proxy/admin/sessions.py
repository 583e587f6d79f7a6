"""Who is logged in to the dashboard? A random id in a cookie stands for the holder of a token, for some hours."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

from proxy.admin.access import Actor

LIFETIME = 8 * 3600.0  # a working day; no request makes it longer
MOST = 256  # the one that began first makes room
MOST_OF_ONE = 32  # of these one name may have so many: nobody ends the sessions of all others by logging in
_BYTES = 32


class Sessions:
    """The sessions of one process: they end with it. Only hashes of their ids are kept."""

    def __init__(self, clock: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random = random
        self._begun: dict[bytes, tuple[Actor, float]] = {}

    def begin(self, actor: Actor) -> str:
        """The id of a new session of theirs."""
        name = urlsafe_b64encode(self._random(_BYTES)).rstrip(b"=").decode()
        own = [digest for digest, (holder, _) in self._begun.items() if holder.name == actor.name]
        if len(own) >= MOST_OF_ONE:
            del self._begun[own[0]]
        elif len(self._begun) >= MOST:
            del self._begun[next(iter(self._begun))]
        self._begun[_digest(name)] = (actor, self._clock() + LIFETIME)
        return name

    def find(self, name: str) -> Actor | None:
        """Whose it is, while it lasts."""
        found = self._begun.get(_digest(name))
        if found is None:
            return None
        actor, until = found
        if self._clock() < until:
            return actor
        del self._begun[_digest(name)]
        return None

    def end(self, name: str) -> Actor | None:
        """From now on it is nobody's; whose it was."""
        actor = self.find(name)
        self._begun.pop(_digest(name), None)
        return actor


def _digest(name: str) -> bytes:
    return sha256(name.encode("utf-8", "surrogateescape")).digest()
