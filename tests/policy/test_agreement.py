"""The sources of an identity: who may establish a tenant, and who can only contradict."""

import math

import pytest

from proxy.policy.agreement import ABSENT, agree, claim
from proxy.policy.identity import Identity, IdentitySources
from proxy.policy.message import Fields
from proxy.policy.outcome import Reason

SOURCES = IdentitySources(tenant=("jwt.org_id", "header.x-org-id", "path.org-id"))


def who(claims=None, headers=(), *, trusted=False, parameters=None, sources=SOURCES):
    fields = Fields(headers)
    return agree(sources, claims=claims, headers=fields, peer_trusted=trusted, parameters=parameters or {})


def tenant(*args, **more):
    found = who(*args, **more)
    return found.tenant if isinstance(found, Identity) else found


@pytest.mark.parametrize(
    ("claims", "headers", "expected"),
    [
        # realistic
        ({"org_id": "org_a"}, [], "org_a"),
        ({"org_id": "org_a"}, [("X-Org-Id", "org_a")], "org_a"),
        ({"org_id": "org_a"}, [("X-Org-Id", "org_a"), ("x-org-id", "org_a")], "org_a"),
        ({"org_id": "org_a"}, [("X-Org-Id", "org_b")], Reason.TENANT_CONFLICT),
        ({"sub": "u1"}, [], Reason.NO_TENANT),
        (None, [], Reason.NO_CREDENTIALS),
        # pathological
        (None, [("X-Org-Id", "org_a")], Reason.NO_CREDENTIALS),
        ({"sub": "u1"}, [("X-Org-Id", "org_a")], Reason.NO_TENANT),
        ({"org_id": "org_a"}, [("X-Org-Id", "org_a"), ("X-Org-Id", "org_b")], Reason.TENANT_CONFLICT),
        ({"org_id": "org_a"}, [("X-Org-Id", "org_a, org_b")], Reason.TENANT_CONFLICT),
        ({"org_id": "org_a"}, [("X-Org-Id", "")], Reason.TENANT_CONFLICT),
        ({"org_id": "org_a"}, [("X_Org_Id", "org_b")], Reason.TENANT_CONFLICT),
        ({"org_id": "org_a"}, [("X-Org_Id", "org_b")], Reason.TENANT_CONFLICT),
        ({"org_id": "org_a"}, [("X_Org_Id", "org_a")], "org_a"),
        ({"org_id": "org_a"}, [("X-Org-Id", "ORG_A")], Reason.TENANT_CONFLICT),
    ],
)
def test_an_untrusted_header_can_only_contradict(claims, headers, expected):
    assert tenant(claims, headers) == expected


@pytest.mark.parametrize(
    ("claims", "headers", "expected"),
    [
        (None, [("X-Org-Id", "org_a")], "org_a"),
        ({"sub": "u1"}, [("X-Org-Id", "org_a")], "org_a"),
        ({"org_id": "org_b"}, [("X-Org-Id", "org_a")], Reason.TENANT_CONFLICT),
        (None, [("X-Org-Id", "org_a"), ("X-Org-Id", "org_b")], Reason.TENANT_CONFLICT),
        (None, [("X-Org-Id", "org a")], Reason.NO_TENANT),
        # anybody can send a look-alike through the trusted peer
        (None, [("X_Org_Id", "org_a")], Reason.NO_CREDENTIALS),
        (None, [("X-Org-Id", "org_a"), ("X_Org_Id", "org_b")], Reason.TENANT_CONFLICT),
    ],
)
@pytest.mark.isolation
def test_a_trusted_peers_header_establishes(claims, headers, expected):
    assert tenant(claims, headers, trusted=True) == expected


@pytest.mark.parametrize(
    ("claims", "parameters", "expected"),
    [
        ({"org_id": "org_a"}, {"org-id": "org_a"}, "org_a"),
        ({"org_id": "org_a"}, {"job-id": "org_b"}, "org_a"),
        ({"org_id": "org_a"}, {"org-id": "org_b"}, Reason.TENANT_CONFLICT),
        ({"org_id": "org_a"}, {"org-id": "org%5Fa"}, Reason.TENANT_CONFLICT),
        (None, {"org-id": "org_a"}, Reason.NO_CREDENTIALS),
        ({}, {"org-id": "org_a"}, Reason.NO_TENANT),
    ],
)
def test_a_path_can_only_contradict(claims, parameters, expected):
    assert tenant(claims, parameters=parameters) == expected


@pytest.mark.parametrize(
    "value",
    [None, "", "org_a\n", "org a", "org:a", "org_[a]", "{org}", "org_*", "орг", "o" * 65, 7, True, ["org_a"], {"a": 1}],
)
@pytest.mark.isolation
def test_a_tenant_that_is_not_a_plain_word_is_no_tenant(value):
    assert tenant({"org_id": value}) is Reason.NO_TENANT


