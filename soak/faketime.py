"""How does a process get another time? libfaketime of Debian, before its C library."""

from pathlib import Path

from soak.judged import NotPossible

_PLACES = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")


def library() -> str:
    """For LD_PRELOAD: the one for programs with threads."""
    for place in _PLACES:
        file = Path(place) / "libfaketimeMT.so.1"
        if file.exists():
            return str(file)
    raise NotPossible("libfaketime is not installed (apt-get install libfaketime)")


def said(offset: str) -> str:
    """As its file has it: seconds to add, with their sign."""
    return f"{offset}\n"
