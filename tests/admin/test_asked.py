"""Fields of a request, each checked: by table, on the value itself."""

from typing import Any

import pytest

from proxy.admin.access import Actor, Role
from proxy.admin.asked import Asked, each_of, for_all_tenants, own_tenant
from proxy.admin.problems import Refused

ANYBODY = Actor("otto", Role.OPERATOR)
OF_A = Actor("anna", Role.OPERATOR, "org_a")


def asked(actor: Actor = ANYBODY, **fields: Any) -> Asked:
    return Asked(None, actor, fields)  # type: ignore[arg-type]  # no field is read from the request itself


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda each: each.text("x"), "a", "a"), (lambda each: each.flag("x"), True, True),
        (lambda each: each.flag("x"), "true", True), (lambda each: each.flag("x"), "0", False),
        (lambda each: each.number("x", 1, 0, 9), "7", 7), (lambda each: each.number("x", 1, 0, 9), 7, 7),
        (lambda each: each.texts("x"), "a,b,a", ("a", "b")), (lambda each: each.texts("x"), ["a"], ("a",)),
        (lambda each: each.duration("x", 900), "15m", 900.0),
        (lambda each: each.chosen("x", ("a", "b"), "a"), "b", "b"),
        (lambda each: each.tenant("x"), "org_b", "org_b"), (lambda each: each.required("x"), "a", "a"),
    ],
)  # fmt: skip
def test_a_field_is_read_from_text_or_json_alike(read, value, expected):
    assert read(asked(x=value)) == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda each: each.text("x"), ""), (lambda each: each.text("x"), "a\x00"), (lambda each: each.text("x"), 1),
        (lambda each: each.text("x"), "x" * 2000), (lambda each: each.text("x"), ["a", "b"]),
        (lambda each: each.flag("x"), 1), (lambda each: each.flag("x"), "yes"),
        (lambda each: each.number("x", 1, 0, 9), "10"), (lambda each: each.number("x", 1, 0, 9), True),
        (lambda each: each.number("x", 1, 0, 9), 1.5), (lambda each: each.number("x", 1, 0, 9), "٣"),
        (lambda each: each.number("x", 1, 0, 9), "9" * 5000),
        (lambda each: each.texts("x"), []), (lambda each: each.texts("x"), ""), (lambda each: each.texts("x"), [""]),
        (lambda each: each.texts("x"), ["x" * 301]), (lambda each: each.duration("x", 60), "61s"),
        (lambda each: each.duration("x", 60), "0s"), (lambda each: each.duration("x", 60), 5),
        (lambda each: each.chosen("x", ("a",), "a"), "c"), (lambda each: each.tenant("x"), "a\n"),
        (lambda each: each.tenant("x"), ""), (lambda each: each.required("y"), "a"),
    ],
)  # fmt: skip
def test_what_is_no_such_value_is_refused_by_name(read, value):
    with pytest.raises(Refused) as refused:
        read(asked(x=value))
    assert refused.value.field in ("x", "y")
    assert refused.value.status == 400


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("actor", "said", "tenant"),
    [(ANYBODY, None, None), (ANYBODY, "org_b", "org_b"), (OF_A, None, "org_a"), (OF_A, "org_a", "org_a")],
)
def test_a_token_of_one_tenant_speaks_of_it_named_or_not(actor, said, tenant):
    assert own_tenant(actor, said, "tenant") == tenant


@pytest.mark.isolation
def test_a_token_of_one_tenant_speaks_of_no_other_and_not_of_all():
    with pytest.raises(Refused, match="another tenant") as refused:
        own_tenant(OF_A, "org_b", "tenant")
    assert refused.value.status == 403
    with pytest.raises(Refused, match="every tenant"):
        for_all_tenants(OF_A)
    for_all_tenants(ANYBODY)


def test_each_of_a_list_is_made_with_its_place():
    assert each_of([{"a": 1}, {"a": 2}], "xs", 2, lambda each, place: (each["a"], place)) == [
        (1, "xs[0]"), (2, "xs[1]"),
    ]  # fmt: skip
    for wrong in (None, [], {}, "x", [{}] * 3):
        with pytest.raises(Refused):
            each_of(wrong, "xs", 2, lambda each, place: each)
