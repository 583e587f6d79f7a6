"""Which variables and tools are there? Every name that the settings ask for, whatever is chosen, and its NAME_FILE."""

import re
import sys
from pathlib import Path

import proxy

_READ = ("settings.py", "store_settings.py", "event_settings.py")


def settings_names() -> frozenset[str]:
    text = "".join((Path(proxy.__file__).parent / name).read_text() for name in _READ)
    names = set(re.findall(r'"((?:SIDECACHE|REDIS|UPSTASH|AUTH0)_[A-Z0-9_]+)"', text))
    return frozenset(names | {f"{name}_FILE" for name in names})


def tool(name: str) -> str:
    """A command that is installed beside the interpreter of these tests."""
    return str(Path(sys.executable).with_name(name))
