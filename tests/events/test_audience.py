"""Who gets which event, by tenant, role, user and topic."""

import pytest

from proxy.events.audience import Reader, covers, is_known, roles
from proxy.policy.identity import Identity

ADA = Reader("org_a", "auth0|ada", frozenset({"read:applications"}))


@pytest.mark.parametrize(
    ("to", "gets"),
    [
        ("tenant", True),
        ("role:read:applications", True),
        ("role:read:jobs", False),
        ("role:read", False),
        ("role:", False),
        ("roles:read:applications", True),
        ("roles:read:applications read:jobs", False),
        ("roles:", False),
        ("user:auth0|ada", True),
        ("user:auth0|eve", False),
        ("user:", False),
        ("", False),
        ("everybody", False),
        ("tenant:org_a", False),
        ("gap", False),
    ],
)
def test_an_audience(to, gets):
    assert ADA.gets("application.submitted", to) is gets


def test_whose_user_is_not_known_gets_nothing_that_is_for_a_user():
    nobody = Reader("org_a", None, frozenset())
    assert not nobody.gets("a", "user:None")
    assert not nobody.gets("a", "user:")
    assert nobody.gets("a", "tenant")


@pytest.mark.parametrize("identity", [Identity(None, "u1"), Identity()])
@pytest.mark.isolation
def test_whose_tenant_is_not_known_is_no_reader(identity):
    assert Reader.of(identity) is None


def test_roles_that_are_not_known_are_none():
    assert Reader.of(Identity("org_a", "u1", None)) == Reader("org_a", "u1", frozenset())


@pytest.mark.parametrize(
    ("topic", "name", "covered"),
    [
        ("application.submitted", "application.submitted", True),
        ("application.submitted", "application.submitted.late", False),
        ("application.*", "application.submitted", True),
        ("application.*", "applications", False),
        ("application.*", "application", False),
        ("job", "job.created", False),
    ],
)
def test_a_topic_covers(topic, name, covered):
    assert covers(topic, name) is covered
    assert is_known(topic, frozenset({"other", name})) is covered


def test_an_audience_of_all_that_is_required():
    assert roles({"b", "a"}) == "roles:a b"
    assert roles(()) == ""


def test_topics_narrow_and_never_widen():
    narrow = ADA._replace(topics=("job.*",))
    assert narrow.gets("job.created", "tenant")
    assert not narrow.gets("application.submitted", "tenant")
    assert not narrow.gets("job.created", "role:write:jobs")
