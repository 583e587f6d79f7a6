"""Has anything changed that prepared answers do not look at themselves? Rules, keys, revocations, switches."""


class ServingEpoch:
    """A number that grows whenever something changes that prepared answers do not look at themselves."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def advance(self) -> None:
        self.number += 1
