"""Who gets an event? Judged for each reader when it is delivered: what was meant for one never reaches another."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

from proxy.policy.identity import Identity

TENANT = "tenant"
METRICS = "metrics"  # a topic that counters publish, not rules
MAX_TOPICS = 32


class Reader(NamedTuple):
    """A verified caller of one tenant, and what they have narrowed their stream to. No topics: everything of theirs."""

    tenant: str
    user: str | None
    roles: frozenset[str]
    topics: tuple[str, ...] = ()

    @classmethod
    def of(cls, identity: Identity, topics: Sequence[str] = ()) -> Self | None:
        """None: whose tenant is not known reads nothing."""
        if identity.tenant is None:
            return None
        return cls(identity.tenant, identity.user, identity.roles or frozenset(), tuple(topics))

    def gets(self, name: str, to: str) -> bool:
        """An event of this reader's own tenant, by this name, to this audience."""
        return self._is_among(to) and (not self.topics or any(covers(topic, name) for topic in self.topics))

    @property
    def watches(self) -> bool:
        """Whether this reader has asked for figures as they change."""
        return any(covers(topic, METRICS) for topic in self.topics)

    def _is_among(self, to: str) -> bool:
        if to == TENANT:
            return True
        kind, _, who = to.partition(":")
        if kind == "role":
            return who in self.roles
        if kind == "roles":
            return bool(who) and self.roles.issuperset(who.split(" "))
        return kind == "user" and self.user is not None and who == self.user


def is_personal(to: str) -> bool:
    """Whether it is not enough to know a reader's roles."""
    return to.startswith("user:")


def roles(required: Collection[str]) -> str:
    """Those who have all of these permissions; "" where none are required."""
    return f"roles:{' '.join(sorted(required))}" if required else ""


def covers(topic: str, name: str) -> bool:
    """`application.*` covers all names that begin so; any other topic is one name."""
    return name.startswith(topic[:-1]) if topic.endswith(".*") else topic == name


def is_known(topic: str, names: frozenset[str]) -> bool:
    """Whether an event of one of these names could ever reach who asks for this topic."""
    return any(covers(topic, name) for name in names)
