"""For what is caching switched off at the moment, and until when? Operators switch; it comes back by itself.

What is switched off is forwarded like any uncached request: nothing is looked up, nothing stored. Writes purge as ever,
so that what is kept meanwhile is right when it counts again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

MAX_SECONDS = 24 * 3600.0
MAX_SWITCHES = 256


@dataclass(frozen=True, slots=True)
class Bypass:
    """One switch. `feature` and `tenant` None: of all of them."""

    feature: str | None
    tenant: str | None
    until: float
    by: str
    reason: str | None = None

    def covers(self, feature: str, tenant: str | None) -> bool:
        return self.feature in (None, feature) and self.tenant in (None, tenant)


class Bypasses:
    """The switches of one process. `changed` is called whenever something was switched off."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._switches: dict[tuple[str | None, str | None], Bypass] = {}

    def covers(self, feature: str, tenant: str | None) -> bool:
        """Whether a read of this feature by this tenant (None: it is public) goes past the cache."""
        if not self._switches:
            return False
        return any(bypass.covers(feature, tenant) for bypass in self.active())

    def active(self) -> tuple[Bypass, ...]:
        """The switches that are on, the one that ends first before the others."""
        now = self._clock()
        for name in [name for name, bypass in self._switches.items() if bypass.until <= now]:
            del self._switches[name]
        return tuple(sorted(self._switches.values(), key=lambda bypass: bypass.until))

    def on(self, feature: str | None, tenant: str | None, seconds: float, by: str, reason: str | None) -> Bypass | None:
        """Switch off caching; again for the same thing: until the new time. None: there are too many switches."""
        self.active()
        name = (feature, tenant)
        if len(self._switches) >= MAX_SWITCHES and name not in self._switches:
            return None
        bypass = Bypass(feature, tenant, self._clock() + min(seconds, MAX_SECONDS), by, reason)
        self._switches[name] = bypass
        self._changed()  # answers that were prepared before must not be given any more
        return bypass

    def take_over(self, switches: Iterable[Bypass]) -> None:
        """What another process of this sidecar has switched takes the place of all that was here."""
        self._switches = {(bypass.feature, bypass.tenant): bypass for bypass in switches}
        self._changed()

    def off(self, feature: str | None, tenant: str | None, *, only: str | None = None) -> tuple[Bypass, ...]:
        """Switch caching on again: what was switched off for exactly this; all of it when nothing is named.

        `only`: a tenant whose switches alone may be touched.
        """
        ended = [
            bypass
            for bypass in self.active()
            if ((feature, tenant) in ((None, None), (bypass.feature, bypass.tenant))) and only in (None, bypass.tenant)
        ]
        for bypass in ended:
            del self._switches[bypass.feature, bypass.tenant]
        return tuple(ended)
