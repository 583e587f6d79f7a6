"""What may stand in rules.yaml? The models that validate it, and that rules.schema.json is generated from.

A field's default is the built-in default; `model_fields_set` tells what a level of the file really says. Checks that
need more than one value (references, collisions) are in compile.py.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.policy.outcome import Reason
from proxy.policy.route import Scope
from proxy.rules.values import (
    Audience,
    Comparison,
    CookieName,
    Dimension,
    Distinct,
    DottedPath,
    Duration,
    EventName,
    FieldValue,
    Header,
    IgnoredParameter,
    Name,
    Parameter,
    Permission,
    Reference,
    RouteText,
    Size,
    Source,
    Status,
    Tag,
    Ttl,
)

# Keys of the specification that would change what is served and are not acted on yet: refused, never ignored.
UNAVAILABLE = frozenset({"dry-run", "isolate-upstream-connections", "compress-passthrough"})


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _or_text(schema: dict[str, Any]) -> None:
    """In the JSON Schema, a list that may also be one text."""
    schema["anyOf"] = [schema["items"], {"type": schema.pop("type"), "items": schema.pop("items")}]


def _or_shorthand(schema: dict[str, Any], block: "type[Block]") -> None:
    """In the JSON Schema, a mapping that a text may stand for."""
    if block.shorthand is not None:
        mapping = dict(schema)
        schema.clear()
        schema["anyOf"] = [mapping["properties"][block.shorthand], mapping]


class Block(BaseModel):
    """A mapping of the file: kebab-case keys, nothing unknown, nothing empty."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=_kebab,
        populate_by_name=False,
        json_schema_extra=_or_shorthand,
    )

    shorthand: ClassVar[str | None] = None  # a text alone stands for this key
    misplaced: ClassVar[dict[str, str]] = {}  # keys known elsewhere, and why they are wrong here

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return {cls.shorthand: value} if cls.shorthand is not None and isinstance(value, str) else value

    @classmethod
    def known_keys(cls) -> list[str]:
        return [info.alias or name for name, info in cls.model_fields.items()]

    def says(self, name: str) -> bool:
        """Whether the file sets this field here, rather than leaving its default."""
        return name in self.model_fields_set


class Cookie(Block):
    """A session cookie that only the upstream can read."""

    name: CookieName = Field(description="The cookie's name; its chunks (name.0, name.1, ... or name__0) are joined.")
    resolve: RouteText = Field(description="The GET that tells whose it is: JSON of claims, or with an access token.")
    every: Duration = Field(default=60.0, description="How long an answer counts, at most 5m. Default 60s.")


class IdentityBlock(Block):
    """Where a request says who is asking."""

    tenant: Annotated[list[Source], BeforeValidator(_as_list)] = Field(
        json_schema_extra=_or_text,
        default=["jwt.org_id"],
        description="Sources of the tenant. Every source that is present in a request must agree with the others, or "
        "the request bypasses the cache. A path, or a header from a peer that is not trusted, can only contradict.",
    )
    user: Source = Field(default="jwt.sub", description="Source of the user: jwt.<claim> or header.<name>.")
    roles: Source = Field(
        default="jwt.permissions", description="Source of the roles or permissions: jwt.<claim> or header.<name>."
    )
    session: Source = Field(
        default="jwt.sid",
        description="Source of the session's id, jwt.<claim>: by it a logout ends one session instead of all.",
    )
    cookie: Cookie | None = Field(default=None, description="A cookie that speaks for who sends no token.")


