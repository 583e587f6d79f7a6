"""Which variables are there? Every name that the settings ask for, whatever is chosen, and its NAME_FILE."""

import re
from pathlib import Path

import proxy

_READ = ("settings.py", "store_settings.py")


def settings_names() -> frozenset[str]:
    text = "".join((Path(proxy.__file__).parent / name).read_text() for name in _READ)
    names = set(re.findall(r'"((?:SIDECACHE|REDIS|UPSTASH|AUTH0)_[A-Z0-9_]+)"', text))
    return frozenset(names | {f"{name}_FILE" for name in names})
