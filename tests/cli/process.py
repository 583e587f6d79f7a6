"""The command as a process: what it prints and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIDECACHE = (str(Path(sys.executable).with_name("sidecache")),)
MODULE = (sys.executable, "-m", "proxy")
LIMIT = 30.0


def environment(**more: str) -> dict[str, str]:
    """Nothing of this machine's settings, and the package importable from anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECACHE_", "REDIS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def said(*words: str, cwd: Path, command: tuple[str, ...] = SIDECACHE, **environ: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    done = subprocess.run(
        [*command, *words], cwd=cwd, env=environment(**environ), capture_output=True, text=True, timeout=LIMIT
    )
    return done.returncode, done.stdout, done.stderr
