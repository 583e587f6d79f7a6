"""How does the Open Cybersecurity Schema Framework say what an audit line says? (SIDECACHE_AUDIT_FORMAT=ocsf)

    denied without a valid token      Authentication (3002), Logon, failed
    what came to the data port        HTTP Activity (4002)
    everything else                   API Activity (6003)

What the schema has no place for is in `unmapped`, as the native line has it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proxy import __version__

VERSION = "1.3.0"

_API, _HTTP, _AUTHENTICATION = 6003, 4002, 3002
_CATEGORIES = {_API: 6, _HTTP: 4, _AUTHENTICATION: 3}
_INFORMATIONAL, _MEDIUM = 1, 3
_SUCCESS, _FAILURE, _OTHER_STATUS = 1, 2, 99
_OTHER, _LOGON = 99, 1
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_ON_DATA_PORT = frozenset({"tenant-conflict", "sensitive-access"})
_FAILED = frozenset({"denied", "refused"})
_ACTIVITIES = {
    "purge": _DELETE, "event": _DELETE, "bypass-on": _CREATE, "bypass-off": _DELETE, "sensitive-entry": _READ,
    "sensitive-read": _READ, "sensitive-write": _CREATE, "rollup": _READ,
}  # fmt: skip
_METHODS = {
    "CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9,
}  # fmt: skip


def event(record: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a record that has no place in a chain yet."""
    name, result, target = record["event"], record["result"], record["target"]
    actor = record["actor"] or {}
    kind = _kind(name, result)
    method, _, path = str(target.get("request", "")).partition(" ")
    activity = _LOGON if kind == _AUTHENTICATION else _ACTIVITIES.get(name, _UPDATE if kind == _API else _OTHER)
    if kind == _HTTP:
        activity = _METHODS.get(method, _OTHER)
    failed = name in ("denied", "tenant-conflict") or result in _FAILED
    user = {"name": actor.get("name") or "unknown", "type_id": 0}
    if record["tenant"] is not None:
        user["org"] = {"uid": record["tenant"]}
    if actor.get("role"):
        user["groups"] = [{"name": actor["role"]}]
    made: dict[str, Any] = {
        "class_uid": kind, "category_uid": _CATEGORIES[kind], "activity_id": activity,
        "type_uid": kind * 100 + activity, "time": _milliseconds(record["time"]),
        "severity_id": _MEDIUM if failed else _INFORMATIONAL,
        "status_id": _FAILURE if failed else _OTHER_STATUS if result == "counted" else _SUCCESS,
        "status_detail": record["reason"] or result, "message": name,
        "metadata": {
            "version": VERSION, "log_name": "audit",
            "product": {"name": "sidecache", "vendor_name": "sidecache", "version": __version__},
        },
        "src_endpoint": {"ip": actor["peer"]} if actor.get("peer") else {"name": "unknown"},
        "actor": {"user": user},
        "unmapped": {each: record[each] for each in ("event", "tenant", "target", "result", "reason")},
    }  # fmt: skip
    if "worker" in record:
        made["unmapped"]["worker"] = record["worker"]
    if method:
        made["http_request"] = {"http_method": method, "url": {"path": path}}
    if kind == _AUTHENTICATION:
        made |= {"user": user, "service": {"name": "sidecache admin"}}
    elif kind == _API:
        made["api"] = {"operation": name, "service": {"name": "sidecache"}}
    elif not method:
        made["http_request"] = {"http_method": "GET", "url": {"path": "/"}}
    return made


def _kind(name: str, result: str) -> int:
    if name == "denied" and result == "401":
        return _AUTHENTICATION
    return _HTTP if name in _ON_DATA_PORT else _API


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
