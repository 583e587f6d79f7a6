"""May the stored response answer this request now? (RFC 9111 4). A fresh hit compares numbers and parses nothing."""

import re
from dataclasses import dataclass
from functools import lru_cache
from math import log

from proxy.policy import cache_control
from proxy.policy.cache_control import CacheControl
from proxy.policy.entry import Entry
from proxy.policy.fields import list_members
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason
from proxy.policy.route import Route
from proxy.policy.variant import normalised


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with the entry. `refresh`: and fetch it anew in the background, before it is stale."""

    reason: Reason = Reason.FRESH
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class ServeStale:
    """Answer with the entry, and refresh it in the background."""

    reason: Reason = Reason.STALE_WHILE_REVALIDATE


@dataclass(frozen=True, slots=True)
class Revalidate:
    """Ask the upstream whether the entry still holds."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the upstream for the whole response."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Only a stored response was wanted, and none may be used: 504 (RFC 9111 5.2.1.7)."""

    reason: Reason = Reason.ONLY_IF_CACHED


Decision = Serve | ServeStale | Revalidate | Fetch | Unsatisfiable

_SERVE = Serve()
_SERVE_EARLY = Serve(refresh=True)
_SERVE_STALE = ServeStale()
_SERVE_MAX_STALE = ServeStale(Reason.REQUEST_CONTROL)

# Clocks of replicas differ. What is from further in the future came before this one was set back, or from one that is
# wrong: it would be fresh for as much longer.
CLOCKS_DIFFER = 30.0

EARLIEST_REFRESH = 40.0  # fetches long before the end: no random number's logarithm reaches beyond this

# "a 500, 502, 503, or 504 response" is an error to RFC 5861 4
_FAILURES = frozenset({500, 502, 503, 504})


def decide(
    request: Request,
    route: Route,
    entry: Entry | None,
    now: float,
    *,
    soft_purged: bool = False,
    unproven: bool = False,
    chance: float = 1.0,
) -> Decision:
    """`entry` is what was found under the request's key and its epochs; None: nothing was.

    `soft_purged`: a soft epoch differs, the entry is stale from now on, however fresh it says it is. `unproven`: nobody
    can tell whether it was purged, so it is only good for a validation, or instead of an upstream that fails.
    `chance`: a random number, 0 < chance <= 1, that decides who refreshes early.
    """
    if entry is None:
        return decide_without(request, route, Reason.COLD)
    if unproven or _is_of_the_future(entry, now):
        only_here = route.client_control and cache_control.of_request(request.fields).only_if_cached
        reason = Reason.STORE_UNAVAILABLE if unproven else Reason.EXPIRED
        return Unsatisfiable() if only_here else _ask(entry, reason)
    if route.client_control:
        return _controlled(cache_control.of_request(request.fields), route, entry, now, soft_purged)
    if now < entry.fresh_until and not soft_purged and not entry.no_cache:
        return _SERVE_EARLY if _is_due_early(entry, now, chance) else _SERVE
    if _in_grace(route, entry, now):
        return _SERVE_STALE
    return _ask(entry, Reason.PURGED if soft_purged else Reason.EXPIRED)


def decide_without(request: Request, route: Route, reason: Reason) -> Fetch | Unsatisfiable:
    """The decision where no entry can be used; `reason` says why there is none."""
    if route.client_control and cache_control.of_request(request.fields).only_if_cached:
        return Unsatisfiable()
    return Fetch(reason)


def _controlled(control: CacheControl, route: Route, entry: Entry, now: float, soft_purged: bool) -> Decision:
    """The same with the client's Cache-Control (RFC 9111 5.2.1)."""
    decision = _wanted(control, route, entry, now, soft_purged)
    if control.only_if_cached and isinstance(decision, Revalidate | Fetch):
        return Unsatisfiable()
    return decision


def _wanted(control: CacheControl, route: Route, entry: Entry, now: float, soft_purged: bool) -> Decision:
    too_old = control.max_age is not None and entry.age_at(now) > control.max_age
    if control.no_cache or too_old:
        return _ask(entry, Reason.REQUEST_CONTROL)
    remaining = entry.fresh_until - now
    if control.min_fresh is not None and remaining < control.min_fresh:
        return _ask(entry, Reason.REQUEST_CONTROL)
    if remaining > 0 and not soft_purged and not entry.no_cache:
        return _SERVE
    if control.max_age is None and _in_grace(route, entry, now):
        return _SERVE_STALE
    if control.max_stale is not None and -remaining <= control.max_stale and _may_be_stale(route, entry):
        return _SERVE_MAX_STALE
    return _ask(entry, Reason.PURGED if soft_purged else Reason.EXPIRED)


def _is_due_early(entry: Entry, now: float, chance: float) -> bool:
    """Whether this request refreshes a fresh entry: the sooner it ends and the dearer it is, the likelier.

    Of many requests for a hot entry one then fetches it before all of them would have to (XFetch: Vattani, Chierichetti
    and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015).
    """
    remaining = entry.fresh_until - now
    return remaining < EARLIEST_REFRESH * entry.fetch_seconds and entry.fetch_seconds * -log(chance) >= remaining


