"""The document of some endpoints: paths, fields, answers, who may."""

from proxy.admin.access import Role
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.openapi import described


async def nothing(_):
    raise AssertionError("not called")


READ = Endpoint("GET", "/api/things/{thing}", nothing, "One thing.", (Role.VIEWER,), {"a": "what a is"},
                answers={200: "It.", 404: "None."})  # fmt: skip
WRITE = Endpoint("POST", "/api/things", nothing, "Another.", (Role.OPERATOR, Role.BACKEND), document={"b": text("b")})
RAW = Endpoint("PUT", "/api/things/{thing}", nothing, "Put.", raw=True)


def test_an_operation_has_its_parameters_answers_and_role():
    operation = described([READ])["paths"]["/api/things/{thing}"]["get"]
    assert [(each["name"], each["in"]) for each in operation["parameters"]] == [("thing", "path"), ("a", "query")]
    assert set(operation["responses"]) == {"200", "404", "400", "401", "403", "413", "415"}
    assert operation["description"] == "Needs the role viewer."
    assert operation["security"] == [{"token": []}, {"session": []}]


def test_methods_of_one_path_stand_together_with_an_identifier_each():
    document = described([READ, WRITE, RAW])
    assert {path: set(each) for path, each in document["paths"].items()} == {
        "/api/things/{thing}": {"get", "put"}, "/api/things": {"post"},
    }  # fmt: skip
    ids = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(set(ids)) == 3


def test_a_document_takes_no_unknown_members_and_a_raw_body_anything():
    paths = described([WRITE, RAW])["paths"]
    schema = paths["/api/things"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (schema["additionalProperties"], set(schema["properties"])) == (False, {"b"})
    assert set(paths["/api/things/{thing}"]["put"]["requestBody"]["content"]) == {"*/*"}
    assert "security" not in paths["/api/things/{thing}"]["put"]
    assert "401" not in paths["/api/things/{thing}"]["put"]["responses"]
