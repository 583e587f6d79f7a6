"""What is there to measure with? The cores, the Debian packages of the peers (installed when root), the C programs."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "c"

# package: what it brings that is looked for
PACKAGES = {
    "nginx": "/usr/sbin/nginx",
    "varnish": "/usr/sbin/varnishd",
    "haproxy": "/usr/sbin/haproxy",
    "wrk": "/usr/bin/wrk",
    "gcc": "/usr/bin/gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "redis-server": "/usr/bin/redis-server",
    "libnginx-mod-http-lua": "/usr/lib/nginx/modules/ngx_http_lua_module.so",
    "lua-nginx-redis": "/usr/share/lua/5.1/nginx/redis.lua",
}


class NotAvailable(Exception):
    """Something cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """One core for the servers, another for the load and what stands behind them."""

    server: int
    load: int

    @classmethod
    def chosen(cls) -> "Cores":
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[-1], usable[0])


def install_missing(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install what is missing where that is possible; what is still missing is said by `need` when it is wanted."""
    missing = [package for package, brings in packages.items() if not Path(brings).exists()]
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"installing {' '.join(missing)} ...", flush=True)
    # RUNLEVEL: Debian starts what it installs, unless it believes that the machine is going down
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    quiet = {"env": environ, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
    subprocess.run([*apt, "update"], **quiet)  # type: ignore[call-overload]  # of a mapping mypy sees no more than this
    for package in missing:
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", package], **quiet)  # type: ignore[call-overload]


def need(*packages: str) -> None:
    missing = [package for package in packages if not Path(PACKAGES[package]).exists()]
    if missing:
        raise NotAvailable(f"{', '.join(missing)}: not installed (apt-get install {' '.join(missing)})")


def compiled(name: str, folder: Path, sources: Path = SOURCES) -> Path:
    """The C program of this name, built now."""
    need("gcc", "libc6-dev")
    program = folder / name
    if not program.exists():
        subprocess.run(["gcc", "-O2", "-o", str(program), str(sources / f"{name}.c")], check=True)
    return program


def description() -> dict[str, str]:
    """The machine, as a result should name it."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        **{name: version for name in ("nginx", "varnish", "haproxy") if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    if not Path(PACKAGES[package]).exists() or shutil.which("dpkg-query") is None:
        return None
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    return asked.stdout or None


def beside_python(command: str) -> str:
    """A command of the environment that runs this."""
    return str(Path(sys.executable).with_name(command))
