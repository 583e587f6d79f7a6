"""Rules over the admin port: seen, checked, taken over; written only where nothing is at stake."""

import os

import pytest

from tests.admin.world import RULES, bearer

BROKEN = RULES.replace("15m", "15:00")


async def send(client, path, document=None, who="operator", status=200):
    async with client.post(path, json=document or {}, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


async def test_the_rules_in_force_are_shown(world, client):
    async with client.get("/api/rules", headers=bearer("viewer")) as answer:
        told = await answer.json()
    assert told["digest"] == world.rules.current.digest
    assert {"route": "GET /api/jobs", "kind": "read", "feature": "jobs", "scope": "tenant", "ttl": 900.0,
            "sensitive": False, "line": 8} in told["routes"]  # fmt: skip


async def test_a_text_is_checked_and_nothing_changes(world, client):
    told = await send(client, "/api/rules/validate", {"text": BROKEN}, "viewer")
    assert told["valid"] is False
    assert [(each["line"], each["path"]) for each in told["problems"]] == [(6, "features.jobs.ttl")]
    good = await send(client, "/api/rules/validate", {"text": RULES.replace("15m", "16m")}, "viewer")
    assert good["valid"] is True
    assert good["digest"] != world.rules.current.digest


async def test_a_reload_takes_the_file_or_keeps_what_is_in_force(world, client):
    before = world.rules.current.digest
    world.rules.file.write_text(RULES.replace("15m", "16m"))
    assert (await send(client, "/api/rules/reload"))["digest"] != before
    world.rules.file.write_text(BROKEN)
    told = await send(client, "/api/rules/reload", status=422)
    assert (told["valid"], told["problems"][0]["path"]) == (False, "features.jobs.ttl")
    assert [line["result"] for line in world.audited("rules-reload")] == ["refused", "done"]


async def test_in_development_good_rules_are_written_and_in_force(development):
    world, client = development
    os.chmod(world.rules.file, 0o640)
    await send(client, "/api/rules", {"text": RULES.replace("15m", "16m")}, None)
    assert world.rules.current.match("GET", "/api/jobs").route.ttl == 960
    assert "16m" in world.rules.file.read_text()
    assert world.rules.file.stat().st_mode & 0o777 == 0o640
    assert list(world.rules.file.parent.iterdir()) == [world.rules.file]


async def test_in_development_broken_rules_are_not_written(development):
    world, client = development
    await send(client, "/api/rules", {"text": BROKEN}, None, 422)
    assert world.rules.file.read_text() == RULES


async def test_a_file_that_cannot_be_written_is_said(development, monkeypatch):
    world, client = development

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("proxy.admin.ruling.os.replace", refused)
    told = await send(client, "/api/rules", {"text": RULES.replace("15m", "16m")}, None, 409)
    assert "Permission denied" in told["detail"]
    assert world.rules.file.read_text() == RULES
    assert list(world.rules.file.parent.iterdir()) == [world.rules.file]


async def test_elsewhere_nobody_writes_rules_not_even_an_inspector(world, client):
    await send(client, "/api/rules", {"text": RULES.replace("tenant", "public")}, "inspector", 403)
    assert world.rules.file.read_text() == RULES
    assert world.audited("denied")[0]["actor"]["name"] == "ida"


@pytest.mark.parametrize("document", [{}, {"text": 1}, {"text": ["a"]}])
@pytest.mark.parametrize("path", ["/api/rules", "/api/rules/validate"])
async def test_rules_are_one_text(development, path, document):
    _, client = development
    assert (await send(client, path, document, None, 400))["field"] == "text"


async def test_rules_that_are_too_long_are_refused(development):
    _, client = development
    assert (await send(client, "/api/rules/validate", {"text": "#" * (300 << 10)}, None, 413))["field"] == "text"


@pytest.mark.isolation
async def test_an_operator_of_one_tenant_reloads_no_rules(client):
    await send(client, "/api/rules/reload", who="operator-a", status=403)


WIDER = RULES.replace("    ttl: 15m\n", "    ttl: 15m\n    honour: false\n")


async def test_rules_that_share_more_are_in_force_when_an_inspector_accepts_their_digest(world, client):
    before = world.rules.current.digest
    world.rules.file.write_text(WIDER)
    refused = await send(client, "/api/rules/reload", status=422)
    assert refused["digest"] == before
    assert "sidecache plan OLD NEW --accept-widening" in refused["problems"][0]["message"]
    accept = {"accept-widening": refused["widening"]}
    denied = await send(client, "/api/rules/reload", accept, status=403)
    assert "inspector" in denied["detail"]
    assert world.rules.current.digest == before
    told = await send(client, "/api/rules/reload", accept, "inspector")
    assert (told["valid"], told["digest"], told["widening"]) == (True, refused["widening"], None)
    (line,) = world.audited("rules-widen")
    assert (line["actor"]["role"], line["result"]) == ("inspector", "done")
    assert line["target"] == {"digest": told["digest"], "accepted": refused["widening"], "before": before}


async def test_another_digest_than_the_files_accepts_nothing(world, client):
    world.rules.file.write_text(WIDER)
    told = await send(client, "/api/rules/reload", {"accept-widening": "0123456789ab"}, "inspector", 422)
    assert told["digest"] != told["widening"] is not None
    assert [line["result"] for line in world.audited("rules-widen")] == ["refused"]
