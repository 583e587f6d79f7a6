"""Which epochs bind an entry of (space, tags)?

    shared:epochs          *   {feature}                               every entry
    tenant:{org}:epochs    *   {feature}   slot:{00..ff} of each item      a tenant's entry
    shared:epochs                          slot:{0000..ffff} of each item  a public entry (space "")

A field holds a random epoch: the hard one under its name, the soft one under `soft:` and its name. A soft
purge that had to write the hard half again could put one back that another replica has just replaced, and so revive
what that one purged. No feature's name holds a colon.
"""

from functools import lru_cache
from hashlib import blake2b

EVERYTHING = "*"
SHARED = "shared:epochs"

_SOFT = "soft:"

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


@lru_cache(2048)
def binding(space: str, tags: tuple[str, ...]) -> tuple[Field, ...]:
    """The fields an entry is bound to, in the order of its stamp."""
    features = tuple(dict.fromkeys([tag.partition(":")[0] for tag in tags]))
    own = hash_of(space)
    fields = [(SHARED, EVERYTHING), *[(SHARED, feature) for feature in features]]
    if own is not SHARED:
        fields += [(own, EVERYTHING), *[(own, feature) for feature in features]]
    fields += [(own, slot(space, tag)) for tag in tags if ":" in tag]
    return tuple([name for bound in dict.fromkeys(fields) for name in (bound, (bound[0], soft_of(bound[1])))])


@lru_cache(2048)
def covering(space: str, tags: tuple[str, ...]) -> tuple[Field, ...]:
    """What is read for a request: the binding of its tags, then the lists that a negative response adds."""
    return binding(space, (*tags, *[f"{tag.partition(':')[0]}:list" for tag in tags]))


def field_of(space: str, tag: str) -> str:
    return slot(space, tag) if ":" in tag else tag


def soft_of(name: str) -> str:
    return _SOFT + name


def is_soft(name: str) -> bool:
    return name.startswith(_SOFT)
