"""What does each route line of the document say, with the settings of the levels above it?"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from proxy.policy.identity import IdentitySources
from proxy.policy.route import Assertion, CountRule, IdentifierShape, Kind, Route, Scope, TagTemplate
from proxy.rules.document import Count, Document, Feature, ReadRoute, Settings, WriteRoute
from proxy.rules.pattern import Pattern, parse, shape_of
from proxy.rules.source import Node, Problem
from proxy.rules.validate import Validated

# With `ttl: origin`, how long after its freshness a response stands in for an upstream that cannot be reached at all,
# when no `if-error` says otherwise (RFC 9111 4.2.4), in seconds.
UNREACHABLE = 3600.0


@dataclass(slots=True)
class Report:
    """The problems found so far, and what has been taken out of the document because of earlier ones."""

    file: str
    sound: Validated
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, node: Node, message: str) -> None:
        self.errors.append(Problem(self.file, node.line, node.column, "error", node.path, message))

    def warning(self, node: Node, message: str) -> None:
        self.warnings.append(Problem(self.file, node.line, node.column, "warning", node.path, message))


@dataclass(frozen=True, eq=False)
class Draft:
    """One route line on its way to a Route. `levels` and `nodes` go from the narrowest level to the widest."""

    feature: str
    kind: Kind
    pattern: Pattern
    block: ReadRoute | WriteRoute
    above: Feature
    levels: tuple[Settings, ...]
    nodes: tuple[Node, ...]  # of the line, the feature, the defaults
    tenant_names: frozenset[str]  # parameters that name the tenant, by identity.tenant

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def is_read(self) -> bool:
        return self.kind is Kind.READ

    @cached_property
    def scope(self) -> Scope:
        scope: Scope = self.setting("scope")
        return scope

    @property
    def public(self) -> bool:
        return self.scope is Scope.PUBLIC

    @property
    def key_space(self) -> str:
        own = self.block.key_name if isinstance(self.block, ReadRoute) else None
        return own or self.above.key_name or self.feature

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Parameters that equal the tenant, which the key already names."""
        return () if self.public else tuple(name for name in self.pattern.parameters if name in self.tenant_names)

    @cached_property
    def shape(self) -> IdentifierShape:
        """The identifier, without what its key space reserves."""
        return shape_of(self.pattern, self.left_out)

    @property
    def named(self) -> tuple[str, ...]:
        """The parameters in the identifier."""
        return tuple(part.parameter for part in self.shape.parts)

    def setting(self, name: str, levels: tuple[Settings, ...] = ()) -> Any:
        """The value at the narrowest level that says one: route > feature > defaults > built in."""
        level = next((level for level in levels or self.levels if level.says(name)), self.levels[-1])
        return getattr(level, name)

    def place(self, key: str) -> Node:
        """Where the file says this setting."""
        return next((found for node in self.nodes if (found := node.child(key)) is not None), self.node)


def drafts_of(document: Document, tree: Node, identity: IdentitySources, report: Report) -> list[Draft]:
    """Every line that is a route; the others are reported."""
    names = frozenset(source[5:] for source in identity.tenant if source.startswith("path."))
    found = []
    for name, feature in document.features.items():
        drafts = list(_drafts_of_feature(name, feature, document, tree, names, report))
        _check_feature(tree.at("features", name), feature, drafts, report)
        for draft in drafts:
            _check_settings(draft, report)
        found += drafts
    return found


def _drafts_of_feature(
    name: str, feature: Feature, document: Document, tree: Node, tenant_names: frozenset[str], report: Report
) -> Iterator[Draft]:
    above = (tree.at("features", name), tree.at("defaults"))
    blocks: list[tuple[Kind, int, ReadRoute | WriteRoute]] = [
        *((Kind.READ, index, read) for index, read in enumerate(feature.read)),
        *((Kind.WRITE, index, write) for index, write in enumerate(feature.write)),
    ]
    for kind, index, block in blocks:
        node = above[0].at(str(kind), index)
        pattern = parse(block.route, kind)
        if isinstance(pattern, str):
            report.error(node.at("route"), pattern)
            continue
        own = (block,) if isinstance(block, ReadRoute) else ()
        levels = (*own, feature, document.defaults)
        yield Draft(name, kind, pattern, block, feature, levels, (node, *above), tenant_names)


