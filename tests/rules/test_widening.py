"""Outside development an environment may tighten what everybody has, and never loosen it."""

import pytest

from tests.rules.texts import accepted, refused

BASE = """\
version: 1
identity: {tenant: [jwt.org_id]}
defaults: {ttl: 1m}
features:
  a:
    scope: role
    sensitive: true
    encrypt: all
    require: [read:a]
    read: ['GET /a/{x}']
    write: [POST /a]
environments:
  ENVIRONMENT: CHANGE
"""

LOOSER = [
    ("{features: {a: {scope: tenant}}}", "features.a.scope: loosens scope role to tenant of GET /a/{x} outside dev"),
    (
        "{features: {a: {sensitive: false}}}",
        "features.a.sensitive: drops sensitive from GET /a/{x} outside development",
    ),
    (
        "{features: {a: {encrypt: sensitive}}}",
        "features.a.encrypt: drops encrypt: all from GET /a/{x} outside development",
    ),
    ("{features: {a: {require: []}}}", "features.a.require: no longer requires read:a for GET /a/{x}"),
    ("{features: {a: {read: [{route: 'GET /a/{y}', scope: tenant}]}}}", "features.a.read[0].scope: loosens scope role"),
    ("{identity: {tenant: [jwt.org_id, header.x-org]}}", "identity.tenant: changes who is asking outside development"),
    ("{identity: {roles: jwt.roles}}", "identity.roles: changes who is asking outside development"),
]


def text(environment: str, change: str) -> str:
    return BASE.replace("ENVIRONMENT", environment).replace("CHANGE", change)


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize(("change", "expected"), LOOSER)
def test_loosening_is_refused(environment, change, expected):
    (found,) = refused(text(environment, change), profile="development")
    assert found.partition(": ")[2].startswith(f"environments.{environment}.{expected}")


@pytest.mark.parametrize(("change", "_"), LOOSER)
def test_development_may_loosen(change, _):
    accepted(text("development", change), profile="development")


@pytest.mark.parametrize(
    "change",
    [
        "{features: {a: {scope: user}}}",
        "{features: {a: {require: [read:a, read:b]}}}",
        "{features: {a: {ttl: 5m}}}",
        "{features: {a: {codec: gzip}}}",
        "{features: {b: {read: [GET /b], write: []}}}",
        "{identity: {tenant: [jwt.org_id]}}",
    ],
)
def test_tightening_is_accepted(change):
    accepted(text("staging", change), profile="staging")


def test_one_setting_that_loosens_many_reads_is_told_once():
    many = text("staging", "{features: {a: {scope: tenant}}}").replace("['GET /a/{x}']", "['GET /a/{x}', GET /a]")
    assert len(refused(many)) == 1


def test_everything_wider_in_one_environment_is_told_at_once():
    change = "{identity: {user: jwt.id}, features: {a: {scope: tenant, sensitive: false}}}"
    assert len(refused(text("staging", change))) == 3
