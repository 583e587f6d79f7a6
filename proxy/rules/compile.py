"""What do the rules mean? A text becomes an immutable RuleSet, or all of its mistakes at once."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256

from proxy.policy.identity import CookieSource, IdentitySources
from proxy.policy.route import Kind, Match, Route
from proxy.policy.session import SessionRules
from proxy.rules.document import Cookie, Document, Scenario
from proxy.rules.draft import Draft, Report, drafts_of, route_of
from proxy.rules.effects import Effects, ReportRule, effects_of, published, reports_of
from proxy.rules.keyspace import prove_distinct, reserved_prefixes
from proxy.rules.pattern import parse
from proxy.rules.purges import purges_of, unpurged
from proxy.rules.routes import Routes
from proxy.rules.session import session_of
from proxy.rules.source import Node, Problem, load
from proxy.rules.validate import Validated, merge, validate
from proxy.rules.widening import widening

PROFILES = ("development", "staging", "production")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A text that is no rules file: every cause once, in the order of the text."""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RuleSet:
    """The rules of one profile. Never changes: a reload makes another."""

    file: str
    routes: tuple[Route, ...]
    identity: IdentitySources
    digest: str  # of the effective document, tests aside
    warnings: tuple[Problem, ...]
    scenarios: tuple[tuple[Scenario, int], ...]  # the inline tests, and their lines
    effects: Mapping[str, Effects]  # by Route.where: what `count` and `publish` say
    match: Callable[[str, str], Match | None]  # (method, raw path without its query)
    below: Callable[[str, str], Route | None]  # (method, folder): the one route of all that is directly in it
    session: SessionRules
    reports: Mapping[str, ReportRule] = field(default_factory=dict)  # by name: what is counted
    reports_require: frozenset[str] = frozenset()  # the permissions that it takes to read them
    events: frozenset[str] = frozenset()  # the names of all that may be published

    def __str__(self) -> str:
        return f"rules {self.digest}, {len(self.routes)} routes"


def compile_rules(
    text: str,
    *,
    file: str = "rules.yaml",
    profile: str = "production",
    has_encryption_key: bool = False,
    must_encrypt: bool = False,
) -> RuleSet | Rejected:
    """The rules for one profile. The mistakes of every profile count, whichever is active.

    Rules that encrypt without a key are a warning; with `must_encrypt` they are refused: the process that will serve
    knows whether it has one, a check elsewhere does not.
    """
    root, problems = load(text, file)
    if root is None:
        return Rejected(_in_order(problems))
    sound = validate(root, file)
    problems += sound.problems
    base = _Effective(file, sound, sound.root, has_encryption_key)
    environments = sound.root.at("environments")
    compiled = dict.fromkeys(PROFILES, base)
    for name in PROFILES:
        overlay = environments.child(name)
        if overlay is not None:
            compiled[name] = _Effective(file, sound, merge(sound.root, overlay), has_encryption_key)
    for name, effective in compiled.items():
        problems += effective.report.errors
        if name != "development":
            problems += widening(base.drafts, effective.drafts, base.tree, effective.tree, file)
    if must_encrypt and not has_encryption_key:
        problems += compiled[profile].unkeyed("error")
    if problems:
        # warnings wait: many of them would only echo an error
        return Rejected(_in_order(problems))
    return compiled[profile].rule_set()


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems)))


class _Effective:
    """The document as one profile sees it, on its way to a RuleSet."""

    def __init__(self, file: str, sound: Validated, tree: Node, has_encryption_key: bool) -> None:
        self.tree = tree
        self.document = Document.read(self.tree.plain())
        self.report = Report(file, sound)
        self.identity = _identity(self.document, self.tree, self.report)
        self.drafts = drafts_of(self.document, self.tree, self.identity, self.report)
        prove_distinct(self.drafts, self.report)
        self.effects = effects_of(self.drafts, self.report)
        self.reports = reports_of(self.drafts, self.report)
        self.session = session_of(self.document, self.tree, self.drafts, self.identity, self.report)
        _check_tests(self.document, self.tree, self.report)
        self.routes = tuple(self._compiled())
        for place, message in _warnings(self.drafts):
            self.report.warning(place, message)
        if not has_encryption_key:
            self.report.warnings += self.unkeyed("warning")
        for draft in unpurged(self.drafts):
            self.report.warning(draft.nodes[1], "read without a write: a change is seen when the ttl ends")

    def unkeyed(self, severity: str) -> list[Problem]:
        """Where the rules ask for encryption, which needs a key."""
        places = [
            (draft.place("sensitive"), "sensitive")
            if draft.setting("sensitive")
            else (draft.place("encrypt"), "encrypt: all")
            for draft in self.drafts
            if draft.is_read and (draft.setting("sensitive") or draft.setting("encrypt") == "all")
        ]
        return [
            Problem(self.report.file, place.line, place.column, severity, place.path, f"{what}{_UNKEYED}")
            for place, what in places
        ]

    def _compiled(self) -> Iterator[Route]:
        reserved = reserved_prefixes(self.drafts)
        features: dict[str, list[Draft]] = {}
        for draft in self.drafts:
            features.setdefault(draft.feature, []).append(draft)
        for draft in self.drafts:
            route = route_of(draft, reserved[draft.feature], purges_of(draft, features, reserved, self.report))
            yield replace(route, digest=_digest(route, self.identity))

    def rule_set(self) -> RuleSet:
        effective = self.tree.plain()
        effective.pop("tests", None)
        effective.pop("environments", None)
        canonical = json.dumps(effective, sort_keys=True, separators=(",", ":"))
        tests, routes = self.tree.at("tests"), Routes(self.routes)
        return RuleSet(
            file=self.report.file,
            routes=self.routes,
            identity=self.identity,
            digest=sha256(canonical.encode()).hexdigest()[
                :32
            ],  # one that is accepted must be the one that was looked at
            warnings=_in_order(self.report.warnings),
            scenarios=tuple((test, tests.at(index).line) for index, test in enumerate(self.document.tests)),
            effects=self.effects,
            match=routes.match,
            below=routes.below,
            session=self.session,
            reports=self.reports,
            reports_require=frozenset(self.document.reports.require),
            events=published(self.effects.values()) | frozenset(self.document.events),
        )


