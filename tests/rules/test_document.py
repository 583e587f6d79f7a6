"""The models: what an editor shows of them, and how levels say things."""

import re
from pathlib import Path

from proxy.rules.document import UNAVAILABLE, Document, Settings
from proxy.rules.source import load
from proxy.rules.validate import block_in
from tests.rules.texts import accepted


def test_a_level_says_only_what_it_holds():
    level = Settings.model_validate({"if-error": "1m"})
    assert level.says("if_error")
    assert not level.says("grace")
    assert (level.if_error, level.grace) == (60, 0)


def test_keys_are_written_with_hyphens():
    assert {"if-error", "max-body", "assert"} <= set(Settings.known_keys())


def test_every_key_has_a_description_for_the_editor():
    def undescribed(block):
        return [name for name, info in block.model_fields.items() if not info.description]

    blocks = [Document, *_blocks(Document)]
    assert {block.__name__: undescribed(block) for block in blocks if undescribed(block)} == {}
    assert len(blocks) > 10


def _blocks(model):
    for info in model.model_fields.values():
        block = block_in(info.annotation)
        if block is not None:
            yield block
            yield from _blocks(block)


def test_every_key_is_in_the_reference():
    reference = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    words = set(re.findall(r"[a-z_-]+", reference))
    keys = {key for block in (Document, *_blocks(Document)) for key in block.known_keys()}
    assert sorted(keys - words) == []
    assert [key for key in sorted(UNAVAILABLE) if key not in reference] == []


def test_the_examples_of_the_reference_are_yaml_that_says_something():
    reference = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", reference, re.S)
    assert len(examples) >= 7
    for example in examples:
        root, problems = load(example, "rules.md")
        assert root is not None, example
        assert problems == []
    accepted(examples[0])
