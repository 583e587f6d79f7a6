"""Routes read like the lines of rules.yaml they come from."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from proxy.policy.route import Assertion, Kind, Route
from tests.builders import match, route


def test_a_route_reads_like_its_line():
    assert str(route(methods=("PUT", "PATCH"), pattern="/api/jobs/{job-id}")) == "PUT|PATCH /api/jobs/{job-id}"


def test_an_assertion_reads_like_its_line():
    assert str(Assertion(("data", "org_id"), "tenant")) == "response.data.org_id == tenant"


def test_a_route_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        route().__setattr__("ttl", 1.0)


def test_routes_and_matches_are_hashable_whatever_they_hold():
    assert hash(route()) == hash(route())
    assert hash(match(job_id="1")) == hash(match(job_id="1"))


def test_the_default_of_negative_cannot_be_shared_by_writing_to_it():
    negative: Any = Route("f", Kind.READ, ("GET",), "/").negative
    with pytest.raises(TypeError):
        negative[404] = 1.0
