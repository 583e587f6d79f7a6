"""Which tags does a purge mean? Tags, keys, a path, a feature, a tenant or everything, as tags by space; pure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from proxy.admin.asked import Asked, for_all_tenants
from proxy.admin.problems import Refused, shown
from proxy.policy.entry import Entry
from proxy.policy.identity import Identity
from proxy.policy.invalidation import EVERYTHING, SHARED, Purge
from proxy.policy.key import Key, Keyring, derive
from proxy.policy.message import Request
from proxy.policy.route import Kind, Scope
from proxy.rules.compile import RuleSet

KINDS = ("tags", "keys", "path", "feature", "tenant", "everything")

_ITEM = re.compile(r"[A-Za-z0-9_~-]{1,64}", re.ASCII)
_GROUP = re.compile(r"@:[ -~]{1,200}", re.ASCII)
_ANYBODY = frozenset[str]()

Look = Callable[[str], Entry | None]


@dataclass(frozen=True, slots=True)
class Filter:
    """What is to be purged. `confirm`: what must be repeated before so much goes at once; None: nothing."""

    purge: Purge
    kind: str
    confirm: str | None = None


def read_filter(asked: Asked, rules: RuleSet, look: Look, keys: Keyring) -> Filter:
    """The filter of a request; Refused names the field that is wrong."""
    named = [kind for kind in KINDS if kind in asked and kind != "tenant"]
    if len(named) > 1:
        raise Refused(f"is one too many beside {named[0]}: purge one after the other", field=named[1])
    kind = named[0] if named else "tenant"
    tenant = asked.tenant()
    match kind:
        case "tags":
            return Filter(tagged(asked.texts("tags"), tenant, rules, "tags"), kind)
        case "keys":
            return Filter(_of_keys(asked, look), kind)
        case "path":
            return Filter(_of_path(asked.required("path"), tenant, rules, keys), kind)
        case "feature":
            feature = asked.required("feature")
            public = is_public(rules, feature, "feature")
            if tenant is None or public:
                for_all_tenants(asked.actor)
            return Filter({SHARED if public or tenant is None else tenant: (feature,)}, kind, feature)
        case "everything":
            if not asked.flag("everything"):
                raise Refused("is true or absent", field="everything")
            for_all_tenants(asked.actor)
            if tenant is not None:
                raise Refused("is of all tenants; name the tenant alone", field="everything")
            return Filter({SHARED: (EVERYTHING,)}, kind, "everything")
        case _:
            if tenant is None:
                raise Refused(f"Say what to purge: one of {', '.join(KINDS)}.")
            return Filter({tenant: (EVERYTHING,)}, kind, tenant)


def tagged(tags: Iterable[str], tenant: str | None, rules: RuleSet, field: str) -> Purge:
    """Tags as `feature`, `feature:identifier` or `@:group`. Those of public features are nobody's own."""
    purge: dict[str, dict[str, None]] = {}
    for tag in tags:
        if tag.startswith("@"):
            if _GROUP.fullmatch(tag) is None:
                raise Refused(f"{shown(tag)} is not a group such as @:jobs", field=field)
            purge.setdefault(SHARED if tenant is None else tenant, {})[tag] = None
            continue
        feature, colon, item = tag.partition(":")
        if colon and _ITEM.fullmatch(item) is None:
            raise Refused(f"{shown(tag)} is not a tag such as jobs or jobs:77", field=field)
        public = is_public(rules, feature, field)
        if not public and tenant is None:
            raise Refused(f"is missing: {shown(tag)} is of one tenant", field=field.replace("tags", "tenant"))
        # identifiers are folded in tags (policy.key); a hash is not
        folded = item if item.startswith("h-") else item.lower()
        purge.setdefault(SHARED if public else tenant or "", {})[f"{feature}{colon}{folded}"] = None
    return {space: tuple(found) for space, found in purge.items()}


def is_public(rules: RuleSet, feature: str, field: str) -> bool:
    """Whether all tenants share this feature's entries; Refused where the rules know no such feature."""
    routes = [route for route in rules.routes if route.feature == feature]
    if not routes:
        known = sorted({route.feature for route in rules.routes})
        near = get_close_matches(feature, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}" if known else ""
        raise Refused(f"{shown(feature)} is no feature of the rules{hint}", field=field, status=404)
    return all(route.scope is Scope.PUBLIC for route in routes)


def _of_keys(asked: Asked, look: Look) -> Purge:
    purge: dict[str, dict[str, None]] = {}
    for key in asked.texts("keys"):
        entry = look(key)
        own = asked.actor.tenant
        if entry is None or (own is not None and entry.tenant != own):
            raise Refused(
                f"{shown(key)} is not in the first tier of this process: purge its path, or its tags",
                field="keys", status=404,
            )  # fmt: skip
        purge.setdefault(entry.tenant, {}).update(dict.fromkeys(entry.tags[1:2] or entry.tags))
    return {space: tuple(found) for space, found in purge.items()}


def _of_path(path: str, tenant: str | None, rules: RuleSet, keys: Keyring) -> Purge:
    key = key_of_path(path, tenant, rules, keys)
    return {key.space: key.tags[1:]}


def key_of_path(path: str, tenant: str | None, rules: RuleSet, keys: Keyring) -> Key:
    """The key of this path's GET for nobody in particular: its space and its tags are those of everybody's."""
    if not path.startswith("/") or not path.isascii() or "#" in path or " " in path:
        raise Refused(f"{shown(path)} is not a path such as /api/jobs/77", field="path")
    request = Request("GET", path)
    match = rules.match("GET", request.path)
    if match is None or match.route.kind is not Kind.READ:
        raise Refused(f"{shown(path)}: no read route of the rules matches it", field="path", status=404)
    if tenant is None and match.route.scope is not Scope.PUBLIC:
        raise Refused(f"is missing: {match.route.feature} is kept for each tenant", field="tenant")
    key = derive(match, request, Identity(tenant, "-", _ANYBODY), keys, None)
    if not isinstance(key, Key):
        raise Refused(f"{shown(path)} has no key: {key}", field="path")
    return key
