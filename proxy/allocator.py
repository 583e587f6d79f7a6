"""Where does the C library keep what was freed? In one place: of several, each would hold on to its own.

Bodies are compressed and opened in threads, and glibc gives each thread an arena: with a first tier of 100 MiB a
process grew to 350 MiB in them, and to 230 MiB with one.
"""

import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def use_one_arena() -> bool:
    """For all threads that begin from now on. False: this C library has nothing of the kind."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_ARENA_MAX, 1))