def _is_of_the_future(entry: Entry, now: float) -> bool:
    return now < entry.stored_at - CLOCKS_DIFFER


def _ask(entry: Entry, reason: Reason) -> Revalidate | Fetch:
    return Fetch(reason) if entry.etag is None and entry.last_modified is None else Revalidate(reason)


def _may_be_stale(route: Route, entry: Entry) -> bool:
    return not (entry.must_revalidate or entry.no_cache or route.critical)


def _in_grace(route: Route, entry: Entry, now: float) -> bool:
    # without a window of its own (`grace: 0s`) a softly purged entry is not served either
    return entry.fresh_until < entry.grace_until > now and _may_be_stale(route, entry)


def may_serve_on_error(request: Request, entry: Entry, route: Route, now: float, *, answered: bool) -> bool:
    """Whether the entry may stand in for an upstream that fails (RFC 5861 4).

    `answered`: it did so by an answer. Without one this cache is disconnected, which permits more (RFC 9111 4.2.4).
    """
    if not _may_be_stale(route, entry) or _is_of_the_future(entry, now):
        return False
    if route.client_control:
        asked = cache_control.of_request(request.fields).stale_if_error
        if asked is not None and now < entry.fresh_until + asked:
            return True
    if not answered or route.ttl is not None:
        return now < entry.error_until
    said = cache_control.of_response(entry.fields()).stale_if_error
    return now < entry.fresh_until + (route.if_error if said is None else said)


def is_failure(status: int) -> bool:
    """Whether this answer of the upstream is an error for which a stale response may stand in."""
    return status in _FAILURES


def second_key_names(entry: Entry, request: Request) -> tuple[str, ...] | None:
    """None when the entry was selected as this request selects; else the names for `key.with_selected`."""
    fields = request.fields
    accept = fields.get("accept")
    if not entry.vary and (accept is None or entry.content_type is None or accepts(accept, entry.content_type)):
        return None  # most of all
    names = {name for name, _ in entry.vary}
    refused = (
        accept is not None
        and entry.content_type is not None
        and "accept" not in names  # otherwise its value decides, below
        and not accepts(accept, entry.content_type)
    )
    # "unless all the presented request header fields nominated by that Vary field value match" (RFC 9111 4.1)
    differing = [name for name, value in entry.vary if normalised(name, fields) != value]
    if not refused and (not differing or (differing == ["accept-language"] and _is_first_choice(entry, fields))):
        return None
    return tuple(sorted(names | {"accept"} if refused else names))


def _is_first_choice(entry: Entry, fields: Fields) -> bool:
    """Whether the response is in the one language that the client prefers to all others.

    "The language quality values ... most preferred" (RFC 9110 12.5.4): whoever is selected by the field can have
    nothing better. Another language or a part of one (`en` for `en-GB`) is for the origin to choose.
    """
    first, *others = normalised("accept-language", fields).split(",")
    language = (entry.fields().get("content-language") or "").lower()
    return language != "" and first == language and all(";q=" in other for other in others)


_RANGE = re.compile(r"([^\s/;,]+)/([^\s/;,]+)")
_WEIGHT = re.compile(r"[0-9]*\.?[0-9]*")


MAX_ACCEPT = 2048


def accepts(accept: str, content_type: str) -> bool:
    """Whether this Accept takes this media type (RFC 9110 12.5.1). What cannot be parsed refuses nothing."""
    # longer ones are not taken apart, nor remembered: nobody needs them, and they cost seconds and gigabytes
    return len(accept) > MAX_ACCEPT or _accepts(accept, content_type)


@lru_cache(maxsize=1024)
def _accepts(accept: str, content_type: str) -> bool:
    wanted = _media(content_type)
    if wanted is None:
        return True
    ranges = [parsed for member in list_members(accept) if (parsed := _weighted(member)) is not None]
    if not ranges:
        return True
    # "the most specific reference has precedence"
    fitting = [(_precision(media), weight) for media, weight in ranges if _covers(media, wanted)]
    return bool(fitting) and max(fitting)[1] > 0


_Media = tuple[str, str, frozenset[str]]


def _media(text: str) -> _Media | None:
    essence, *parameters = (part.strip() for part in text.split(";"))
    found = _RANGE.fullmatch(essence.lower())
    if found is None:
        return None
    return found[1], found[2], frozenset(parameter.replace('"', "").lower() for parameter in parameters if parameter)


def _weighted(member: str) -> tuple[_Media, float] | None:
    media = _media(member)
    if media is None:
        return None
    weights = [parameter for parameter in media[2] if parameter.startswith("q=")]
    weight = 1.0
    for text in weights:
        value = text[2:]
        if not value.strip(".") or _WEIGHT.fullmatch(value) is None:
            return None
        weight = min(weight, float(value))
    return (media[0], media[1], media[2].difference(weights)), weight


def _covers(media: _Media, wanted: _Media) -> bool:
    kind, subtype, parameters = media
    return (kind in ("*", wanted[0])) and (subtype in ("*", wanted[1])) and parameters <= wanted[2]


def _precision(media: _Media) -> tuple[bool, bool, int]:
    return media[0] != "*", media[1] != "*", len(media[2])