class Settings(Block):
    """What defaults, a feature and a read route may all say: route > feature > defaults > built in."""

    ttl: Ttl = Field(
        default=None,
        description="How long a stored response is fresh, or `origin` to follow the upstream's own headers (RFC 9111). "
        "Needed for every feature that has reads.",
    )
    grace: Duration = Field(
        default=0.0, description="After its ttl, how long it may be served while one request refreshes it. Default 0s."
    )
    if_error: Duration = Field(
        default=0.0, description="After its ttl, how long it may be served when the upstream fails. Default 0s."
    )
    negative: dict[Status, Duration] = Field(
        default={}, description="How long error answers are kept, by status, such as {404: 30s}. Default: not at all."
    )
    scope: Annotated[Scope, Field(strict=False)] = Field(
        default=Scope.TENANT,
        description="Who shares a stored response: public (everybody), tenant, role (the same tenant and the same "
        "roles) or user. Default tenant.",
    )
    sensitive: bool = Field(
        default=False, description="Encrypted in the store, never shown by the admin API, never compressed on the wire."
    )
    encrypt: Literal["sensitive", "all"] = Field(
        default="sensitive",
        description="What is encrypted in the store: only what is sensitive, or all. Default sensitive.",
    )
    require: list[Permission] = Field(
        default=[], description="Permissions the caller needs before a stored response may be served. Levels add up."
    )
    assert_: Comparison | None = Field(
        default=None, description="Checked in the JSON body before it is stored: response.<path> == tenant (or user)."
    )
    query: list[Parameter] | None = Field(
        default=None, description="The only query parameters that count. Default: all but those under ignore-query."
    )
    ignore_query: list[IgnoredParameter] = Field(
        default=["utm_*", "gclid", "fbclid"],
        description="Query parameters that do not count and are not sent upstream; a trailing * is a prefix.",
    )
    ignore_headers: list[Header] = Field(
        default=[], description="Request headers that cannot influence a response, and so make no variant of it."
    )
    vary: list[Header] = Field(
        default=[], description="Request headers that select a representation, such as accept-language."
    )
    honour: bool = Field(
        default=True, description="Whether no-store and private of the upstream prevent storing. Default true."
    )
    client_control: Literal["honour", "ignore"] | None = Field(
        default=None,
        description="Whether a client's Cache-Control counts. Default: honour with `ttl: origin`, otherwise ignore.",
    )
    client_cache: FieldValue | None = Field(
        default=None,
        description="Cache-Control towards the client. Default: the upstream's, else private, no-cache (not public).",
    )
    consistency: Literal["strict"] | None = Field(
        default=None, description="strict: the shared store is asked on each hit, so that no replica is ever behind."
    )
    critical: bool = Field(
        default=False, description="Never served stale, and not from the cache while the store is in doubt."
    )
    settle: Duration | None = Field(
        default=None,
        description="After a write, purge once more after this time (an upstream that reads from a lagging replica). "
        "Default: 30s after a 202, otherwise not.",
    )
    compress: Size = Field(default=1 << 10, description="Bodies above this size are kept compressed. Default 1KiB.")
    codec: Literal["zstd", "gzip"] = Field(
        default="zstd",
        description="How the store gets bodies compressed: zstd, or gzip for other readers. Default zstd.",
    )
    max_body: Size = Field(default=1 << 20, description="Larger bodies are not stored. Default 1MiB.")
    quota: Size | None = Field(default=None, description="The most that one tenant's entries may take. Default: none.")


class Count(Block):
    """Count requests that are answered with 2xx or 304, from the cache or not."""

    name: Name = Field(description="The counter's name.")
    by: Dimension | None = Field(
        default=None, description="What to count by: a path parameter, or a reference such as query.q or jwt.plan."
    )
    unique: Distinct | None = Field(default=None, description="Also count distinct values: `user`, or a reference.")


class Publish(Block):
    """Publish an event after a write that succeeded (2xx)."""

    event: EventName = Field(description="The event's name.")
    to: Audience = Field(description="Who gets it: tenant, role:<permission> or user:<reference>.")
    data: dict[str, Reference] = Field(default={}, description="What it carries: names and references.")


class ReadRoute(Settings):
    """A read: one route whose responses are stored."""

    shorthand: ClassVar[str | None] = "route"
    misplaced: ClassVar[dict[str, str]] = {
        "also-purge": "belongs to a write: a read purges nothing",
        "publish": "belongs to a write",
        "settle": "belongs to a write",
    }

    route: RouteText = Field(description="METHOD /path. GET also answers HEAD; POST and QUERY are keyed by their body.")
    key_name: Name | None = Field(default=None, description="The word in the key instead of the feature's.")
    count: Count | None = Field(default=None, description="Count these requests.")


