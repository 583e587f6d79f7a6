"""What is the key of this request, and which tags can purge it? (SPEC 4; DESIGN 3.2, 3.6)

    tenant:{org}:{key-name}:{identifier}[.q-hash][.r-hash|.u-hash][.v-hash]

`q` hashes the query parameters that count and the body of a POST read, `r`/`u` the caller's roles or user, `v` the
request headers that make a variant. Every hash is keyed BLAKE2b over length-prefixed parts, 128 bits, 22 characters:
nobody without the name key can find two values that meet. Parts are separated by `:`, `.` and `~`, which no
unhashed value contains, so two different requests never make one key.
"""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.policy.identity import Identity
from proxy.policy.message import Request
from proxy.policy.outcome import Reason
from proxy.policy.route import IdentifierShape, Match, Route, Scope, TagTemplate
from proxy.policy.search import Variance, decoded
from proxy.policy.variant import normalised, splitting_headers

LIST = "list"
MAX_KEY = 249
MAX_VALUE = 64
MAX_KEYED_BODY = 64 << 10
MAX_PARAMETERS = 256  # upstreams stop reading somewhere, too

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUFFIX = re.compile(r"(?<=[^.])\..*", re.DOTALL)  # of a segment, which is never nothing else


class Key(NamedTuple):
    """Where a response to this request is kept, and what can invalidate it there. A tuple: every read makes one."""

    primary: str
    variant: str  # "" or ".v-hash"
    space: str  # the tenant, "" for public entries
    tags: tuple[str, ...]
    request: str  # the canonical request: what every entry under this key answers, checked on every read
    target: str  # what a fill asks the upstream: the target without the parameters that do not count
    split_by: tuple[str, ...] = ()  # the header names behind `variant`
    search: Variance | None = None  # by whose word parameters were left out: the origin's (No-Vary-Search), or nobody's

    @property
    def full(self) -> str:
        return self.primary + self.variant

    def __str__(self) -> str:
        return self.full


class Keyring:
    """The secret behind every hash in a name (SIDECACHE_NAME_KEY): 16 to 64 bytes."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if not 16 <= len(secret) <= 64:
            raise ValueError("the name key must have 16 to 64 bytes")
        self._secret = secret

    def digest(self, *parts: str | bytes) -> str:
        """22 URL-safe characters (128 bits) over the parts, each prefixed by its length."""
        state = blake2b(key=self._secret, digest_size=16)
        for part in parts:
            # surrogatepass: claims are JSON and may hold lone surrogates; no two strings share an encoding
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            state.update(len(data).to_bytes(8, "big"))
            state.update(data)
        return urlsafe_b64encode(state.digest())[:22].decode()


@dataclass(frozen=True, slots=True)
class Frame:
    """What of a caller's keys on one route does not hang on the target."""

    prefix: str  # "tenant:{org}:{key-name}:"
    scope: str  # "", ".r-hash" or ".u-hash"
    variant: str
    space: str
    split_by: tuple[str, ...]


def frame(route: Route, request: Request, identity: Identity | None, keys: Keyring, home: str | None) -> Frame | Reason:
    """As `derive`; nothing here reads the request's target."""
    scope = _scope_part(route, identity, keys)
    if isinstance(scope, Reason):
        return scope
    space = identity.tenant if identity is not None and route.scope is not Scope.PUBLIC else None
    split = splitting_headers(route, request, home)
    return Frame(
        prefix=f"{f'tenant:{space}' if space is not None else 'shared'}:{route.key_name or route.feature}:",
        scope=scope,
        variant=_variant_part(split, keys),
        space=space or "",
        split_by=tuple([header for header, _ in split]),
    )


