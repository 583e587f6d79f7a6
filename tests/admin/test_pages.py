"""The page: whole, from this package, under a policy that lets nothing else in."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from proxy.admin.pages import POLICY
from tests.admin.world import port

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "proxy" / "admin" / "dashboard"
OURS = [path for path in sorted(DASHBOARD.iterdir()) if not path.name.startswith("uplot")]


async def test_the_page_and_all_that_it_loads_are_there(client):
    async with client.get("/") as answer:
        page = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
    loaded = re.findall(r'(?:src|href)="(dashboard/[^"]+)"', page)
    assert {"dashboard/main.js", "dashboard/uplot.js", "dashboard/uplot.css"} <= set(loaded)
    for path in DASHBOARD.glob("*.js"):
        imported = re.findall(r'from "\./([a-z-]+\.js)"', path.read_text())
        loaded += [f"dashboard/{name}" for name in imported]
    for path in sorted(set(loaded)):
        async with client.get(f"/{path}") as answer:
            assert answer.status == 200, path


@pytest.mark.parametrize("path", ["/", "/dashboard/main.js", "/dashboard/base.css"])
async def test_its_policy_lets_nothing_in_from_elsewhere(client, path):
    async with client.get(path) as answer:
        headers = answer.headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img")} == {"'self'"}
    assert "unsafe" not in POLICY
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


async def test_what_the_browser_has_is_not_sent_again(client):
    async with client.get("/dashboard/uplot.js") as answer:
        tag = answer.headers["ETag"]
        assert answer.headers["Cache-Control"] == "no-cache"
    async with client.get("/dashboard/uplot.js", headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Faccess.py", "index.html%00", "__init__.py"])
async def test_no_other_file_is_given_out(client, name):
    async with client.get(f"/dashboard/{name}") as answer:
        assert answer.status == 404


async def test_data_is_kept_nowhere_and_is_no_page(client):
    async with client.get("/api/session") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(("profile", "status"), [("staging", 200), ("development", 403)])
async def test_a_port_that_asks_for_tokens_shows_its_log_in_under_any_name(tmp_path, profile, status):
    """Where no token is needed, a name could have been made to resolve to this machine."""
    async with port(tmp_path, profile) as (_, client):
        for path in ("/", "/api/session"):
            async with client.get(path, headers={"Host": "sidecache.example"}) as answer:
                assert answer.status == status
        async with client.get("/api/cache/status", headers={"Host": "sidecache.example"}) as answer:
            assert answer.status in (401, 403)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_part_makes_markup_of_a_text_or_names_another_place(path):
    text = path.read_text()
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text) == []
    assert re.findall(r"\bon[a-z]+=\"|style=\"|javascript:", text) == []
    assert [url for url in re.findall(r"https?://[^\s\"')]+", text) if "www.w3.org" not in url] == []
    assert re.findall(r"localStorage\.(?!getItem\(\"theme\"\)|setItem\(\"theme\"|removeItem\(\"theme\"\))", text) == []
    assert len(text.splitlines()) < 450


@pytest.mark.process
def test_a_wheel_has_the_page_and_uplots_licence(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=50)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"proxy/admin/dashboard/{path.name}" for path in DASHBOARD.iterdir()} <= names
    assert "proxy/admin/dashboard/uplot-licence.txt" in names