class WriteRoute(Block):
    """A write: purges its feature's list and the item it names."""

    shorthand: ClassVar[str | None] = "route"
    misplaced: ClassVar[dict[str, str]] = {
        key: "belongs to a read: it has no effect on a write"
        for key in (*Settings.known_keys(), "key-name")
        if key != "settle"
    }

    route: RouteText = Field(description="METHOD|METHOD /path, of POST, PUT, PATCH and DELETE.")
    also_purge: Annotated[list[Tag], BeforeValidator(_as_list)] = Field(
        json_schema_extra=_or_text,
        default=[],
        description="Also purge these: `feature`, `feature:{parameter}` or `feature:list`. Levels add up.",
    )
    settle: Duration | None = Field(default=None, description="Purge once more after this time.")
    count: Count | None = Field(default=None, description="Count these requests.")
    publish: Publish | None = Field(default=None, description="Publish an event when the write has succeeded.")


class Feature(Settings):
    """What belongs together: reads that are cached, and the writes that purge them."""

    key_name: Name | None = Field(default=None, description="The word in the key instead of the feature's name.")
    read: list[ReadRoute] = Field(default=[], description="Routes whose responses are stored.")
    write: list[WriteRoute] = Field(
        default=[], description="Routes that purge. `write: []` says that nothing changes this data through here."
    )
    also_purge: Annotated[list[Tag], BeforeValidator(_as_list)] = Field(
        json_schema_extra=_or_text,
        default=[],
        description="What every write of this feature purges besides its own entries.",
    )


class RoleChange(Block):
    """A request that changes somebody's roles."""

    shorthand: ClassVar[str | None] = "route"

    route: RouteText = Field(description="METHOD|METHOD /path")
    user: Reference | None = Field(
        default=None,
        description="Whose roles, as tokens name them: path.<parameter> or response.<path>. Default: anybody's of the "
        "caller's organisation.",
    )
    then: Literal["rehydrate", "reject"] = Field(
        default="rehydrate",
        description="rehydrate: older tokens get no stored answers that depend on rights. reject: they get 401.",
    )


class Enrich(Block):
    """Organisation data for the upstream's request headers."""

    from_: RouteText = Field(description="The GET that returns the organisation.")
    every: Duration = Field(default=900.0, description="How often it is asked. Default 15m.")
    headers: dict[Header, DottedPath] = Field(description="Request header: path into the JSON document.")
    tenant: DottedPath = Field(
        default="id", description="Where the document says whose it is: another organisation's is dropped. Default id."
    )


class Session(Block):
    """Requests that end or change a session, and what the upstream is told of it."""

    logout: Annotated[list[RouteText], BeforeValidator(_as_list)] = Field(
        json_schema_extra=_or_text, default=[], description="Log the user out."
    )
    role_change: list[RoleChange] = Field(default=[], description="Change a user's roles.")
    token_lifetime: Duration = Field(
        default=86400.0,
        description="How long the longest-lived token is valid: so long revocations are known, and older tokens get "
        "nothing from the cache. Default 24h.",
    )
    headers: dict[Header, Literal["user", "tenant", "session", "roles", "state"]] = Field(
        default={
            "X-User-Id": "user", "X-Tenant-Id": "tenant", "X-Session-Id": "session", "X-Roles": "roles",
            "X-Session-State": "state",
        },
        description="What the upstream is told of the caller; copies that clients send are removed. {}: nothing.",
    )  # fmt: skip
    assertion: Header | None = Field(
        default=None, description="The request header of a signed assertion of 60 seconds, such as X-Portal-Assertion."
    )
    enrich: Enrich | None = Field(default=None, description="Organisation data as request headers.")


