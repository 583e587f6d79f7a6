"""What does the compose file say? Its services as an engine reads them, and how one runs without an engine."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.deploy.container import Container, Mount, Network, Root
from tests.deploy.dockerfile import Stage

FILE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
# What the base image of Redis says and the compose file relies on.
REDIS = {"workdir": "/data", "environment": {"PATH": "/usr/local/bin:/usr/bin:/bin"}}


def document() -> dict[str, Any]:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", FILE.read_text())
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document()["services"]
    return found


def words(said: str | list[str]) -> list[str]:
    """A command in either of its forms."""
    return shlex.split(said) if isinstance(said, str) else list(said)


class Topology:
    """Services below roots of their own on one network, whose names all mean loopback: their ports differ."""

    def __init__(self, image: Stage, roots: Mapping[str, Root], folder: Path, network: Network) -> None:
        self._image = image
        self._roots = roots
        self.folder = folder
        self._network = network
        self._hosts = folder / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {' '.join(services())}\n")

    def container(self, name: str) -> Container:
        said = services()[name]
        ours = said["image"].startswith("sidecache")
        user = said.get("user", self._image.user if ours else "0:0")
        return Container(
            self._roots[name],
            {**(self._image.environment if ours else REDIS["environment"]), **said.get("environment", {})},
            user=user,
            workdir=self._image.workdir if ours else REDIS["workdir"],
            mounts=[Mount("/etc/hosts", self._hosts, read_only=True), *self._mounts(said)],
            capabilities=said.get("cap_add", ()),
            network=self._network,
        )

    def command(self, name: str) -> list[str]:
        said = services()[name]
        ours = said["image"].startswith("sidecache")
        entrypoint = words(said.get("entrypoint", self._image.entrypoint if ours else []))
        default = self._image.command if ours and "entrypoint" not in said else ()
        return [*entrypoint, *words(said.get("command", list(default)))]

    def health(self, name: str) -> list[str]:
        test = services()[name].get("healthcheck", {}).get("test", ["CMD", *self._image.health])
        return ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else list(test[1:])

    def _mounts(self, said: Mapping[str, Any]) -> list[Mount]:
        made = []
        for each in said.get("volumes", ()):
            source, target, *mode = each.split(":")
            at = FILE.parent / source if source.startswith(".") else self.folder / source
            if not source.startswith("."):
                at.mkdir(exist_ok=True)  # as an engine makes a volume: root's
            made.append(Mount(target, at.resolve(), read_only=mode == ["ro"]))
        for each in said.get("tmpfs", ()):
            target, _, options = each.partition(":")
            size, mode = options.split(",")
            made.append(Mount(target, size=size.removeprefix("size="), options=mode))
        return made
