"""What is kept of a response? The head as the wire needs it, the body, and the numbers computed when it was stored."""

from dataclasses import dataclass, field

from proxy.policy.message import Fields

# Seconds for which a stale entry that has a validator is kept to be asked about: a 304 costs less than a body.
REVALIDATED = 3600.0

NOT_PACKED = ("", b"")


@dataclass(slots=True, eq=False)
class Entry:
    """One stored response (RFC 9111 3). All times are unix seconds; "parse when storing, compare when serving".

    `head` holds the field lines as received, `Name: value\\r\\n` each in Latin-1, without hop-by-hop fields.
    `epochs_hard` and `epochs_soft` digest the epochs of `tags`, in their order, read before the upstream was asked.
    """

    key: str
    tenant: str  # "" for a public entry
    request: str  # the canonical request it answers (`Key.request`)
    policy: bytes  # digest of the route that stored it
    status: int
    head: bytes
    body: bytes
    stored_at: float  # when the response was received
    age: float  # corrected_initial_age at stored_at, seconds (RFC 9111 4.2.3)
    fresh_until: float
    grace_until: float  # may be served stale while one request refreshes (RFC 5861 3)
    error_until: float  # may be served stale when the upstream fails (RFC 5861 4)
    etag: str | None = None
    last_modified: float | None = None
    content_type: str | None = None
    vary: tuple[tuple[str, str], ...] = ()  # the selecting fields of the request, normalised (RFC 9111 4.1)
    must_revalidate: bool = False  # never serve stale
    no_cache: bool = False  # never serve without validation
    tags: tuple[str, ...] = ()
    epochs_hard: bytes = b""
    epochs_soft: bytes = b""
    fetch_seconds: float = 0.0  # how long the upstream took: early refresh weighs it
    compress: int = 1 << 10  # bodies above this many bytes are kept compressed in the store, and sent so
    sensitive: bool = False
    gzip: bool = False  # the store gets it compressed by gzip, not zstd
    encrypt: bool = False  # encrypted in the store although it is not sensitive
    encodings: dict[str, bytes] = field(default_factory=dict)  # the body in encodings asked for before
    packed: tuple[str, bytes] = NOT_PACKED  # the encoding it has in the store, and the body in it, where that is made

    @property
    def confidential(self) -> bool:
        """It leaves this process encrypted or not at all."""
        return self.sensitive or self.encrypt

    def fields(self) -> Fields:
        return unpack_head(self.head)

    def age_at(self, now: float) -> float:
        """current_age in seconds, never negative (RFC 9111 4.2.3)."""
        return self.age + max(0.0, now - self.stored_at)

    def ttl_at(self, now: float) -> int:
        """Remaining freshness in whole seconds; negative when stale."""
        return int(self.fresh_until - now) if now < self.fresh_until else -int(now - self.fresh_until) - 1

    def kept_until(self) -> float:
        """When it is of no more use: neither fresh nor servable stale, nor worth a conditional request."""
        servable = max(self.fresh_until, self.grace_until, self.error_until)
        if self.etag is None and self.last_modified is None:
            return servable
        return max(servable, max(self.fresh_until, self.stored_at) + REVALIDATED)

    def size(self) -> int:
        """Bytes of key, head and bodies."""
        return len(self.key) + len(self.head) + len(self.body) + sum(map(len, self.encodings.values()))

    def __repr__(self) -> str:
        return f"<Entry {self.key} {self.status} {len(self.body)} B>"


def pack_head(fields: Fields) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")


def unpack_head(head: bytes) -> Fields:
    lines = head.decode("latin-1").split("\r\n")
    return Fields((line.partition(": ")[0], line.partition(": ")[2]) for line in lines if line)