def derive(
    match: Match,
    request: Request,
    identity: Identity | None,
    keys: Keyring,
    home: str | None,
    said: Variance | None = None,
    framed: Frame | Reason | None = None,
) -> Key | Reason:
    """The key of a read, or why it has none. `identity` is None when nobody is verified (public routes need nobody).

    `home` is the one host name served, which then makes no variant; None when every Host is a variant of its own.
    `said`: which query parameters the origin says matter; then it is the key of a response that says so. `framed`: the
    `frame` of these, where it is known.
    """
    route = match.route
    if framed is None:
        framed = frame(route, request, identity, keys, home)
    if isinstance(framed, Reason):
        return framed
    content = _content_part(route, request, keys, said)
    if isinstance(content, Reason):
        return content
    hashed, canonical, target = content
    path = request.path
    name = identifier(route.identifier, route.feature, match.parameters, path, keys)
    return Key(
        f"{framed.prefix}{name}{hashed}{framed.scope}",
        framed.variant,
        framed.space,
        (route.feature, f"{route.feature}:{_tag_name(route, name, match.parameters, path, keys)}"),
        canonical,
        target,
        framed.split_by,
        said,
    )


def plainly(match: Match, path: str, framed: Frame, keys: Keyring) -> Key:
    """What `derive` gives for a GET of a path without a query, of which there is one spelling only."""
    route = match.route
    name = identifier(route.identifier, route.feature, match.parameters, path, keys)
    return Key(
        f"{framed.prefix}{name}{framed.scope}", framed.variant, framed.space,
        (route.feature, f"{route.feature}:{name}"), f"GET {path}", path, framed.split_by,
    )  # fmt: skip


class Items(NamedTuple):
    """What the keys of one caller's items have in common, on a route with one parameter."""

    route: Route
    framed: Frame
    prefix: str
    longest: int
    barred: tuple[str, ...]  # beginnings of values that are hashed, or may be


def items(route: Route, framed: Frame) -> Items | None:
    shape = route.identifier
    if shape.rest or len(shape.parts) != 1:
        return None
    prefix = f"{shape.parts[0].prefix}-" if shape.parts[0].prefix else ""
    barred = ("h-",) if prefix else ("h-", LIST, *shape.reserved)
    return Items(route, framed, prefix, MAX_VALUE - len(prefix), barred)


def item(of: Items, value: str, path: str) -> Key | None:
    """What `plainly` gives for a path that ends in this value of the parameter. None: ask it."""
    if len(value) > of.longest or value.startswith(of.barred):
        return None
    framed, feature, name = of.framed, of.route.feature, of.prefix + value
    return Key(
        f"{framed.prefix}{name}{framed.scope}", framed.variant, framed.space, (feature, f"{feature}:{name}"),
        f"GET {path}", path, framed.split_by,
    )  # fmt: skip


def with_selected(
    key: Key, request: Request, names: Iterable[str], route: Route, home: str | None, keys: Keyring
) -> Key:
    """The second key, for a response whose Vary (or whose media type) selects by fields the first key leaves out."""
    selected = [(name, normalised(name, request.fields)) for name in sorted(names)]
    split = sorted({*splitting_headers(route, request, home), *selected})
    return key._replace(variant=_variant_part(split, keys), split_by=tuple(header for header, _ in split))


def purge_tags(match: Match, request: Request, keys: Keyring) -> dict[bool, tuple[str, ...]]:
    """What a matched write purges: tags by "is the feature public". The list, each parent collection, and the item."""
    route = match.route
    shape = route.identifier
    public = route.scope is Scope.PUBLIC
    meant = _decoded(match.parameters, request.path)
    bare = _without_suffixes(*meant)
    tags: dict[bool, list[str]] = {public: [f"{route.feature}:{LIST}"]}
    for parameters, path in (meant,) if bare == meant else (meant, bare):
        names = [identifier(shape, route.feature, parameters, path, keys)]
        for length in range(1, len(shape.parts)):
            parent = IdentifierShape(shape.parts[:length], reserved=shape.reserved)
            names.append(identifier(parent, route.feature, parameters, path, keys))
        tags[public] += [f"{route.feature}:{name}" for name in names]
        for template in route.purges:
            tags.setdefault(template.public, []).append(_tag(template, parameters, path, keys))
    return {shared: tuple(dict.fromkeys(found)) for shared, found in tags.items()}


