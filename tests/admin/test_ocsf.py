"""Each kind of audit line as an event of the schema: its class, what that class requires, and nothing left out."""

from typing import Any

import pytest

from proxy.admin.ocsf import event

OTTO = {"name": "otto", "role": "operator", "peer": "10.0.0.7"}
# What the classes of OCSF 1.3 require, the constraint "at least one of" as a set.
REQUIRED: dict[int, list[set[str]]] = {
    6003: [{"actor"}, {"api"}, {"src_endpoint"}],
    4002: [{"http_request", "http_response"}, {"src_endpoint", "dst_endpoint"}],
    3002: [{"user"}, {"service", "dst_endpoint"}],
}
BASE = {
    "activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid", "status_id",
    "status_detail", "message", "unmapped",
}  # fmt: skip


def record(name: str, **more: Any) -> dict[str, Any]:
    return {
        "time": "2023-11-14T22:13:20.500Z", "event": name, "actor": OTTO, "tenant": "org_a", "target": {},
        "result": "done", "reason": None, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "kind", "activity", "status"),
    [
        (record("purge", target={"tags": ["jobs"]}), 6003, 4, 1),
        (record("event", result="pending"), 6003, 4, 1),
        (record("bypass-on"), 6003, 1, 1),
        (record("bypass-off"), 6003, 4, 1),
        (record("sensitive-entry"), 6003, 2, 1),
        (record("rules-reload", result="refused"), 6003, 3, 2),
        (record("rollup", actor=None, tenant=None, target={"counts": []}), 6003, 2, 1),
        (record("denied", result="401", target={"request": "GET /api/audit"}), 3002, 1, 2),
        (record("denied", result="403", target={"request": "GET /api/audit"}), 6003, 3, 2),
        (record("denied", actor=None, result="counted", target={"more": 7}), 6003, 3, 2),
        (record("tenant-conflict", actor=None, result="denied", target={"request": "GET /api/jobs"}), 4002, 3, 2),
        (record("tenant-conflict", actor=None, result="counted", target={"more": 7}), 4002, 99, 2),
        (record("sensitive-access", result="hit 200", target={"request": "PUT /api/x"}), 4002, 7, 1),
        (record("sensitive-access", result="write 200", target={"request": "QUERY /api/x"}), 4002, 99, 1),
    ],
)
def test_each_line_is_an_event_of_its_class(said, kind, activity, status):
    made = event(said)
    assert (made["class_uid"], made["activity_id"], made["status_id"]) == (kind, activity, status)
    assert made["type_uid"] == kind * 100 + activity
    assert made["category_uid"] == kind // 1000
    assert made["time"] == 1_700_000_000_500
    assert made.keys() >= BASE
    assert all(made.keys() & some for some in REQUIRED[kind])
    assert {"version", "product"} <= made["metadata"].keys()
    assert made["src_endpoint"].keys() & {"ip", "name"}
    told = made["unmapped"]
    assert {name: told[name] for name in ("event", "tenant", "target", "result", "reason")} == {
        name: said[name] for name in ("event", "tenant", "target", "result", "reason")
    }


def test_the_actor_is_a_user_with_role_organisation_and_address():
    made = event(record("purge"))
    assert made["actor"]["user"] == {
        "name": "otto",
        "type_id": 0,
        "org": {"uid": "org_a"},
        "groups": [{"name": "operator"}],
    }
    assert made["src_endpoint"] == {"ip": "10.0.0.7"}


def test_the_request_has_its_place_and_the_worker_too():
    made = event(record("sensitive-access", target={"request": "GET /api/jobs/1/applications"}, worker=3))
    assert made["http_request"] == {"http_method": "GET", "url": {"path": "/api/jobs/1/applications"}}
    assert made["unmapped"]["worker"] == 3
