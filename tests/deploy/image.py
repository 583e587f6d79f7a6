"""What does the Dockerfile make? Its own steps, carried out in plain directories: `make image-check` tells."""

import argparse
import fcntl
import fnmatch
import hashlib
import importlib.util
import os
import pickle
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.deploy.container import Container, Mount, Network, Root
from tests.deploy.dockerfile import Copy, Run, Stage, read

REPOSITORY = Path(__file__).parents[2]
_ETC = ("passwd", "group", "nsswitch.conf", "resolv.conf", "hosts", "ssl", "pip.conf", "ca-certificates.conf")
# How this machine reaches the package index; nothing else of its environment is seen.
_INDEX = ("PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
# What the official images do not have of Python either.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "test", "tests", "config-3*", "site-packages", "dist-packages", "*.a")


class BuildFailed(Exception):
    """A step of the Dockerfile, with what it said."""


class Image:
    """The last stage, built."""

    def __init__(self, stage: Stage, root: Root, added: int) -> None:
        self.stage = stage
        self.root = root
        self.added = added  # bytes over the base

    def container(self, **changes: object) -> Container:
        """As an engine would run it, but as a user that no file knows."""
        environment = {**self.stage.environment, **changes.pop("environment", {})}  # type: ignore[dict-item]
        return Container(self.root, environment, workdir=self.stage.workdir, **changes)  # type: ignore[arg-type]

    def command(self, *words: str) -> tuple[str, ...]:
        return (*self.stage.entrypoint, *(words or self.stage.command))


def build(folder: Path, say: Callable[[str], None] = lambda text: None) -> Image:
    """Every stage of the Dockerfile, in `folder`."""
    made: dict[str | None, Root] = {}
    stages = read(REPOSITORY / "Dockerfile", {"PYTHON": ".".join(map(str, sys.version_info[:2]))})
    before = 0
    for number, stage in enumerate(stages):
        root = base(folder / f"stage-{number}")
        before = root.size()
        for step in stage.steps:
            began = time.monotonic()
            _copy(step, root, made) if isinstance(step, Copy) else _run(step, root)
            say(f"{time.monotonic() - began:5.1f} s  {step}")
        made[stage.name] = root
    return Image(stages[-1], root, root.size() - before)


def kept() -> Image:
    """Built when it is not there or something that goes into it has changed; whoever comes second waits."""
    folder = REPOSITORY / "build" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = folder / _digest() / "image.pickle"
        if not file.exists():
            for other in folder.iterdir():
                if other.is_dir():
                    shutil.rmtree(other)
            file.parent.mkdir()
            made = build(file.parent)
            for stage in file.parent.glob("stage-*"):
                if stage != made.root.path.parent:
                    shutil.rmtree(stage)
            file.write_bytes(pickle.dumps(made))
        image: Image = pickle.loads(file.read_bytes())
        return image


def _digest() -> str:
    context = [step.sources for stage in read(REPOSITORY / "Dockerfile") for step in stage.steps
               if isinstance(step, Copy) and step.stage is None]  # fmt: skip
    tops = [REPOSITORY / name for sources in context for name in ("Dockerfile", ".dockerignore", *sources)]
    tops += [Path(__file__).with_name(f"{name}.py") for name in ("image", "container", "dockerfile")]
    files = {file for top in tops for file in (top.rglob("*") if top.is_dir() else [top])}
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(REPOSITORY)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def base(folder: Path, *, python: bool = True) -> Root:
    """What `python:3.x-slim` is: Python without bytecode in /usr/local, and a system without anything of ours."""
    root = Root(folder / "root", folder / "local")
    for name in ("usr", "proc", "dev", "etc", "tmp", "root", "opt", "var/tmp", "run"):
        (root.path / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root.path / name).chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root.path / name).symlink_to(f"usr/{name}")
    for name in _ETC:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, root.path / "etc" / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, root.path / "etc" / name)
    root.local.mkdir()
    if python:
        _python(root.local)
    libraries = ["/usr/local/lib", *(f"/usr/lib/{machine}-linux-gnu" for machine in ("x86_64", "aarch64"))]
    (root.path / "etc/ld.so.conf").write_text("\n".join(libraries) + "\n")
    _finished(Container(root, {}, user="0:0", read_only=False).run("/sbin/ldconfig"), "ldconfig")
    return root


