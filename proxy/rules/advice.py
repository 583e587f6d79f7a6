"""Which edit of rules.yaml answers this reason? One line to put there, where an edit is what helps."""

from proxy.policy.outcome import Reason

_EDITS: dict[Reason, str] = {
    Reason.EXPIRED: "features.{feature}.ttl: a longer one, if every write is known to the rules",
    Reason.PURGED: "features.{feature}: `also-purge` of some write names it; purge an item instead of the feature?",
    Reason.VARIANT: "features.{feature}.ignore-headers: [HEADER]   # one that cannot change the answer",
    Reason.REQUEST_CONTROL: "features.{feature}.client-control: ignore",
    Reason.NO_STORE: "features.{feature}.honour: false   # only if the framework says no-store on everything",
    Reason.PRIVATE: "features.{feature}.scope: user",
    Reason.VARY_CREDENTIALS: "features.{feature}.scope: user",
    Reason.NOT_FRESH: "features.{feature}.ttl: 1m   # instead of origin",
    Reason.AUTHORIZATION: "features.{feature}.scope: tenant",
    Reason.STATUS: "features.{feature}.negative: {{404: 30s}}",
    Reason.TOO_LARGE: "features.{feature}.max-body: 4MiB   # if memory allows",
    Reason.QUOTA: "features.{feature}.quota: a larger one, or a shorter ttl",
    Reason.AMBIGUOUS_QUERY: "features.{feature}.query: [NAMES]   # the parameters that count",
    Reason.NO_TENANT: "identity.tenant: [jwt.CLAIM]   # the claim that names the organisation",
    Reason.NO_ROLES: "identity.roles: jwt.CLAIM",
    Reason.NO_USER: "identity.user: jwt.CLAIM",
}


def advise(reason: Reason, route: str, feature: str) -> str | None:
    """The edit for a route (`GET /api/jobs/{id}`) of a feature ("" when no rule matches); None: no edit helps."""
    method = route.partition(" ")[0]
    if reason is Reason.NO_RULE:
        return f'features.NAME.read: ["{route}"]   # if it may be cached' if method in ("GET", "QUERY") else None
    if reason is Reason.UNMATCHED_WRITE:
        return f'features.{feature or "NAME"}.write: ["{route}"]'
    edit = _EDITS.get(reason)
    return None if edit is None else edit.format(feature=feature or "NAME")
