"""Where in a mailbox has somebody arrived? The place of an entry, and enough of its id to know it again."""

import re
from typing import NamedTuple

from proxy.stores.streams import Position, is_id, position

BEGIN = "0"  # in place of a cursor: everything that is kept
_CURSOR = re.compile(r"([0-9]{1,20}-[0-9]{1,20})\.([0-9A-Za-z_-]{1,12})")


class Cursor(NamedTuple):
    """The `id` of an event in a stream. Another entry at the same place, after a failover, has another tag."""

    at: Position
    tag: str

    def __str__(self) -> str:
        return f"{self.at[0]}-{self.at[1]}.{self.tag}"


def parsed(text: str) -> Cursor | None:
    """None for what never was a cursor."""
    found = _CURSOR.fullmatch(text)
    if found is None or not is_id(found[1]):
        return None
    return Cursor(position(found[1]), found[2])
