"""One operation as a value."""

from proxy.admin.endpoint import Endpoint, flag, text, texts


async def nothing(_):
    raise AssertionError("not called")


def test_the_fields_of_query_and_body_are_one_list():
    endpoint = Endpoint(
        "DELETE", "/x", nothing, "x", query={"a": "a", "b": "b"}, document={"b": text("b"), "c": flag("c")}
    )
    assert endpoint.known == ("a", "b", "c")
    assert Endpoint("GET", "/x", nothing, "x").known == ()


def test_schemas_carry_their_meaning():
    assert text("why", enum=["a"]) == {"type": "string", "description": "why", "enum": ["a"]}
    assert flag("x")["type"] == "boolean"
    assert texts("x")["items"] == {"type": "string"}
