"""What a cluster would be given: the overlays of deploy/kubernetes as kustomize renders them."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cli.process import said

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
PROFILES = ("development", "staging", "production")
SECRETS = "/etc/sidecache/secrets"
LIMIT = 30.0

_KUSTOMIZE = [["kustomize", "build"], ["kubectl", "kustomize"]]
COMMAND = next((words for words in _KUSTOMIZE if shutil.which(words[0])), None)
needs_kustomize = pytest.mark.skipif(COMMAND is None, reason="neither kustomize nor kubectl is installed")

Manifest = dict[str, Any]


def read(text: str) -> list[Manifest]:
    return list(YAML(typ="safe", pure=True).load_all(text))


@dataclass(frozen=True)
class Rendered:
    """All manifests of one overlay."""

    all: list[Manifest]

    def named(self, kind: str, name: str) -> Manifest:
        (found,) = [each for each in self.all if each["kind"] == kind and each["metadata"]["name"] == name]
        return found

    def of(self, kind: str) -> list[Manifest]:
        return [each for each in self.all if each["kind"] == kind]

    @property
    def deployment(self) -> Manifest:
        return self.named("Deployment", "portal")

    @property
    def template(self) -> Manifest:
        return self.deployment["spec"]["template"]

    @property
    def pod(self) -> Manifest:
        return self.template["spec"]

    @property
    def sidecar(self) -> Manifest:
        (sidecar,) = self.pod["initContainers"]
        return sidecar

    @property
    def portal(self) -> Manifest:
        (portal,) = self.pod["containers"]
        return portal

    def environment(self) -> dict[str, str]:
        """Of the sidecar, as the kubelet makes it."""
        found: dict[str, str] = {}
        for source in self.sidecar.get("envFrom", []):
            found |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {each["name"]: each["value"] for each in self.sidecar.get("env", [])}

    def secret_keys(self) -> set[str]:
        """The files of the Secret that the environment names."""
        files = {value for name, value in self.environment().items() if name.endswith("_FILE")}
        assert all(Path(file).parent == Path(SECRETS) for file in files)
        return {Path(file).name for file in files}


def build(folder: Path) -> Rendered:
    assert COMMAND is not None
    done = subprocess.run([*COMMAND, str(folder)], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return Rendered(read(done.stdout))


@cache
def rendered(profile: str) -> Rendered:
    return build(FOLDER / "overlays" / profile)


def write_secrets(folder: Path, password: str) -> str:
    """What the README tells to put into the Secret, made with the commands that it names. The admin token."""
    folder.mkdir()
    for key, words in {"name-key": ["--name-key"], "encryption-keys": []}.items():
        code, out, _ = said("keygen", *words, cwd=folder)
        assert code == 0
        (folder / key).write_text(out)
    code, out, _ = said("keygen", "--admin", "ops", "operator", "--json", cwd=folder)
    assert code == 0
    made = json.loads(out)
    (folder / "admin-tokens").write_text(made["entry"])
    (folder / "redis-password").write_text(password)
    return str(made["token"])
