"""The JSON Schema for editors says what the validator says."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from proxy.rules.schema import json_schema, schema_text
from proxy.rules.source import load
from proxy.rules.validate import validate

ROOT = Path(__file__).parents[2]
GOOD = "version: 1\nfeatures: {a: {ttl: 1m, read: [GET /a]}}\n"


def schema_accepts(text: str) -> bool:
    root, _ = load(text, "rules.yaml")
    assert root is not None
    return Draft202012Validator(json_schema()).is_valid(root.plain())


def models_accept(text: str) -> bool:
    root, problems = load(text, "rules.yaml")
    assert root is not None
    return not problems and not validate(root, "rules.yaml").problems


def test_the_shipped_schema_is_in_step():
    assert (ROOT / "rules.schema.json").read_text() == schema_text()


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(json_schema())


def test_the_shipped_rules_fit_the_schema_and_name_it():
    text = (ROOT / "rules.yaml").read_text()
    assert schema_accepts(text)
    assert text.startswith("# yaml-language-server: $schema=./rules.schema.json\n")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD + "defaults: {negative: {404: 30s}, require: [a], query: [q]}",
        GOOD + "identity: {tenant: jwt.org_id}",
        GOOD + "session: {logout: GET /out, role-change: [PUT /r, {route: PUT /s}]}",
        GOOD + "tests: [{request: GET /, as: {org_id: a}, json: {a: null}, expect: {because: no-rule}}]",
        GOOD + "environments: {staging: {features: {a: {ttl: origin}}}}",
        GOOD + "defaults: {grace: 15}",
        GOOD + "defaults: {grace: '15'}",
        GOOD + "defaults: {grace: }",
        GOOD + "defaults: {quota: }",
        GOOD + "defaults: {scope: all}",
        GOOD + "defaults: {ttl: 010s}",
        GOOD + "defaults: {dry-run: true}",
        GOOD + "defaults: {sensitive: 1}",
        GOOD + "defaults: {encrypt: all, codec: gzip}",
        GOOD + "defaults: {encrypt: none}",
        GOOD + "defaults: {codec: brotli}",
        GOOD + "defaults: {negative: {200: 30s}}",
        GOOD + "identity: {tenant: org_id}",
        GOOD + "tests: [{request: GET /, expect: {becuase: no-rule}}]",
        GOOD + "session: {role-change: [{user: path.x}]}",
        "version: 2\nfeatures: {}",
        "version: 1",
        "version: 1\nfeatures: {A: {}}",
        "version: 1\nfeatures: {a: {read: GET /a}}",
        "version: 1\nfeatures: {a: {read: [{ttl: 1m}]}}",
        "version: 1\nfeatures: {a: {write: [{route: PUT /a, ttl: 1m}]}}",
    ],
)
def test_the_schema_and_the_models_agree(text):
    assert schema_accepts(text) is models_accept(text)


def test_every_property_can_be_hovered_over():
    def undescribed(schema, path=""):
        if isinstance(schema, dict):
            for name, each in schema.get("properties", {}).items():
                if "description" not in each and "$ref" not in each:
                    yield f"{path}.{name}"
            for name, each in schema.items():
                yield from undescribed(each, f"{path}.{name}")
        elif isinstance(schema, list):
            for each in schema:
                yield from undescribed(each, path)

    assert list(undescribed(json_schema())) == []
