"""How does the dashboard log in? With a token, once; from then on a cookie that no script can read speaks for it."""

from collections.abc import Iterator

from aiohttp import web

from proxy import __version__
from proxy.admin.access import NOBODY, Actor, Denied, Gate, Role
from proxy.admin.asked import Asked
from proxy.admin.audit import Audit
from proxy.admin.cookie import cookie_name
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.problems import Refused, answer
from proxy.admin.sessions import LIFETIME, Sessions

_SEEN = (Role.VIEWER, Role.OPERATOR, Role.INSPECTOR)


class Login:
    """`POST /api/login`, `POST /api/logout` and `GET /api/session`. `reasons`: what changes anything asks for one."""

    def __init__(self, gate: Gate, sessions: Sessions, audit: Audit, *, profile: str, reasons: bool) -> None:
        self._gate = gate
        self._sessions = sessions
        self._audit = audit
        self._profile = profile
        self._reasons = reasons

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "POST", "/api/login", self.login, "Begin a session of the dashboard: its cookie lasts eight hours.",
            document={"token": text("the token, as `sidecache keygen --admin` has made it")}, harmless=True,
            answers={200: "Who it is, and the cookie.", 401: "This token is not known here."},
        )  # fmt: skip
        yield Endpoint(
            "POST", "/api/logout", self.logout, "End the session of this cookie.", document={}, harmless=True
        )
        yield Endpoint(
            "GET", "/api/session", self.session, "Who asks, and what they may do; nobody, where a token is needed.",
            harmless=True,
        )  # fmt: skip

    async def login(self, asked: Asked) -> web.Response:
        token = asked.value("token")
        if not isinstance(token, str) or not token:
            raise Refused("is missing", field="token")
        actor = self._gate.holder(f"Bearer {token}", asked.actor.peer)
        if isinstance(actor, Denied):
            raise Refused("This token is not known here.", status=401)
        if not actor.may(Role.VIEWER):
            raise Refused(f"A {actor.role} has nothing to look at here: a viewer's token is needed.", status=403)
        name = cookie_name(asked.request.host)
        self._sessions.end(asked.request.cookies.get(name, ""))  # this browser's, of which it keeps no cookie
        self._audit.record("login", actor, tenant=actor.tenant)
        made = answer(self._said(actor))
        origin = asked.request.headers.get("Origin", "")
        made.set_cookie(
            name, self._sessions.begin(actor), max_age=int(LIFETIME), path="/",
            httponly=True, samesite="Strict", secure=origin.startswith("https:") or None,
        )  # fmt: skip
        return made

    async def logout(self, asked: Asked) -> web.Response:
        name = cookie_name(asked.request.host)
        actor = self._sessions.end(asked.request.cookies.get(name, ""))
        if actor is not None:
            self._audit.record("logout", actor, tenant=actor.tenant)
        made = answer(self._said(NOBODY))
        made.del_cookie(name, path="/", httponly=True, samesite="Strict")
        return made

    async def session(self, asked: Asked) -> web.Response:
        return answer(self._said(asked.actor))

    def _said(self, actor: Actor) -> dict[str, object]:
        if actor.name == NOBODY.name or not actor.may(Role.VIEWER):
            return {"actor": None, "may": []}
        return {
            "actor": {"name": actor.name, "role": actor.role, "tenant": actor.tenant},
            "may": [role for role in _SEEN if actor.may(role)],
            "profile": self._profile,
            "reasons": self._reasons,
            "version": __version__,
        }
