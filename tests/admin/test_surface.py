"""The endpoints together: each operation once, none with a field nobody explains."""

from tests.admin.test_api import all_endpoints


async def test_every_field_says_what_it_is_and_every_operation_what_it_does(world):
    found = all_endpoints(world)
    assert len(found) == 31
    for name, endpoint in found.items():
        assert endpoint.summary, name
        assert all(endpoint.query.values()), name


async def test_only_post_put_and_delete_change_anything(world):
    """Their needs begin at operator or backend; what looks needs a viewer, an inspector or nobody."""
    changing = {"operator", "backend"}
    for name, endpoint in all_endpoints(world).items():
        if endpoint.method == "GET" and "values" not in name:
            assert not changing.intersection(endpoint.needs), name