def test_a_malformed_claim_beside_a_good_source_is_a_conflict():
    assert tenant({"org_id": ["org_a"]}, [("X-Org-Id", "org_a")], trusted=True) is Reason.TENANT_CONFLICT


@pytest.mark.parametrize(
    ("claims", "path", "expected"),
    [
        ({"org_id": "a"}, "org_id", "a"),
        ({"https://ns.example/org": "a"}, "https://ns.example/org", "a"),
        ({"app": {"org": {"id": "a"}}}, "app.org.id", "a"),
        ({"https://ns.example": {"org": "a"}}, "https://ns.example.org", "a"),
        ({"app.org": "literal", "app": {"org": "nested"}}, "app.org", "literal"),
        ({"app.b": {}, "app": {"b": {"c": "a"}}}, "app.b.c", "a"),
        ({"org_id": None}, "org_id", None),
        ({"app": "text"}, "app.org", ABSENT),
        ({}, "org_id", ABSENT),
        (None, "org_id", ABSENT),
    ],
)
def test_a_claim_is_found_by_its_literal_name_first(claims, path, expected):
    assert claim(claims, path) is expected or claim(claims, path) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auth0|ada", "auth0|ada"),
        ("u" * 256, "u" * 256),
        ("u" * 257, None),
        ("", None),
        ("a\x00b", None),
        ("a\nb", None),
        (7, None),
        (None, None),
        (["u"], None),
    ],
)
def test_a_user_is_a_short_text_without_control_characters(value, expected):
    found = who({"org_id": "org_a", "sub": value})
    assert isinstance(found, Identity)
    assert found.user == expected


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"permissions": ["a", "b", "a"]}, frozenset({"a", "b"})),
        ({"permissions": []}, frozenset()),
        ({"permissions": "read:jobs write:jobs"}, frozenset({"read:jobs", "write:jobs"})),
        ({"permissions": ""}, frozenset()),
        ({}, None),
        ({"permissions": None}, None),
        ({"permissions": ["a", 1]}, None),
        ({"permissions": {"a": 1}}, None),
    ],
)
@pytest.mark.isolation
def test_absent_roles_are_unknown_and_an_empty_list_is_a_value(claims, expected):
    found = who({"org_id": "org_a", **claims})
    assert isinstance(found, Identity)
    assert found.roles == expected


@pytest.mark.isolation
def test_user_and_roles_come_from_headers_of_a_trusted_peer_only():
    sources = IdentitySources(tenant=("header.x-org",), user="header.x-user", roles="header.x-roles")
    headers = [("X-Org", "org_a"), ("X-User", "ada"), ("X-Roles", "a, b")]
    assert who(None, headers, trusted=True, sources=sources) == Identity("org_a", "ada", frozenset({"a", "b"}))
    mixed = IdentitySources(user="header.x-user", roles="header.x-roles")
    assert who({"org_id": "org_a"}, headers, sources=mixed) == Identity("org_a", claims={"org_id": "org_a"})


def test_a_look_alike_makes_a_header_unknown():
    sources = IdentitySources(tenant=("header.x-org",), user="header.x-user", roles=None)
    headers = [("X-Org", "org_a"), ("X-User", "ada"), ("X_User", "eve")]
    assert who(None, headers, trusted=True, sources=sources) == Identity("org_a")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, math.inf),
        ({"exp": 1700000000}, 1700000000.0),
        ({"exp": 1700000000.5}, 1700000000.5),
        ({"exp": "1700000000"}, 0.0),
        ({"exp": True}, 0.0),
        ({"exp": math.nan}, 0.0),
        ({"exp": math.inf}, 0.0),
        ({"exp": 10**400}, 0.0),
        ({"exp": -1}, 0.0),
        ({"exp": None}, 0.0),
    ],
)
def test_a_token_without_a_usable_expiry_never_gets_a_hit(claims, expected):
    found = who({"org_id": "org_a", **claims})
    assert isinstance(found, Identity)
    assert found.expires == expected


@pytest.mark.parametrize("values", [("ada", "eve"), ("ada, eve",), ("ada,eve",), ("Moreau, Ada",)])
@pytest.mark.isolation
def test_a_user_header_with_several_members_names_nobody(values):
    sources = IdentitySources(tenant=("header.x-org",), user="header.x-user", roles=None)
    headers = [("X-Org", "org_a"), *(("X-User", value) for value in values)]
    assert who(None, headers, trusted=True, sources=sources) == Identity("org_a")