def _check_feature(node: Node, feature: Feature, drafts: list[Draft], report: Report) -> None:
    reads = [draft for draft in drafts if draft.is_read]
    if not (feature.read or feature.write or report.sound.damaged(node.path)):
        report.error(node, "has neither read nor write routes")
    unsaid = next((draft for draft in reads if not _says(draft, "ttl")), None)
    places = ["defaults"] if unsaid is None else ["defaults", *(place.path for place in unsaid.nodes if place.path)]
    if unsaid is not None and not any(map(report.sound.damaged, places)):
        report.error(node, "no ttl: say how long responses are fresh, such as ttl: 15m, or ttl: origin")
    for draft in reads:
        # the writes of a feature purge either every tenant's entries or their own tenant's
        if draft.public is not (draft.setting("scope", draft.levels[1:]) is Scope.PUBLIC):
            report.error(draft.place("scope"), "a feature is public as a whole, or not at all: make it two features")


def _check_settings(draft: Draft, report: Report) -> None:
    """Settings that contradict each other."""
    if not draft.is_read:
        return
    if "*" in draft.setting("vary"):
        report.error(draft.place("vary"), "'*' names no header: a response that varies by everything is never stored")
    credentials = {"authorization", "cookie"}.intersection(map(str.lower, draft.setting("vary")))
    if credentials and draft.scope is not Scope.USER:
        report.error(draft.place("vary"), f"{sorted(credentials)[0]} is the caller's own: it needs scope: user")
    if draft.public and draft.setting("sensitive"):
        report.error(draft.place("sensitive"), "sensitive data cannot have scope: public")
    compared = (draft.setting("assert_") or "").rpartition(" ")[2]
    if compared == "tenant" and draft.public:
        report.error(draft.place("assert"), "a public response has no tenant to compare with")
    if compared == "user" and draft.scope is not Scope.USER:
        report.error(draft.place("assert"), "comparing with the user needs scope: user")


def _says(draft: Draft, name: str) -> bool:
    return any(level.says(name) for level in draft.levels)


def route_of(draft: Draft, reserved: tuple[str, ...], purges: tuple[TagTemplate, ...]) -> Route:
    """The finished route, all but its digest."""
    setting = draft.setting
    ttl = setting("ttl")
    control = setting("client_control")
    query = setting("query")
    settle = draft.block.settle if isinstance(draft.block, WriteRoute) and draft.block.says("settle") else None
    return Route(
        feature=draft.feature,
        kind=draft.kind,
        methods=draft.pattern.methods,
        pattern=draft.pattern.path,
        line=draft.node.line,
        where=draft.node.path,
        identifier=replace(draft.shape, reserved=reserved),
        tenant_parameters=draft.left_out,
        key_name=draft.key_space if draft.key_space != draft.feature else "",
        scope=draft.scope,
        query=None if query is None else frozenset(query),
        ignore_query=tuple(setting("ignore_query")),
        ignore_headers=frozenset(map(str.lower, setting("ignore_headers"))),
        vary=tuple(sorted(set(map(str.lower, setting("vary"))))),
        require=frozenset(name for level in draft.levels for name in level.require),
        ttl=ttl,
        grace=setting("grace"),
        if_error=setting("if_error"),
        if_unreachable=UNREACHABLE if ttl is None and not _says(draft, "if_error") else 0.0,
        negative={int(status): duration for status, duration in setting("negative").items()},
        honour=setting("honour"),
        client_control=control == "honour" if control is not None else ttl is None,
        client_cache=setting("client_cache"),
        critical=setting("critical"),
        strict=setting("consistency") == "strict",
        max_body=setting("max_body"),
        compress=setting("compress"),
        gzip=setting("codec") == "gzip",
        sensitive=setting("sensitive"),
        encrypt=setting("encrypt") == "all",
        quota=setting("quota"),
        assertion=_assertion(setting("assert_")),
        purges=purges,
        settle=settle if settle is not None else setting("settle"),
        count=_count_rule(draft.block.count),
    )


def _count_rule(count: Count | None) -> CountRule | None:
    if count is None:
        return None
    return CountRule(count.name, _reference(count.by), "user" if count.unique == "user" else _reference(count.unique))


def _reference(text: str | None) -> str | None:
    """A path parameter may be named alone."""
    return text if text is None or "." in text else f"path.{text}"


def _assertion(text: str | None) -> Assertion | None:
    if text is None:
        return None
    path, _, equals = text.partition(" == ")
    return Assertion(tuple(path.split(".")[1:]), equals)
