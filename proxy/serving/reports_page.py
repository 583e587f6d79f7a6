"""What was counted? `GET /.sidecache/reports` and `/reports/{name}`: of the caller's own tenant, and of no other."""

from collections.abc import Callable
from difflib import get_close_matches

import orjson

from proxy.analytics.questions import Wrong, asked
from proxy.analytics.reports import Reports
from proxy.analytics.shown import document, listing, listing_table, table
from proxy.errors import StoreError
from proxy.identity.sources import IdentityResolver
from proxy.policy.fields import list_members
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.rules.compile import RuleSet
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body

PLACE = "reports"
_JSON, _CSV = "application/json", "text/csv"
_OUTCOME = Outcome(Reason.RESERVED)
# For a page that asks every second; whoever is somebody else, or wants another form, asks anew.
_KEPT = (("Cache-Control", "private, max-age=10"), ("Vary", "Authorization, Accept"))
_SAFE = ("X-Content-Type-Options", "nosniff")
_FORBIDDEN = {
    Reason.NO_TENANT: "The token names no organisation.",
    Reason.TENANT_CONFLICT: "The token and the request name different organisations.",
}
_RETRY = ("Retry-After", "5")


class ReportsPage:
    """`prefix` is where it is, as clients write it."""

    def __init__(
        self,
        reports: Reports,
        identity: IdentityResolver,
        rules: Callable[[], RuleSet],
        clock: Callable[[], float],
        prefix: str,
    ) -> None:
        self._reports = reports
        self._identity = identity
        self._rules = rules
        self._clock = clock
        self._place = f"{prefix}/{PLACE}"

    async def __call__(self, request: Request, body: Body) -> Reply:
        rules = self._rules()
        tenant = await self._tenant(request, rules)
        if isinstance(tenant, Reply):
            return tenant
        as_csv = _prefers_csv(request.fields.get("accept") or "")
        name = request.path.removeprefix(self._place).removeprefix("/")
        if not name:
            if request.query:
                return _refused(400, "The list of reports takes no parameters.")
            found = rules.reports.values()
            return _shown(listing_table(found), "reports") if as_csv else _json(listing(found))
        report = rules.reports.get(name)
        if report is None:
            return _refused(404, _no_report(name, rules, self._place))
        question = asked(request.query or "", report, self._clock())
        if isinstance(question, Wrong):
            return _refused(400, f"{question.field}: {question.detail}.", field=question.field)
        try:
            answer = await self._reports.answer(tenant, question)
        except StoreError:
            return _refused(503, "The store does not answer.", _RETRY)
        return _shown(table(answer), name) if as_csv else _json(document(answer))

    async def _tenant(self, request: Request, rules: RuleSet) -> str | Reply:
        """Whose numbers they are: by the token, whatever else the request says."""
        who = await self._identity.resolve(request, {}, rules.identity, self._clock())
        if isinstance(who, Reason):
            return _nobody(who)
        if who.tenant is None:
            return _refused(403, _FORBIDDEN[Reason.NO_TENANT])
        missing = rules.reports_require - (who.roles or frozenset())
        if missing:
            return _refused(403, f"Reports take the permission {', '.join(sorted(missing))}.")
        return who.tenant


def _nobody(why: Reason) -> Reply:
    if why in _FORBIDDEN:
        return _refused(403, _FORBIDDEN[why])
    if why is Reason.KEYS_UNAVAILABLE:
        return _refused(503, "The keys that tokens are checked with are not available.", _RETRY)
    challenge = "Bearer" if why is Reason.NO_CREDENTIALS else 'Bearer error="invalid_token"'
    return _refused(401, "Reports are for those who are signed in.", ("WWW-Authenticate", challenge))


def _no_report(name: str, rules: RuleSet, place: str) -> str:
    near = get_close_matches(name[:64], rules.reports, n=1)
    return f"No report has this name{f' (did you mean {near[0]!r}?)' if near else ''}: {place} lists them."


def _prefers_csv(accept: str) -> bool:
    """Whether CSV is asked for more than JSON is. Whoever takes anything gets JSON."""
    weights = dict(map(_weighed, list_members(accept.lower())))
    return weights.get(_CSV, 0.0) > max(weights.get(_JSON, 0.0), weights.get("application/*", 0.0))


def _weighed(member: str) -> tuple[str, float]:
    kind, *parameters = (part.strip() for part in member.split(";"))
    text = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return kind, float(text)
    except ValueError:
        return kind, 0.0


def _refused(status: int, detail: str, *extra: tuple[str, str], field: str | None = None) -> Reply:
    fields, body = problem(status, detail, *extra)
    if field is not None:
        body = orjson.dumps(orjson.loads(body) | {"field": field})
    return Reply.own(status, fields, body, _OUTCOME)


def _json(content: object) -> Reply:
    fields = Fields((("Content-Type", _JSON), *_KEPT, _SAFE))
    return Reply.own(200, fields, orjson.dumps(content), _OUTCOME)


def _shown(text: str, name: str) -> Reply:
    kind = ("Content-Type", f"{_CSV}; charset=utf-8; header=present")
    file = ("Content-Disposition", f'attachment; filename="{name}.csv"')
    return Reply.own(200, Fields((kind, file, *_KEPT, _SAFE)), text.encode(), _OUTCOME)
