"""The bill of materials: all that runs is in it, with licence and hashes, and reviewed in docs/dependencies.md."""

import importlib.util
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sbom() -> Any:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "deploy" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(sbom: Any) -> dict[str, Any]:
    return sbom.document()


def test_every_component_has_what_a_reviewer_needs(made):
    assert len(made["components"]) > 40
    for each in made["components"]:
        assert each["licenses"], each["name"]
        (reference,) = each["externalReferences"]
        assert reference["hashes"], each["name"]
        assert all(re.fullmatch("[0-9a-f]{64}", digest["content"]) for digest in reference["hashes"])
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" == each["bom-ref"]


def test_what_is_declared_is_there_and_what_developing_takes_is_not(made):
    scopes = {each["name"]: each["scope"] for each in made["components"]}
    assert {"aiohttp", "redis", "cryptography", "hiredis", "uvloop"} <= scopes.keys()
    assert (scopes["aiohttp"], scopes["botocore"], scopes["opentelemetry-sdk"]) == ("required", "optional", "optional")
    assert scopes.keys().isdisjoint({"pytest", "ruff", "mypy", "hypothesis", "uv"})


def test_the_graph_names_components_only_and_reaches_all_that_is_required(made):
    edges = {each["ref"]: each["dependsOn"] for each in made["dependencies"]}
    own = made["metadata"]["component"]["bom-ref"]
    assert edges.keys() == {own, *(each["bom-ref"] for each in made["components"])}
    reached, waiting = set(), [own]
    while waiting:
        if (each := waiting.pop()) not in reached:
            reached.add(each)
            waiting += edges[each]
    required = {each["bom-ref"] for each in made["components"] if each["scope"] == "required"}
    assert required <= reached <= edges.keys()


def test_the_same_lock_gives_the_same_document(sbom, made):
    assert json.dumps(sbom.document()) == json.dumps(made)
    assert uuid.UUID(made["serialNumber"].removeprefix("urn:uuid:")).version == 5
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)


def test_everything_that_runs_is_reviewed(sbom, made):
    """Also what is only brought along: it runs all the same."""
    review = (ROOT / "docs" / "dependencies.md").read_text().partition("## Review\n")[2].partition("\n## ")[0]
    lines = [line for line in review.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    reviewed = {sbom.normal(name) for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    assert {each["name"] for each in made["components"]} - reviewed == set()
    assert reviewed - {each["name"] for each in made["components"]} == set()
    assert all(len(row) == 6 and all(row) for row in rows), [row for row in rows if len(row) != 6 or not all(row)]
