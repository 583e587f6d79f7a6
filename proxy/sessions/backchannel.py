"""What follows when the issuer says that a session has ended? (OpenID Connect Back-Channel Logout 1.0)"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from proxy.errors import StoreError
from proxy.identity.logout_tokens import LogoutToken, LogoutTokens, Unfit
from proxy.sessions.notbefore import of_session, of_sessionless, of_user
from proxy.sessions.observer import Observer
from proxy.stores.base import Store

_REMEMBERED_AFTER = 60.0  # seconds beyond its end that a token's id is remembered: clocks differ

Verdict = Literal["done", "invalid", "later"]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a logout token. `later`: it is right, or may be, and should be sent again."""

    verdict: Verdict
    why: str = ""


class BackChannel:
    """Takes logout tokens. Each counts once, on all replicas together."""

    def __init__(self, tokens: LogoutTokens, observer: Observer, store: Store, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._observer = observer
        self._store = store
        self._clock = clock
        self.counts: dict[str, int] = {"done": 0, "invalid": 0, "later": 0}

    async def receive(self, token: str) -> Received:
        received = await self._receive(token)
        self.counts[received.verdict] += 1
        return received

    async def _receive(self, token: str) -> Received:
        now = self._clock()
        said = await self._tokens.verify(token, now)
        if isinstance(said, Unfit):
            return Received("later" if said.later else "invalid", said.why)
        name = f"shared:logout-token:{blake2b(said.id.encode(), digest_size=16).hexdigest()}"
        try:
            if not await self._store.claim(name, b"", max(1.0, said.expires - now) + _REMEMBERED_AFTER):
                return Received("invalid", "it was used before")
        except StoreError:
            pass  # whether it was, nobody can tell; using it twice does no harm
        if await self._observer.ended(_subjects(said), said.issued, why="backchannel-logout"):
            return Received("done")
        with suppress(StoreError):
            await self._store.delete([name])  # it is not used up: the issuer is to send it again
        return Received("later", "the session has ended here; the store has not taken it yet")


def _subjects(said: LogoutToken) -> list[str]:
    if said.session is None:
        assert said.user is not None, "one of them is there"
        return [of_user(said.user)]
    # access tokens that do not say of which session they are cannot be told apart: they all end
    return [of_session(said.session), *([of_sessionless(said.user)] if said.user is not None else [])]
