"""What do the rules say about one route? The compiled, immutable answer that every decision takes as an argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """Who may share a stored response. From the narrowest to the widest: user, role, tenant, public."""

    PUBLIC = "public"
    TENANT = "tenant"
    ROLE = "role"
    USER = "user"


class Kind(StrEnum):
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Part:
    """One path parameter in an identifier: its value alone (an item), or `prefix-value` (a nested collection)."""

    parameter: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class IdentifierShape:
    """How path parameters become the identifier of a key and of an item tag.

    No parts and no rest: `list`. `rest`: a hash of the whole path (a `**` route).
    `reserved` are the prefixes (`job-`) that nested collections of the same key space own: an item value that begins
    with one is hashed, so the two can never meet.
    """

    parts: tuple[Part, ...] = ()
    rest: bool = False
    reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TagTemplate:
    """A tag that a write purges: the whole feature (`identifier` None), or `feature:{identifier}`."""

    feature: str
    identifier: IdentifierShape | None = None
    public: bool = False  # the feature's entries are shared by all tenants


@dataclass(frozen=True, slots=True)
class Assertion:
    """`assert: response.org_id == tenant`: the dotted path into the JSON body and the identity value it must equal."""

    path: tuple[str, ...]
    equals: str  # tenant | user

    def __str__(self) -> str:
        return f"response.{'.'.join(self.path)} == {self.equals}"


@dataclass(frozen=True, slots=True)
class CountRule:
    """What is counted of a route's requests. References such as `path.job-id`; `unique` may be `user`."""

    name: str
    by: str | None = None
    unique: str | None = None
    parameter: str | None = field(init=False, compare=False)  # of the path, if it is counted by one
    users: bool = field(init=False, compare=False)  # whether each user counts once

    def __post_init__(self) -> None:
        is_parameter = self.by is not None and self.by.startswith("path.")
        object.__setattr__(self, "parameter", self.by[5:] if self.by is not None and is_parameter else None)
        object.__setattr__(self, "users", self.unique == "user")

    def __str__(self) -> str:
        by = "" if self.by is None else f" by {self.by}"
        return f"{self.name}{by}{'' if self.unique is None else f' unique {self.unique}'}"


_NO_NEGATIVE: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """One read or write route with every setting resolved (route > feature > defaults > built in).

    Durations are seconds, sizes are bytes. `ttl` None is `ttl: origin` (RFC 9111 decides). `query` None: every
    parameter counts but those that match `ignore_query` (names, a trailing `*` is a prefix).
    """

    feature: str
    kind: Kind
    methods: tuple[str, ...]
    pattern: str  # "/api/jobs/{job-id}"
    line: int = 0
    where: str = ""  # "features.jobs.read[1]"
    identifier: IdentifierShape = IdentifierShape()
    tenant_parameters: tuple[str, ...] = ()  # path parameters that name the tenant (they can only contradict)
    key_name: str = ""
    # who shares, and what splits
    scope: Scope = Scope.TENANT
    query: frozenset[str] | None = None
    ignore_query: tuple[str, ...] = ("utm_*", "gclid", "fbclid")
    ignore_headers: frozenset[str] = frozenset()
    vary: tuple[str, ...] = ()
    require: frozenset[str] = frozenset()
    # how long
    ttl: float | None = None
    grace: float = 0.0
    if_error: float = 0.0
    if_unreachable: float = 0.0  # `ttl: origin`: stale when the upstream gives no answer at all (RFC 9111 4.2.4)
    negative: Mapping[int, float] = field(default_factory=lambda: _NO_NEGATIVE, hash=False)
    honour: bool = True  # the origin's Cache-Control can prevent storing
    client_control: bool = False  # the client's Cache-Control counts
    client_cache: str | None = None  # Cache-Control towards the client; None: the built-in rule of SPEC 6
    critical: bool = False
    strict: bool = False
    # what is kept
    max_body: int = 1 << 20
    compress: int = 1 << 10
    gzip: bool = False  # the store gets bodies compressed by gzip, not zstd
    sensitive: bool = False
    encrypt: bool = False  # every entry is encrypted in the store, sensitive or not
    quota: int | None = None
    assertion: Assertion | None = None
    # what a write does
    purges: tuple[TagTemplate, ...] = ()
    settle: float | None = None  # None: 30 s after a 202, otherwise not at all
    count: CountRule | None = None
    # Two routes with different digests never accept each other's entries.
    digest: bytes = b""

    def __str__(self) -> str:
        return f"{'|'.join(self.methods)} {self.pattern}"


@dataclass(frozen=True, slots=True)
class Match:
    """A route, and the raw (never decoded) values of its path parameters; `**` is the name of the remainder."""

    route: Route
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