def _identity(document: Document, tree: Node, report: Report) -> IdentitySources:
    block = document.identity
    node = tree.at("identity")
    for name, source in (("user", block.user), ("roles", block.roles), ("session", block.session)):
        if source.startswith("path."):
            report.error(node.at(name), "a path can only contradict, never establish: name a jwt or header source")
    if not any(source.startswith(("jwt.", "header.")) for source in block.tenant):
        report.error(node.at("tenant"), "at least one jwt or header source must establish the tenant")
    return IdentitySources(
        tuple(map(_lower_header, block.tenant)), _lower_header(block.user), _lower_header(block.roles),
        block.session if block.session.startswith("jwt.") else None,
        _cookie(block.cookie, node.at("cookie"), report) if block.cookie is not None else None,
    )  # fmt: skip


def _cookie(block: Cookie, node: Node, report: Report) -> CookieSource | None:
    pattern = parse(block.resolve, Kind.READ)
    if isinstance(pattern, str):
        report.error(node.at("resolve"), pattern)
        return None
    if pattern.methods != ("GET",) or pattern.parameters or "**" in pattern.path:
        report.error(node.at("resolve"), "must be one GET without parameters")
    if not 1 <= block.every <= 300:
        report.error(node.at("every"), "is from 1s to 5m: so long a cookie that was refused elsewhere still counts")
    return CookieSource(block.name, pattern.path, block.every)


_REQUEST = re.compile(r"[A-Z]{1,20} /[!-~]*")


def _check_tests(document: Document, tree: Node, report: Report) -> None:
    for index, test in enumerate(document.tests):
        node = tree.at("tests", index)
        for key, line in (("request", test.request), ("same-key-as", test.expect.same_key_as)):
            if line is not None and _REQUEST.fullmatch(line) is None:
                place = node.at("request") if key == "request" else node.at("expect", key)
                report.error(place, f"{line[:80]!r} is not a request such as GET /api/jobs/77?page=2")
        if not test.expect.model_fields_set and not report.sound.damaged(node.at("expect").path):
            report.error(node.at("expect"), "expects nothing: name a key, a ttl, a reason, ...")


def _lower_header(source: str) -> str:
    return source.lower() if source.startswith("header.") else source


def _digest(route: Route, identity: IdentitySources) -> bytes:
    """What decides who may be served which bytes, for how long: not lines, sizes or what is asked on every hit."""
    settings = (
        3,  # the version of this list
        route.methods, route.pattern, route.identifier, route.key_name, route.scope, identity,
        route.query and sorted(route.query), route.ignore_query, sorted(route.ignore_headers), route.vary,
        route.ttl, route.grace, route.if_error, route.if_unreachable, sorted(route.negative.items()),
        route.honour, route.sensitive, route.encrypt, str(route.assertion),
        *((identity.cookie,) if identity.cookie is not None else ()),
    )  # fmt: skip
    return blake2b(repr(settings).encode(), digest_size=8).digest()


_PERSONAL = frozenset({"me", "profile", "account"})


_UNKEYED = " without an encryption key: set SIDECACHE_ENCRYPTION_KEYS (`sidecache keygen` makes one)"


def _warnings(drafts: list[Draft]) -> Iterator[tuple[Node, str]]:
    for draft in drafts:
        if draft.is_read and draft.scope != "user" and _PERSONAL.intersection(draft.pattern.segments):
            yield draft.node, f"{draft.pattern} looks personal and is shared by scope {draft.scope}: scope: user?"
        if draft.is_read and not draft.setting("honour"):
            yield draft.place("honour"), "honour: false stores what the upstream marks as no-store or private"
        if draft.pattern.path.startswith("/.sidecache/"):
            yield draft.node, f"shadowed: sidecache answers {draft.pattern.path} itself"