def _tag(template: TagTemplate, parameters: Mapping[str, str], path: str, keys: Keyring) -> str:
    if template.identifier is None:
        return template.feature
    return f"{template.feature}:{identifier(template.identifier, template.feature, parameters, path, keys)}"


def _tag_name(route: Route, name: str, parameters: Mapping[str, str], path: str, keys: Keyring) -> str:
    """The identifier as purges know it: `%7C` and `|`, `%c3` and `%C3` are different keys of one resource.

    So may be two spellings of a UUID: databases compare them without case. To some frameworks `77.json` is 77 in a
    format; what a plain shared cache has for it is not (`invalidation`).
    """
    if "%" not in path and "." not in path and path == path.lower():
        return name
    meant = _decoded(parameters, path)
    if route.ttl is not None or route.scope is not Scope.PUBLIC:
        meant = _without_suffixes(*meant)
    return identifier(route.identifier, route.feature, *meant, keys)


def _decoded(parameters: Mapping[str, str], path: str) -> tuple[Mapping[str, str], str]:
    return {name: _folded(value) for name, value in parameters.items()}, _folded(path)


def _without_suffixes(parameters: Mapping[str, str], path: str) -> tuple[Mapping[str, str], str]:
    return {name: _SUFFIX.sub("", value) for name, value in parameters.items()}, without_suffix(path)


def without_suffix(path: str) -> str:
    """`/api/jobs/77` for `/api/jobs/77.json`."""
    folder, slash, last = path.rpartition("/")
    return folder + slash + _SUFFIX.sub("", last)


def _folded(text: str) -> str:
    decoded = unquote_to_bytes(text.encode("latin-1", "replace")).decode("utf-8", "replace") if "%" in text else text
    return decoded.lower()


def identifier(shape: IdentifierShape, feature: str, parameters: Mapping[str, str], path: str, keys: Keyring) -> str:
    """`list`, `77`, `job-77`, `job-77~5` or `h-` and a hash, at most 64 characters."""
    if shape.rest:
        return "h-" + keys.digest("rest", feature, path)
    if not shape.parts:
        return LIST
    rendered = []
    for part in shape.parts:
        value = parameters[part.parameter]
        if not _is_plain(value) or (not part.prefix and _is_reserved(value, shape.reserved)):
            value = "h-" + keys.digest("value", feature, part.prefix, value)
        rendered.append(f"{part.prefix}-{value}" if part.prefix else value)
    name = "~".join(rendered)
    return name if len(name) <= MAX_VALUE else "h-" + keys.digest("parts", feature, *rendered)


def _is_plain(value: str) -> bool:
    # fullmatch: `$` would accept a trailing newline
    return _PLAIN.fullmatch(value) is not None and not value.startswith("h-")


def _is_reserved(value: str, prefixes: tuple[str, ...]) -> bool:
    return value == LIST or value.startswith(prefixes)


def _scope_part(route: Route, identity: Identity | None, keys: Keyring) -> str | Reason:
    if route.scope is Scope.PUBLIC:
        return ""
    if identity is None or identity.tenant is None or _PLAIN.fullmatch(identity.tenant) is None:
        return Reason.NO_TENANT
    if route.scope is Scope.ROLE:
        if identity.roles is None:
            return Reason.NO_ROLES
        return ".r-" + keys.digest("roles", identity.tenant, *sorted(identity.roles))
    if route.scope is Scope.USER:
        if identity.user is None:
            return Reason.NO_USER
        return ".u-" + keys.digest("user", identity.tenant, identity.user)
    return ""