class Reports(Block):
    """Who may read what is counted."""

    require: list[Permission] = Field(
        default=[], description="Permissions a caller needs. Default: none, every member of the tenant may."
    )


class Overlay(Block):
    """What one profile changes; merged over the rest, key by key. Lists are replaced."""

    identity: IdentityBlock = Field(default=IdentityBlock(), description="Only in development.")
    defaults: Settings = Field(default=Settings(), description="Changed defaults.")
    features: dict[Name, Feature] = Field(default={}, description="Changed features.")
    session: Session | None = Field(default=None, description="Changed session rules.")


class Environments(Block):
    """Differences between the profiles. Outside development nothing may be loosened."""

    development: Overlay = Field(default=Overlay(), description="SIDECACHE_PROFILE=development")
    staging: Overlay = Field(default=Overlay(), description="SIDECACHE_PROFILE=staging")
    production: Overlay = Field(default=Overlay(), description="SIDECACHE_PROFILE=production")


class Caller(Block):
    """Who asks. No org_id, sub or permissions at all: nobody is logged in."""

    org_id: Annotated[str | None, Field(alias="org_id")] = Field(default=None, description="The tenant.")
    sub: str | None = Field(default=None, description="The user.")
    permissions: list[str] | None = Field(default=None, description="Roles or permissions.")
    headers: dict[Header, str] = Field(default={}, description="Further request headers, from an untrusted peer.")


class Reply(Block):
    """What the upstream answers."""

    status: int = Field(default=200, ge=200, le=599, description="Default 200.")
    json_: Any = Field(default=None, description="The JSON document.")


class Expect(Block):
    """What must come out. Only what is named is compared."""

    key: str | None = Field(default=None, description="The key; a trailing * is a prefix.")
    same_key_as: str | None = Field(default=None, description="Another request line that must have the same key.")
    ttl: Ttl = Field(default=None, description="The rule's ttl.")
    scope: Annotated[Scope, Field(strict=False)] | None = Field(default=None, description="The rule's scope.")
    tags: list[str] | None = Field(default=None, description="The tags of the entry, in any order.")
    cache: Literal["bypass"] | None = Field(default=None, description="bypass: the cache is not used.")
    because: Annotated[Reason, Field(strict=False)] | None = Field(default=None, description="The reason.")
    purges: list[str] | None = Field(default=None, description="The tags a write purges, in any order.")
    publishes: list[str] | None = Field(default=None, description='Such as "application.submitted to tenant".')
    counts: list[str] | None = Field(default=None, description='Such as "job-views by 77 unique".')


class Scenario(Block):
    """One request and what must come of it; `sidecache test` runs it, and so does every reload."""

    request: RouteText = Field(description="METHOD /path?query")
    as_: Caller | None = Field(default=None, description="Who asks; nobody when it is absent.")
    json_: Any = Field(default=None, description="The request's JSON body (a POST or QUERY read).")
    response: Reply = Field(default=Reply(), description="What the upstream answers; 200 when it is absent.")
    expect: Expect = Field(description="What must come out.")


class Document(Block):
    """The caching rules of sidecache."""

    version: Literal[1] = Field(description="The version of this language: 1.")
    identity: IdentityBlock = Field(default=IdentityBlock(), description="Where a request says who is asking.")
    defaults: Settings = Field(default=Settings(), description="Settings for every feature.")
    features: dict[Name, Feature] = Field(description="By name: the word in tenant:{org_id}:{feature}:{identifier}.")
    session: Session | None = Field(default=None, description="Requests that end or change a session.")
    reports: Reports = Field(default=Reports(), description="Who may read what is counted.")
    events: list[EventName] = Field(
        default=[], description="Names of events that the backend publishes by itself (`POST /api/events`)."
    )
    environments: Environments = Field(default=Environments(), description="Differences between the profiles.")
    tests: list[Scenario] = Field(default=[], description="Examples that must hold.")

    @classmethod
    def read(cls, plain: Any) -> Self:
        return cls.model_validate(plain)
