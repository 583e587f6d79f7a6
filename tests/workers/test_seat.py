"""What a worker tells and is told: the contents of its messages. Whole processes are tested in test_supervisor."""

from types import SimpleNamespace

import pytest

from proxy.rules.source import Problem
from proxy.workers.seat import packed, unpacked


@pytest.mark.parametrize("accepted", ["", "0123456789ab"])
@pytest.mark.parametrize("content", [b"", b"version: 1\n", b"\xff\x00\xfe"])
def test_a_content_of_the_rules_file_arrives_as_it_is_with_what_is_accepted(content, accepted):
    assert unpacked(packed(SimpleNamespace(latest=content, accepted=accepted))) == (content, accepted)


def test_that_the_file_cannot_be_read_arrives_too():
    problem = Problem("rules.yaml", 1, 1, "error", "", "cannot be read: is a directory")
    assert unpacked(packed(SimpleNamespace(latest=problem, accepted=""))) == (problem, "")
