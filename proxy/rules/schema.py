"""What does an editor need to complete and check rules.yaml? The JSON Schema of the document's own models."""

import json
from typing import Any

from proxy.rules.document import Document

_LEFT_OUT = frozenset({"title", "default"})  # noise in a hover; the descriptions name the defaults


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, from the models that validate the file."""
    schema = _tidy(Document.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sidecache rules", **schema}


def schema_text() -> str:
    """The schema as rules.schema.json holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(schema: Any, *, names: bool = False) -> Any:
    """Without generated titles and defaults, and without null: an empty value is an error in rules.yaml.

    `names`: the keys of this mapping are names of properties or definitions, not keywords.
    """
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {
        key: _tidy(value, names=not names and key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or key not in _LEFT_OUT
    }
    if not names and "patternProperties" in tidied:
        tidied["additionalProperties"] = False
    choices = [each for each in tidied.get("anyOf", ()) if each != {"type": "null"}] if not names else []
    if len(choices) == 1:
        del tidied["anyOf"]
        return {**choices[0], **tidied}
    if choices:
        tidied["anyOf"] = choices
    return tidied
