"""Which epochs bind an entry of (space, tags)?

    shared:epochs          *   {feature}                               every entry
    tenant:{org}:epochs    *   {feature}   slot:{00..ff} of each item      a tenant's entry
    shared:epochs                          slot:{0000..ffff} of each item  a public entry (space "")

A group (`@:name`, RFC 9875) is an item of no feature. Nobody knows an entry's groups before the response is there, so
whoever purges one replaces the field `@` as well: while that is what it was before the fetch, the groups' epochs are
what they were, too (`Epochs.with_groups`).

A field holds a random epoch: the hard one under its name, the soft one under `soft:` and its name. A soft
purge that had to write the hard half again could put one back that another replica has just replaced, and so revive
what that one purged. No feature's name holds a colon.
"""

from functools import lru_cache
from hashlib import blake2b

from proxy.stores.base import EPOCH_BYTES

EVERYTHING = "*"
SHARED = "shared:epochs"
ANY_GROUP = "@"

_SOFT = "soft:"
NEVER_PURGED = bytes(EPOCH_BYTES)

Field = tuple[str, str]  # the hash and the field in it


def hash_of(space: str) -> str:
    return f"tenant:{space}:epochs" if space else SHARED


def slot(space: str, tag: str) -> str:
    """The field of an item tag: one of 256 of a tenant, one of 65,536 of all tenants together.

    The shared hash is one for everybody's writes, so that with 256 a busy one would purge most of what is public.
    The mapping must never change: stamps of stored entries depend on it.
    """
    size = 1 if space else 2
    return f"slot:{blake2b(tag.encode('utf-8', 'surrogatepass'), digest_size=size).hexdigest()}"


def binding(space: str, tags: tuple[str, ...]) -> tuple[Field, ...]:
    """The fields an entry is bound to, in the order of its stamp: each hard epoch, and behind it the soft one."""
    fields, bound = covered(space, tags)
    return fields[:bound]


def covering(space: str, tags: tuple[str, ...]) -> tuple[Field, ...]:
    """What is read for a request: the binding of its tags, then what the response may add: lists, and groups."""
    return covered(space, tags)[0]


Covered = tuple[tuple[Field, ...], int]  # the covering, and how many of its fields are the binding


def covered(space: str, tags: tuple[str, ...]) -> Covered:
    """One object for all tags that come to the same: there are many items, and few slots of one tenant."""
    if len(tags) == 2 and tags[1].startswith(tags[0] + ":"):  # a feature and one of its items, as of most
        return _covered(space, tags[:1], (slot(space, tags[1]),))
    features = dict.fromkeys([tag.partition(":")[0] for tag in tags if not is_group(tag)])
    items = dict.fromkeys([slot(space, tag) for tag in tags if ":" in tag])
    return _covered(space, tuple(features), tuple(items))


@lru_cache(8192)
def _covered(space: str, features: tuple[str, ...], items: tuple[str, ...]) -> Covered:
    own = hash_of(space)
    common = _of_features(space, features)
    lists = [name for feature in features if (name := _list_slot(space, feature)) not in items]
    slots = [field for name in (*items, *dict.fromkeys(lists)) for field in ((own, name), (own, soft_of(name)))]
    return (*common, *slots, (own, ANY_GROUP)), len(common) + 2 * len(items)


@lru_cache(8192)
def _of_features(space: str, features: tuple[str, ...]) -> tuple[Field, ...]:
    names = (EVERYTHING, *features)
    hashes = (SHARED, hash_of(space)) if space else (SHARED,)
    return tuple([field for hashed in hashes for name in names for field in ((hashed, name), (hashed, soft_of(name)))])


@lru_cache(8192)
def _list_slot(space: str, feature: str) -> str:
    return slot(space, f"{feature}:list")


def is_group(tag: str) -> bool:
    return tag.startswith(ANY_GROUP)


def purged_fields(space: str, tag: str) -> tuple[str, ...]:
    """What a purge of this tag replaces."""
    if is_group(tag):
        return slot(space, tag), ANY_GROUP
    return (slot(space, tag) if ":" in tag else tag,)


def soft_of(name: str) -> str:
    return _SOFT + name


def group_fields(space: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of the groups among these tags."""
    slots = [slot(space, tag) for tag in tags if is_group(tag)]
    return tuple([name for found in slots for name in (found, soft_of(found))])


def may_be_absent(name: str) -> bool:
    """Whether a field without a value was never purged; of any other the store has lost it."""
    return name.startswith(_SOFT) or name == ANY_GROUP
