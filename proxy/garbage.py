"""What does the garbage collector look at? Not again at what has outlived it: a full pass over a million entries takes
half a second, in which nobody is answered.

Whatever survives a full pass is frozen, so that the next one only looks at what has come since. What is frozen and
becomes a cycle of garbage later is not found: once in `EVERYTHING_AFTER` full passes all of it is looked at again.
"""

import gc
from typing import Any

EVERYTHING_AFTER = 64


class Survivors:
    """Freezes what survives a full pass."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if phase != "stop" or info["generation"] != 2:
            return
        self.passes += 1
        if self.passes % EVERYTHING_AFTER:
            gc.freeze()
        else:
            gc.unfreeze()  # the next one looks at everything


def freeze_survivors() -> None:
    """Of now, which lives as long as the process, and of each full pass to come. Once in a process."""
    if not any(isinstance(each, Survivors) for each in gc.callbacks):
        gc.callbacks.append(Survivors())
    gc.collect()
