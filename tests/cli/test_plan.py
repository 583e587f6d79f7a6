"""The command plan: what it prints, its exit codes, and that a widening is accepted at the admin port."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import typer
from typer.testing import CliRunner

from proxy.cli import plan
from proxy.errors import SidecacheError
from proxy.rules.compile import compile_rules
from tests.rules.test_replay import RULES, line

app = typer.Typer(callback=lambda: None)
plan.register(app)


@pytest.fixture
def files(tmp_path: Path):
    def written(new: str) -> list[str]:
        for name, text in (("old.yaml", RULES), ("new.yaml", new)):
            (tmp_path / name).write_text(text)
        return [str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")]

    return written


def said(*words: str, code: int) -> str:
    env = {"SIDECACHE_PROFILE": None, "SIDECACHE_ADMIN_LISTEN": None, "SIDECACHE_TOKEN": "secret"}
    result = CliRunner().invoke(app, ["plan", *words], env=env, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


WIDER = RULES.replace("60s", "60s\n    scope: public")
NARROWER = RULES.replace("60s", "60s\n    scope: user")


def test_the_same_rules(files):
    assert said(*files(RULES), code=0) == "nothing changes\n"


def test_what_changes_is_told_route_by_route(files):
    output = said(*files(NARROWER.replace("'PATCH /jobs/{job-id}'", "'PUT /jobs/{job-id}'")), code=0)
    assert "changed  GET /jobs  (jobs, read)\n           scope tenant -> user\n" in output
    assert "added    PUT /jobs/{job-id}  (jobs, write)\n" in output
    assert "removed  PATCH /jobs/{job-id}  (jobs, write)\n" in output
    assert "2 of these start with an empty cache" in output


def test_a_write_that_purges_less_is_told(files):
    text = RULES.replace("write: []", "write: [POST /jobs]").replace("write: [POST /jobs, ", "write: [")
    assert "changed  POST /jobs  (search, write)\n           feature jobs -> search\n" in said(*files(text), code=0)


def test_a_widening_has_an_exit_code_of_its_own(files):
    output = said(*files(WIDER), code=3)
    assert f"widens   {Path(output.split('widens   ')[1].split(':')[0])}:7: features.jobs.read[0]: loosens" in output


def test_a_mistake_in_either_file_is_told_as_check_does(files):
    old, new = files("version: 2")
    assert "new.yaml:1:1: error: version" in said(old, new, code=1)


def test_an_access_log_is_replayed(files, tmp_path):
    log = tmp_path / "access.jsonl"
    log.write_text("\n".join([line(0, "GET /jobs"), "garbage", '{"event": "x"}', line(90, "GET /jobs"), ""]))
    output = said(*files(RULES.replace("60s", "5m")), "--replay", str(log), code=0)
    assert "2 requests replayed, 1 other lines, 1 malformed; 0.0% were hits then\n  line 2 is no JSON\n" in output
    assert output.splitlines()[-1].split() == ["jobs", "2", "0.0%", "50.0%"]


def test_as_json(files, tmp_path):
    log = tmp_path / "access.jsonl"
    log.write_text(line(0, "GET /jobs") + "\n")
    told = json.loads(said(*files(WIDER), "--replay", str(log), "--json", code=3))
    assert [each["request"] for each in told["routes"]][:2] == ["GET /jobs", "GET /jobs/{job-id}"]
    assert told["widening"][0]["path"] == "features.jobs.read[0]"
    assert told["replay"]["total"] == {
        "requests": 1, "hits_before": 0, "hits_after": 0, "hit_ratio_before": 0.0, "hit_ratio_after": 0.0,
    }  # fmt: skip
    assert told["replay"]["changed"] == [
        {"request": "GET /jobs", "before": "jobs, scope tenant", "after": "jobs, scope public", "count": 1}
    ]


class Port(BaseHTTPRequestHandler):
    """An admin port that takes rules over."""

    asked: list[tuple[str, str, dict[str, str]]]
    answer: tuple[int, dict[str, object]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append((self.path, self.headers["authorization"], body))
        status, document = type(self).answer
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port():
    handler = type("Handler", (Port,), {"asked": [], "answer": (200, {"file": "rules.yaml", "digest": "d"})})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield handler, f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_widening_is_accepted_by_its_digest(files, port):
    handler, address = port
    output = said(*files(WIDER), "--accept-widening", "--admin", address, code=0)
    digest = compile_rules(WIDER).digest
    assert handler.asked == [("/api/rules/reload", "Bearer secret", {"accept-widening": digest})]
    assert output.splitlines()[-1] == "in force: rules.yaml, digest d"


def test_what_widens_nothing_needs_nobody_to_accept_it(files, port):
    handler, address = port
    said(*files(NARROWER), "--accept-widening", "--admin", address, code=0)
    assert handler.asked == []


def test_a_sidecar_that_holds_other_rules_says_so(files, port):
    handler, address = port
    handler.answer = (422, {"problems": [{"file": "rules.yaml", "line": 7, "message": "loosens scope"}]})
    with pytest.raises(SidecacheError, match=r"^rules.yaml:7: loosens scope$"):
        said(*files(WIDER), "--accept-widening", "--admin", address, code=2)
