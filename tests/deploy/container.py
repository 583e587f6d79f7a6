"""How does something run as in a container, without Docker? In namespaces of its own, below a root of its own."""

import ctypes
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# What root with user namespaces could do as well, but machines that forbid them could not.
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None,
    reason="only root (with util-linux) can make namespaces and mounts",
)

_DEVICES = ("null", "zero", "full", "random", "urandom")
_NET = 0x40000000  # CLONE_NEWNET
# Everything is the machine's own program, below another root. $1: the root, $2: /usr/local. The rest is the command.
_ENTER = r"""
root=$1 local=$2; shift 2
mount --bind "$root" "$root"
mount --rbind /usr "$root/usr"; mount --make-rslave "$root/usr"; mount -o remount,bind,ro "$root/usr"
mount --bind "$local" "$root/usr/local"
mount -t proc proc "$root/proc"
for device in {devices}; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
{mounts}
{locked}
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Mount:
    """A directory or a file of the machine at `target`; without `source`, a tmpfs of `size`."""

    target: str
    source: Path | None = None
    read_only: bool = False
    size: str = "16m"
    options: str = "mode=1777"

    def lines(self, root: Path) -> Iterator[str]:
        at = root / self.target.lstrip("/")
        if self.source is None:
            yield f"mount -t tmpfs -o size={self.size},{self.options},nosuid,nodev tmpfs '{at}'"
            return
        yield f"mount --bind '{self.source}' '{at}'"
        if self.read_only:
            yield f"mount -o remount,bind,ro '{at}'"

    def prepare(self, root: Path) -> None:
        """The place for it; a container's engine makes it, too."""
        at = root / self.target.lstrip("/")
        if self.source is not None and self.source.is_file():
            at.parent.mkdir(parents=True, exist_ok=True)
            at.touch()
        else:
            at.mkdir(parents=True, exist_ok=True)


@dataclass
class Root:
    """A root directory, and the directory that is its /usr/local; the rest of /usr is the machine's."""

    path: Path
    local: Path

    def size(self) -> int:
        """Bytes of both, links as links, files with several names once."""
        seen: dict[tuple[int, int], int] = {}
        for top in (self.path, self.local):
            for folder, _, names in os.walk(top):
                for name in names:
                    status = os.lstat(os.path.join(folder, name))
                    seen[status.st_dev, status.st_ino] = status.st_size
        return sum(seen.values())


@dataclass
class Container:
    """How a command is run in a root. By default as nobody in particular, with no rights and no place to write."""

    root: Root
    environment: Mapping[str, str]
    user: str = "54321:54321"
    workdir: str = "/"
    mounts: Sequence[Mount] = ()
    read_only: bool = True
    capabilities: Sequence[str] = ()
    network: "Network | None" = None
    limits: Mapping[str, str] = field(default_factory=dict)  # of prlimit: {"fsize": "0"}

    def arguments(self, *command: str) -> list[str]:
        for mount in self.mounts:
            mount.prepare(self.root.path)
        root = self.root.path
        lines = [line for mount in self.mounts for line in mount.lines(root)]
        # the root itself last: mount points are made above
        locked = f'mount -o remount,bind,ro "{root}"; mount -o remount,bind,ro "{root}/usr/local"'
        script = _ENTER.replace("{devices}", " ".join(_DEVICES)).replace("{mounts}", "\n".join(lines))
        script = script.replace("{locked}", locked if self.read_only else "")
        user, _, group = self.user.partition(":")
        as_builder = user == "0" and not self.read_only
        rights = "".join(f",+{name.lower()}" for name in self.capabilities)
        return [
            *(("nsenter", f"--net=/proc/{self.network.pid}/ns/net") if self.network else ()),
            "unshare", "--mount", "--pid", "--ipc", "--fork",
            "sh", "-ec", script, "sh", str(root), str(self.root.local),
            *(("prlimit", *(f"--{name}={value}" for name, value in self.limits.items())) if self.limits else ()),
            "setpriv", f"--reuid={user}", f"--regid={group or user}", "--clear-groups", "--no-new-privs",
            *(() if as_builder else (f"--bounding-set=-all{rights}", f"--inh-caps=-all{rights}")),
            "env", "-i", *(f"{name}={value}" for name, value in self.environment.items()),
            "sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *command,
        ]  # fmt: skip

    def run(self, *command: str, timeout: float = 50) -> "subprocess.CompletedProcess[str]":
        pipe = subprocess.PIPE
        words = self.arguments(*command)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                Running(process).kill()
                raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    @contextmanager
    def running(self, *command: str, output: Path) -> Iterator["Running"]:
        with output.open("wb") as file:
            process = subprocess.Popen(
                self.arguments(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
            running = Running(process, output)
            try:
                yield running
            finally:
                running.kill()


@dataclass
class Running:
    process: "subprocess.Popen[Any]"
    output: Path = Path(os.devnull)

    def signal(self, number: signal.Signals) -> None:
        """To the container's first process, as an engine does it."""
        for child in self._children():
            os.kill(child, number)

    def kill(self) -> None:
        """With the first process of its namespace, all others of it end."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.kill()
        self.process.wait(10)

    def cpu(self) -> float:
        """Seconds of its first process so far."""
        (child,) = self._children()
        user, system = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self, seconds: float = 30) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def said(self) -> str:
        return self.output.read_text(errors="replace")


class Network:
    """A network of its own with nothing but loopback: the ports are those of the files, whatever else runs here."""

    _HOLD = (
        "import fcntl, socket, struct, sys\n"
        "with socket.socket() as made: fcntl.ioctl(made, 0x8914, struct.pack('16sH22x', b'lo', 0x1 | 0x40))\n"
        "print('up', flush=True); sys.stdin.read()\n"
    )

    def __enter__(self) -> "Network":
        pipe = subprocess.PIPE
        command = ["unshare", "--net", sys.executable, "-c", self._HOLD]
        self._holder = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        self.pid = self._holder.pid
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    def inside(self, work: Callable[[], Any]) -> Any:
        """Do this from within: in a thread, since a network is a thread's."""
        result: list[Any] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/proc/{self.pid}/ns/net") as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NET):
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(work())
            except BaseException as error:  # raised again below, in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return result[0]

    def ask(
        self, port: int, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """OSError while nobody listens there."""

        def asked() -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request(method, path, headers=dict(headers or {}))
                response = connection.getresponse()
                return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            finally:
                connection.close()

        return self.inside(asked)
