"""What is inside? A CycloneDX 1.6 document of all that runs, from requirements.lock and the environment of `make`.

    python deploy/sbom.py [FILE]        (sbom.cdx.json)

Needs no network and gives the same bytes for the same lock: no time, and a serial number made from the content.
"""

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from proxy import __version__

ROOT = Path(__file__).parents[1]
EXTRAS = ("aws", "otel")  # what somebody may add; not what developing takes
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def normal(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Version and SHA-256 of every distribution file, by name."""
    found = {}
    for part in re.split(r"\n(?=[A-Za-z0-9])", text):
        if (pin := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", part)) is not None:
            found[normal(pin[1])] = pin[2], _HASH.findall(part)
    return found


def needed(requirements: list[str], extra: str = "") -> Iterator[tuple[str, str]]:
    """Names of what these ask for on this machine, each with the extra that it is to have."""
    for line in requirements:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            yield normal(asked.name), ""
            for each in asked.extras:
                yield normal(asked.name), each


def closure(requirements: list[str]) -> dict[str, set[str]]:
    """All that these bring along, and what each of it depends on."""
    found: dict[str, set[str]] = {}
    waiting = list(needed(requirements))
    seen = set()
    while waiting:
        if (each := waiting.pop()) in seen:
            continue
        seen.add(each)
        name, extra = each
        more = list(needed(distribution(name).requires or [], extra))
        found.setdefault(name, set()).update(child for child, _ in more if child != name)
        waiting += more
    return found


def licences(installed: Distribution) -> list[dict[str, Any]]:
    said = installed.metadata
    if expression := said.get("License-Expression"):
        return [{"expression": expression}]
    classified = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or () if line.startswith("License")]
    names = [name for name in classified if name != "OSI Approved"] or [(said.get("License") or "").partition("\n")[0]]
    return [{"license": {"name": name}} for name in names if name]


def component(name: str, scope: str, pins: dict[str, tuple[str, list[str]]]) -> dict[str, Any]:
    version, hashes = pins[name]
    installed = distribution(name)
    if installed.version != version:
        raise SystemExit(f"{name} {installed.version} is installed, and {version} in the lock: run `make`")
    return {
        "type": "library", "bom-ref": f"pkg:pypi/{name}@{version}", "name": name, "version": version, "scope": scope,
        "purl": f"pkg:pypi/{name}@{version}", "description": installed.metadata.get("Summary") or "",
        "licenses": licences(installed),
        "externalReferences": [{
            "type": "distribution", "url": f"https://pypi.org/project/{name}/{version}/",
            "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(hashes)],
        }],
    }  # fmt: skip


def document() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = locked((ROOT / "requirements.lock").read_text())
    required = closure(project["dependencies"])
    optional = closure([line for extra in EXTRAS for line in project["optional-dependencies"][extra]])
    graph = {**optional, **required}
    reference = {name: f"pkg:pypi/{name}@{pins[name][0]}" for name in graph}
    own = f"pkg:pypi/sidecache@{__version__}"
    roots = {name for name, _ in needed(project["dependencies"])}
    made: dict[str, Any] = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": own, "name": "sidecache", "version": __version__, "purl": own,
            "description": project["description"],
        }},
        "components": [
            component(name, "required" if name in required else "optional", pins) for name in sorted(graph)
        ],
        "dependencies": [
            {"ref": own, "dependsOn": sorted(reference[name] for name in roots)},
            *({"ref": reference[name], "dependsOn": sorted(reference[child] for child in graph[name])}
              for name in sorted(graph)),
        ],
    }  # fmt: skip
    content = json.dumps(made, sort_keys=True)
    return {**made, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"}


def main() -> None:
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "sbom.cdx.json")
    try:
        made = document()
    except PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: run `make`") from None
    file.write_text(json.dumps(made, indent=2) + "\n")
    print(f"{file}: {len(made['components'])} components")


if __name__ == "__main__":
    main()
