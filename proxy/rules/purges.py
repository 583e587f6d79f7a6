"""Which tags does a write purge besides its feature's list and its own identifier? (SPEC 4)"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from proxy.policy.route import IdentifierShape, Part, TagTemplate
from proxy.rules.document import WriteRoute
from proxy.rules.draft import Draft, Report
from proxy.rules.source import Node, suggestion

_TAG = re.compile(r"([^:{}\s]+)(?::(?:(list)|\{([^:{}\s]+)\}))?")


def purges_of(
    draft: Draft, features: Mapping[str, list[Draft]], reserved: Mapping[str, tuple[str, ...]], report: Report
) -> tuple[TagTemplate, ...]:
    """The templates of one write; mistakes are reported at the tag that holds them."""
    if not isinstance(draft.block, WriteRoute):
        return ()
    found = list(_own_reads(draft, features[draft.feature], reserved[draft.feature]))
    for node, tags in ((draft.node, draft.block.also_purge), (draft.nodes[1], draft.above.also_purge)):
        for index, tag in enumerate(tags):
            templates = _named(tag, draft, features, reserved)
            if isinstance(templates, str):
                _report(report, node.at("also-purge", index), tag, templates)
            else:
                found += templates
    return tuple(dict.fromkeys(found))


def _own_reads(draft: Draft, own: list[Draft], reserved: tuple[str, ...]) -> Iterator[TagTemplate]:
    """Reads of the same feature that this write can name by its parameters, as `POST /jobs/{job-id}/close` can the job.

    What a `**` read keeps cannot be named at all, so there every write purges the whole feature.
    """
    known = set(draft.pattern.parameters)
    for read in own:
        if not read.is_read:
            continue
        if read.shape.rest:
            yield TagTemplate(read.feature, None, read.public)
        elif read.shape != draft.shape and read.shape.parts and known.issuperset(read.named):
            yield TagTemplate(read.feature, replace(read.shape, reserved=reserved), read.public)


def _named(
    tag: str, draft: Draft, features: Mapping[str, list[Draft]], reserved: Mapping[str, tuple[str, ...]]
) -> list[TagTemplate] | str:
    parsed = _TAG.fullmatch(tag)
    if parsed is None:
        return "is not a tag such as search, jobs:{job-id} or jobs:list"
    feature, is_list, parameter = parsed.groups()
    if feature not in features:
        return f"unknown feature{suggestion(feature, features)}"
    own = features[feature]
    public = own[0].public
    if is_list:
        return [TagTemplate(feature, IdentifierShape(reserved=reserved[feature]), public)]
    if parameter is None:
        return [TagTemplate(feature, None, public)]
    if parameter not in draft.pattern.parameters:
        hint = suggestion(parameter, draft.pattern.parameters)
        return f"{{{parameter}}} is no parameter of {draft.pattern.path}{hint}"
    if parameter in draft.tenant_names and not public:
        return f"{{{parameter}}} names the tenant, whose entries alone are purged anyway"
    return _items(feature, parameter, own, public, reserved[feature])


def _items(
    feature: str, parameter: str, own: list[Draft], public: bool, reserved: tuple[str, ...]
) -> list[TagTemplate] | str:
    """The identifiers one value can have there: the item itself, and a collection below the same parameter."""
    parts: list[Part] = []
    for read in own:
        if read.is_read and len(read.shape.parts) == 1:
            part = read.shape.parts[0]
            if not part.prefix:
                parts.append(Part(parameter))
            elif part.parameter == parameter:
                parts.append(part)
    if not parts:
        return f"no read of {feature!r} is identified by {{{parameter}}} alone: name the feature without it"
    return [TagTemplate(feature, IdentifierShape((part,), reserved=reserved), public) for part in dict.fromkeys(parts)]


def _report(report: Report, node: Node, tag: str, message: str) -> None:
    feature = tag.partition(":")[0]
    if report.sound.damaged(f"features.{feature}") and message.startswith(("unknown", "no read")):
        return  # what is missing there has been reported
    if any(earlier.path == node.path for earlier in report.errors):
        return  # a feature's tag is wrong for all of its writes, and told once
    report.error(node, f"also-purge {tag!r}: {message}")


def unpurged(drafts: list[Draft]) -> Iterator[Draft]:
    """The first read of each feature that no write purges, unless it says so itself with `write: []`."""
    purged = {draft.feature for draft in drafts if not draft.is_read}
    for draft in drafts:
        own = draft.block.also_purge if isinstance(draft.block, WriteRoute) else []
        if not draft.is_read:
            purged.update(tag.partition(":")[0] for tag in (*own, *draft.above.also_purge))
    for draft in drafts:
        if draft.is_read and draft.feature not in purged and not draft.above.says("write"):
            purged.add(draft.feature)
            yield draft