def _content_part(
    route: Route, request: Request, keys: Keyring, said: Variance | None
) -> tuple[str, str, str] | Reason:
    """The `.q-` part, the canonical request and the target of a fill: only what is in the key is sent upstream."""
    if (request.query or "").count("&") >= MAX_PARAMETERS:
        return Reason.AMBIGUOUS_QUERY
    kept, dropped = counted_query(route, request.query)
    if dropped and ";" in (request.query or ""):
        # an upstream that splits at `;` would see parameters that we would have dropped
        return Reason.AMBIGUOUS_QUERY
    target = request.target
    if dropped or target.endswith("?"):
        target = request.path + ("?" + "&".join(raw for _, raw in kept) if kept else "")
    body = _body_parts(request)
    if isinstance(body, Reason):
        return body
    method = "GET" if request.method == "HEAD" else request.method
    if said is not None:
        return *_searched(method, request.path, [pair for pair in kept if said.selects(pair[0])], said, keys), target
    if not kept and not body:
        return "", f"{method} {request.path}", target
    ordered = [raw for _, raw in sorted(kept, key=lambda pair: pair[0])]  # stable: duplicates keep their order
    canonical = f"{method} {request.path}?{'&'.join(ordered)}"
    return ".q-" + keys.digest("content", method, str(len(ordered)), *ordered, *body), canonical, target


def _searched(method: str, path: str, kept: list[tuple[bytes, str]], said: Variance, keys: Keyring) -> tuple[str, str]:
    """The same by the origin's word, which is part of it: by another word other parameters might matter.

    A fill asks for all of the target: only the response that comes says whether the rest of it mattered.
    """
    ordered = [raw for _, raw in sorted(kept, key=lambda pair: pair[0])]
    digest = keys.digest("search", method, *said.parts(), str(len(ordered)), *ordered)
    return f".q-{digest}", f"{method} {path} ({digest})"


def counted_query(route: Route, query: str | None) -> tuple[list[tuple[bytes, str]], bool]:
    """(decoded name, raw pair) of each parameter that counts, in the order received; and whether any was dropped."""
    if not query:
        return [], False
    pairs = [(decoded(raw.partition("=")[0]), raw) for raw in query.split("&")]
    kept = [pair for pair in pairs if _counts(route, pair[0])]
    return kept, len(kept) != len(pairs)


def _counts(route: Route, name: bytes) -> bool:
    text = name.decode("utf-8", "surrogateescape")
    if route.query is not None:
        return text in route.query
    return not any(fnmatchcase(text, pattern) for pattern in route.ignore_query)


def _body_parts(request: Request) -> list[bytes] | Reason:
    """A POST or QUERY read is keyed by its body: canonical JSON where that is unambiguous, otherwise its very bytes."""
    if request.method not in ("POST", "QUERY"):
        return []
    body = request.body
    if body is None:
        return Reason.BODY_TOO_LARGE
    media = (request.fields.get("content-type") or "").encode("latin-1")
    coding = (request.fields.get("content-encoding") or "").encode("latin-1")
    canonical = None if coding else _canonical_json(media, body)
    return [b"json", canonical] if canonical is not None else [b"raw", media, coding, body]


_CANONICAL_MEDIA = frozenset({b"application/json", b"application/json;charset=utf-8"})


def _canonical_json(media: bytes, body: bytes) -> bytes | None:
    """Sorted members, no spaces. Numbers keep their spelling (a float would round); None for duplicate members."""
    if media.replace(b" ", b"").lower() not in _CANONICAL_MEDIA:
        return None
    try:
        value = json.loads(
            # decoded here: json would guess UTF-16 where the upstream reads UTF-8
            body.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_refuse,
        )
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_spelling).encode()
    except (ValueError, RecursionError):
        return None


class _Number:
    """A number as it was written; distinct from the string of the same characters."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _spelling(value: Any) -> Any:
    # an object no JSON text of a client can be equal to: its only member is not a legal string there
    return {"\x00number": value.text}


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs) or "\x00number" in members:
        raise ValueError("no canonical form")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _variant_part(split: list[tuple[str, str]], keys: Keyring) -> str:
    if not split:
        return ""
    return ".v-" + keys.digest("variant", *(text for pair in split for text in pair))
