"""Time that stands still, and a fetch that is scripted instead of made."""

import asyncio

from proxy.identity.jwks import FetchError
from tests.issuer import Issuer

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class KeySource:
    """What the issuer's address answers: its document, a failure, or nothing until released."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.fetches = 0
        self.failing = False
        self.gate: asyncio.Event | None = None

    async def __call__(self, url: str) -> bytes:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise FetchError("refused")
        return self.issuer.document()
