"""How much is kept of events, and for how many readers at once? The variables of mailboxes and streams (SPEC 11)."""

from typing import Any

from proxy.variables import HOUR, Variables

_MOST_OF_TENANT = 32 << 20  # bytes of a mailbox: who resumes from its beginning reads all of it


def events(variables: Variables) -> dict[str, Any]:
    kept = variables.integer("SIDECACHE_EVENTS_KEPT", 500, 10, 10_000)
    size = variables.integer("SIDECACHE_EVENT_BYTES", 8 << 10, 256, 32 << 10)
    if kept * size > _MOST_OF_TENANT:
        variables.problems.append(
            f"{variables.source('SIDECACHE_EVENTS_KEPT')}: {kept} events of {size} bytes are more than the "
            f"{_MOST_OF_TENANT >> 20} MiB of a tenant; keep fewer, or smaller ones (SIDECACHE_EVENT_BYTES)"
        )
    streams = variables.integer("SIDECACHE_EVENT_STREAMS", 5000, 1, 100_000)
    of_tenant = _part(variables, "SIDECACHE_EVENT_STREAMS_TENANT", 500, "SIDECACHE_EVENT_STREAMS", streams)
    return {
        "events_kept": kept, "events_kept_for": float(HOUR * variables.integer("SIDECACHE_EVENTS_KEPT_H", 72, 1, 720)),
        "event_bytes": size, "event_streams": streams, "event_streams_tenant": of_tenant,
        "event_streams_user": _part(
            variables, "SIDECACHE_EVENT_STREAMS_USER", 10, "SIDECACHE_EVENT_STREAMS_TENANT", of_tenant
        ),
    }  # fmt: skip


def _part(variables: Variables, name: str, default: int, outer: str, most: int) -> int:
    """A number of streams among those of a larger circle."""
    value = variables.integer(name, min(default, most), 1, 100_000)
    if value > most:
        variables.problems.append(
            f"{variables.source(name)}: {value} is more than {outer} ({most}) lets in; lower it, or raise {outer}"
        )
    return value
