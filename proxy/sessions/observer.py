"""What follows when a logout or a change of roles was seen passing, or was told? The revocation, and all it entails."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from proxy.cache.background import Background
from proxy.policy.identity import Identity, Presented, Standing
from proxy.policy.invalidation import SHARED, Purge
from proxy.policy.session import Change, Ending, Event
from proxy.sessions.notbefore import (
    Kind,
    Revocation,
    of_credential,
    of_member,
    of_organisation,
    of_session,
    of_user,
)
from proxy.sessions.open_streams import OpenStreams
from proxy.sessions.revocation import Revocations

# Until every replica knows of a change, a token of before it may still have something stored by one of them.
SETTLED = 1.2


class Purging(Protocol):
    async def advance(self, purges: Mapping[str, Sequence[str]]) -> bool: ...


class Sessions(Protocol):
    """Hears what happens to sessions, and ends what is open for those that are over."""

    async def observed(
        self, event: Event, presented: Presented | None, identity: Identity | None, user: str | None
    ) -> None: ...

    def watch(self, presented: Presented, end: Callable[[], None]) -> Callable[[], None]: ...


class NoSessions:
    """Nothing follows."""

    async def observed(
        self, event: Event, presented: Presented | None, identity: Identity | None, user: str | None
    ) -> None:
        pass

    def watch(self, presented: Presented, end: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


Audited = Callable[[str, str | None, Mapping[str, object], bool], None]  # event, tenant, target, taken by the store
Noted = Callable[[str, Mapping[str, str]], None]


class Observer:
    """Turns what happened into revocations. `personal`: the features whose answers depend on rights."""

    def __init__(
        self,
        revocations: Revocations,
        purging: Purging,
        streams: OpenStreams,
        background: Background,
        clock: Callable[[], float],
        *,
        personal: Callable[[], tuple[str, ...]],
        audited: Audited,
        noted: Noted,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._revocations = revocations
        self._purging = purging
        self._streams = streams
        self._background = background
        self._clock = clock
        self._personal = personal
        self._audited = audited
        self._noted = noted

    def watch(self, presented: Presented, end: Callable[[], None]) -> Callable[[], None]:
        """As `OpenStreams.watch`."""
        return self._streams.watch(presented, end)

    async def observed(
        self, event: Event, presented: Presented | None, identity: Identity | None, user: str | None
    ) -> None:
        """A request that the rules name has succeeded; `user`: whose rights its response says have changed."""
        if isinstance(event, Ending):
            await self._logged_out(presented)
        else:
            await self._roles_changed(event, presented, identity, event.user or user)

    async def ended(
        self, subjects: Sequence[str], instant: float, *, why: str, tenant: str | None = None, told: bool = True
    ) -> bool:
        """End all that was issued to these up to an instant; whether the store took it. `told`: it is audited here."""
        made = [self._revocations.revocation(subject, instant) for subject in dict.fromkeys(subjects)]
        return await self._revoke(made, why, tenant) if told else await self._revocations.revoke(made)

    async def changed(self, subject: str, instant: float, tenant: str | None, *, why: str, rejects: bool) -> bool:
        """Somebody's rights are others now: what older credentials say of them is over, and what is stored for them."""
        kind = Kind.ENDED if rejects else Kind.CHANGED
        accepted = await self._revoke([self._revocations.revocation(subject, instant, kind)], why, tenant)
        purge: Purge = {tenant if tenant is not None else SHARED: self._personal()}
        if self._personal():
            await self._purging.advance(purge)
            self._background.later(SETTLED, lambda: self._purging.advance(purge))
            if not accepted:
                _ = self._background.start(self._when_taken(purge), lasting=True)
        return accepted

    async def _when_taken(self, purge: Purge) -> None:
        """Until the store has the change, other replicas may go on as before."""
        while self._revocations.pending:
            await self._sleep(SETTLED)
        await self._sleep(SETTLED)
        await self._purging.advance(purge)

    async def _logged_out(self, presented: Presented | None) -> None:
        if presented is None:
            self._noted("logout-of-nobody", {})
            return
        if self._revocations.of(presented) is Standing.REVOKED:
            return  # once more: there is nothing left to end
        subjects = [of_credential(presented.digest)] if presented.digest else []
        if presented.session is not None:
            subjects.append(of_session(presented.session))
        elif presented.user is not None:
            user, tenant = presented.user, presented.tenant
            subjects.append(of_user(user) if tenant is None else of_member(tenant, user))
        now = self._clock()
        instant = max(now, presented.issued if presented.issued is not None else now)
        made = [self._revocations.revocation(each, instant, expires=presented.expires) for each in subjects]
        await self._revoke(made, "logout", presented.tenant)

    async def _roles_changed(
        self, change: Change, presented: Presented | None, identity: Identity | None, user: str | None
    ) -> None:
        tenant = identity.tenant if identity is not None else presented.tenant if presented is not None else None
        subject = (
            of_member(tenant, user) if tenant is not None and user is not None
            else of_user(user) if user is not None
            else of_organisation(tenant) if tenant is not None
            else None
        )  # fmt: skip
        if subject is None:
            self._noted("role-change-of-nobody", {})
            return
        now = self._clock()
        issued = presented.issued if presented is not None and presented.issued is not None else now
        await self.changed(subject, max(now, issued), tenant, why="role-change", rejects=change.rejects)

    async def _revoke(self, made: list[Revocation], why: str, tenant: str | None) -> bool:
        accepted = await self._revocations.revoke(made)
        target = {"subjects": [each.subject for each in made], "kind": made[0].kind.value, "before": made[0].instant}
        self._audited(why, tenant, target, accepted)
        return accepted