def _python(local: Path) -> None:
    """The interpreter that runs this, moved: it finds its library beside itself."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    (local / "bin").mkdir(parents=True)
    shutil.copy(prefix / "bin" / name, local / "bin" / name)
    for link in ("python3", "python"):
        (local / "bin" / link).symlink_to(name)
    shutil.copytree(prefix / "lib" / name, local / "lib" / name, symlinks=True, ignore=_LEFT_OUT)
    for library in prefix.glob(f"lib/lib{name}.so*"):
        shutil.copy(library, local / "lib")
    pip = importlib.util.find_spec("pip")
    assert pip is not None, "the base image has pip, so this needs it too"
    assert pip.origin is not None
    target = local / "lib" / name / "site-packages"
    shutil.copytree(Path(pip.origin).parent, target / "pip", ignore=shutil.ignore_patterns("__pycache__"))


def _run(step: Run, root: Root) -> None:
    environment = {
        **step.environment,
        "HOME": "/root",
        **{name: os.environ[name] for name in _INDEX if name in os.environ},
    }
    caches = [Mount(target, _cache(target)) for target in step.caches]
    mounts = [Mount("/dev/shm"), *caches]
    container = Container(root, environment, user="0:0", workdir=step.workdir, mounts=mounts, read_only=False)
    _finished(container.run("/bin/sh", "-c", step.command, timeout=300), step.command)
    for mount in caches:
        shutil.rmtree(root.path / mount.target.lstrip("/"))


def _cache(target: str) -> Path:
    """What is kept between builds: this machine's own, by its name (pip, uv)."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / Path(target).name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _finished(done: "subprocess.CompletedProcess[str]", what: str) -> None:
    if done.returncode != 0:
        raise BuildFailed(f"{what}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _copy(step: Copy, root: Root, made: dict[str | None, Root]) -> None:
    target = root.path / step.target.lstrip("/")
    for name in step.sources:
        source = REPOSITORY / name if step.stage is None else made[step.stage].path / name.lstrip("/")
        if step.stage is None and not in_context(name):
            raise BuildFailed(f"COPY {name}: .dockerignore keeps it out")
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if step.stage is None else None
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(source, target / source.name if step.target.endswith("/") else target)


def in_context(name: str) -> bool:
    """Whether .dockerignore lets it through: the last pattern that matches decides."""
    inside = True
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if pattern and not pattern.startswith("#") and fnmatch.fnmatch(name, pattern):
            inside = line.startswith("!")
    return inside


def start_seconds(image: Image, folder: Path) -> tuple[float, float]:
    """From the start of the process to the first 200 of livez: on the clock, and of CPU, which others cannot take."""
    rules = Mount("/etc/sidecache/rules.yaml", REPOSITORY / "rules.yaml", read_only=True)
    with Network() as network:
        container = image.container(environment=MINIMAL, mounts=[rules], network=network)
        began = time.monotonic()
        with container.running(*image.command(), output=folder / "start.log") as running:
            answered(network, running.said)
            took = time.monotonic() - began
            return took, running.cpu()


MINIMAL = {
    "SIDECACHE_UPSTREAM": "http://127.0.0.1:9", "SIDECACHE_PROFILE": "production", "REDIS_PROVIDER": "memory",
    "SIDECACHE_NAME_KEY": "a name key for tests", "SIDECACHE_DRAIN_S": "1",
    "SIDECACHE_ENCRYPTION_KEYS": "k1:cEnrvcjI3jQ3d4Cn0vQYAAc6L4wpTXm0mP4bYl0Uq7o=",
}  # fmt: skip


def answered(network: Network, said: Callable[[], str], port: int = 8080, path: str = "/.sidecache/livez") -> None:
    until = time.monotonic() + 30
    while True:
        try:
            if network.ask(port, path)[0] == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < until, said()
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.image", description=__doc__)
    parser.add_argument("--starts", type=int, default=5, help="how often it is started (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sidecache-image-") as name:
        folder = Path(name)
        began = time.monotonic()
        image = build(folder, say=lambda text: print(text[:150], file=sys.stderr))
        print(f"built in {time.monotonic() - began:.1f} s; {image.added / 1e6:.1f} MB over the base")
        starts = [start_seconds(image, folder) for _ in range(options.starts)]
        for what, seconds in zip(("on the clock", "of CPU"), zip(*starts, strict=True), strict=True):
            shown = ", ".join(f"{each:.2f}" for each in seconds)
            print(f"start to the first 200 of livez, {what}: median {statistics.median(seconds):.2f} s ({shown})")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
