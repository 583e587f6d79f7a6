"""Who is signed in, and how is a session ended? `/api/sessions`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked, for_all_tenants
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.problems import Refused, answer
from proxy.errors import StoreError
from proxy.sessions.notbefore import of_member, of_organisation, of_session, of_user
from proxy.sessions.record import Records

MOST = 1000
_DEFAULT = 100
_HERE = "seen by this process within its memory of 65,536 sessions; other replicas and workers see others"


class Ends(Protocol):
    async def ended(
        self, subjects: Sequence[str], instant: float, *, why: str, tenant: str | None = None, told: bool = True
    ) -> bool: ...


class SignedIn:
    """Lists, reads and ends sessions."""

    def __init__(
        self,
        records: Records,
        ends: Ends,
        audit: Audit,
        clock: Callable[[], float],
        keys: Callable[[], Mapping[str, Any]],
        *,
        reasons: bool,
    ) -> None:
        self._records = records
        self._ends = ends
        self._audit = audit
        self._clock = clock
        self._keys = keys
        self._reasons = reasons

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "GET", "/.well-known/jwks.json", self.published, "The keys by which assertions are verified (RFC 7517)."
        )
        yield Endpoint(
            "GET", "/api/sessions", self.listed, "Sessions in use, the newest first; or one member's, from the store.",
            (Role.INSPECTOR,),
            {
                "tenant": "only this organisation's; needed with user",
                "user": "this member's session, as the store has it",
                "limit": f"how many at once, at most {MOST} ({_DEFAULT})",
            },
            answers={200: "The sessions.", 404: "There is no such session.", 503: "The store does not answer."},
        )  # fmt: skip
        yield Endpoint(
            "DELETE", "/api/sessions", self.end, "End sessions: what was issued up to now is refused everywhere.",
            (Role.OPERATOR,),
            {"tenant": "the organisation", "user": "the user", "session": "the session's id (sid)"},
            {
                "tenant": text("the organisation; alone: all of its sessions, with confirm"),
                "user": text("the user; without a tenant: in every organisation"),
                "session": text("the session's id (sid)"),
                "confirm": text("the organisation again, where all of its sessions end"),
                "reason": text("why; required in production"),
            },
            answers={200: "They have ended on every replica within a second.",
                     202: "They have ended here; repeated until the store accepts it."},
        )  # fmt: skip

    async def published(self, asked: Asked) -> web.Response:
        return answer(self._keys())

    async def listed(self, asked: Asked) -> web.Response:
        tenant, user = asked.tenant(), asked.text("user")
        limit = asked.number("limit", _DEFAULT, 1, MOST)
        if user is not None:
            return await self._one(user, tenant)
        found = islice((each for each in self._records.here() if tenant in (None, each[1])), limit)
        return answer(
            {
                "sessions": [
                    {"user": user, "tenant": org, "session": presented.session, "issued": presented.issued,
                     "touched": touched}
                    for user, org, presented, touched in found
                ],
                "of": _HERE,
            }
        )  # fmt: skip

    async def _one(self, user: str, tenant: str | None) -> web.Response:
        if tenant is None:
            raise Refused("is missing: a user may be in several", field="tenant")
        try:
            record = await self._records.read(user, tenant)
        except StoreError as error:
            raise Refused(f"The store does not answer: {error}", status=503) from None
        if record is None:
            raise Refused("has no session there", field="user", status=404)
        return answer({"sessions": [shown(record)], "of": "the store"})

    async def end(self, asked: Asked) -> web.Response:
        tenant, user, session = asked.tenant(), asked.text("user"), asked.text("session")
        reason = asked.text("reason")
        if reason is None and self._reasons:
            raise Refused("is required in production", field="reason")
        subject = self._subject(asked, tenant, user, session)
        instant = self._clock()
        accepted = await self._ends.ended([subject], instant, why="session-ended", tenant=tenant, told=False)
        self._audit.record(
            "session-ended", asked.actor, result="done" if accepted else "pending", tenant=tenant,
            target={"subjects": [subject], "before": instant}, reason=reason,
        )  # fmt: skip
        told = {"ended": {"tenant": tenant, "user": user, "session": session}, "before": instant, "accepted": accepted}
        return answer(told, status=200 if accepted else 202)

    def _subject(self, asked: Asked, tenant: str | None, user: str | None, session: str | None) -> str:
        if session is not None:
            if user is not None:
                raise Refused("is one too many beside session", field="user")
            for_all_tenants(asked.actor)  # whose session an id names only its token says
            return of_session(session)
        if user is not None:
            return of_user(user) if tenant is None else of_member(tenant, user)
        if tenant is None:
            raise Refused("Say whose: tenant and user, user, session, or tenant.")
        if asked.text("confirm") != tenant:
            raise Refused(f"must be {tenant}: all of its sessions end", field="confirm")
        return of_organisation(tenant)


def shown(record: Any) -> dict[str, Any]:
    return {
        "user": record.user, "tenant": record.tenant, "session": record.session,
        "roles": None if record.roles is None else list(record.roles), "issued": record.issued,
        "expires": record.expires, "created": record.created, "seen": record.seen,
    }  # fmt: skip
