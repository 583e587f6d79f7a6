"""Lines that stay lines, whatever a client, an upstream or a library puts into them."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from proxy.telemetry.lines import Lines
from proxy.telemetry.logs import configure, logger, samples
from tests.serving.world import unsigned

TOKEN = unsigned()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging belongs to the process: put back what was there."""
    root, server = logging.getLogger(), logging.getLogger("aiohttp.server")
    before = root.handlers[:], root.level, server.level
    yield
    structlog.reset_defaults()
    root.handlers[:], level, server_level = before
    root.setLevel(level)
    server.setLevel(server_level)


class Stream(io.StringIO):
    lines: Lines | None = None

    def getvalue(self) -> str:
        """What was said until now: another thread writes it."""
        assert self.lines is None or self.lines.written(10)
        return super().getvalue()


class Terminal(Stream):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> io.StringIO:
    stream = Stream()
    stream.lines = configure(stream)
    return stream


def only_line(stream: io.StringIO) -> dict[str, object]:
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")
    return json.loads(stream.getvalue())


def test_an_event_is_one_json_object_with_its_level_and_time(stream):
    logger().warning("rules-refused", file="rules.yaml", problems=["rules.yaml:3:1: error: x"], ms=1.5, hit=True)
    line = only_line(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "rules-refused", "level": "warning", "file": "rules.yaml", "problems": ["rules.yaml:3:1: error: x"],
        "ms": 1.5, "hit": True,
    }  # fmt: skip


def test_what_is_below_the_level_is_not_written(stream):
    logger().debug("nobody")
    assert stream.getvalue() == ""


ATTACKS = [
    # realistic
    "/a\r\nFAKE: line",
    '/a\n{"event":"listening"}',
    "\x1b[2J\x1b]0;title\x07 ANSI",
    # pathological
    "C1 \x9b31m, DEL \x7f, NUL \x00",
    "\u2028 separators \u2029 and \u202e direction \u2066",
    "\udc80 lone surrogate",
]


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: [text], lambda text: {text: (text,)}])
def test_untrusted_text_is_inert_in_json(stream, text, wrap):
    logger().info("request", path=wrap(text))
    line = only_line(stream)
    assert str(line["path"]).isprintable()


@pytest.mark.parametrize("text", ATTACKS)
def test_untrusted_text_is_inert_on_a_terminal(text):
    terminal = Terminal()
    terminal.lines = configure(terminal)
    logger().info("request", path=text, other=[text])
    written = terminal.getvalue()
    assert written.count("\n") == 1
    written.encode()
    # the renderer's own colours aside
    for colour in range(100):
        written = written.replace(f"\x1b[{colour}m", "")
    assert written.rstrip("\n").isprintable(), written


def test_plain_text_stays_as_it_is(stream):
    logger().info("request", path="/api/jobs/77?q=Zürich&x=日本")
    assert only_line(stream)["path"] == "/api/jobs/77?q=Zürich&x=日本"


def test_a_long_value_is_cut(stream):
    logger().info("request", path="x" * 100_000, problems=["y" * 600] * 1000)
    line = only_line(stream)
    assert line["path"] == "x" * 512 + "..."
    assert line["problems"] == ["y" * 512 + "..."] * 50


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"Authorization: Bearer {TOKEN}",
        "authorization: bearer opaque-secret-value",
        f"/api/jobs?access_token={TOKEN}&page=2",
        "/callback?id_token=opaque-secret-value",
    ],
)
def test_no_token_is_ever_written(stream, text):
    logger().warning("tenant-conflict", request=text, more=[text], map={"k": text})
    written = stream.getvalue()
    assert "opaque-secret-value" not in written
    assert TOKEN not in written
    assert TOKEN.split(".")[1] not in written
    assert "(credential)" in written


def test_what_is_no_value_of_json_is_written_as_text(stream):
    logger().info("x", error=ValueError("a\nb"), raw=b"\x00", nothing=None)
    line = only_line(stream)
    assert (line["error"], line["raw"], line["nothing"]) == ("a\\nb", "b'\\x00'", None)


# Libraries


def test_a_librarys_warning_takes_the_same_form(stream):
    logging.getLogger("asyncio").warning("slow %s", "callback\nx")
    line = only_line(stream)
    assert (line["event"], line["logger"], line["message"]) == ("library", "asyncio", "slow callback\\nx")


def test_a_librarys_exception_is_one_line_with_its_place(stream):
    try:
        raise ValueError("broken\nbadly")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    line = only_line(stream)
    assert (line["level"], line["error"]) == ("error", "ValueError: broken\\nbadly")
    assert "test_logs.py:" in str(line["at"])


def test_a_clients_bad_bytes_are_not_logged(stream):
    logging.getLogger("aiohttp.server").error("Error handling request from 192.0.2.1")
    assert stream.getvalue() == ""


def test_the_lines_of_a_worker_say_which_it_is(stream):
    stream.lines = configure(stream, worker=3)
    logger().info("hello", worker=7)  # of another: that is what it is about
    logger().info("hello")
    assert [json.loads(line)["worker"] for line in stream.getvalue().splitlines()] == [7, 3]


# Where the lines go


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", [Full(), "closed"])
def test_a_line_that_cannot_be_written_stops_nothing(broken):
    stream = io.StringIO() if broken == "closed" else broken
    lines = configure(stream)
    if broken == "closed":
        stream.close()
    logger().error("x")
    logging.getLogger("asyncio").error("x")
    assert lines.written(10)
    logger().error("x")
    assert lines.written(10)


def test_lines_go_to_standard_error_unless_said_otherwise(capsys):
    lines = configure()
    logger().info("hello")
    assert lines.written(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "hello"
    assert sys.stderr is not None


def test_a_scrape_finds_what_was_lost():
    lines = configure(io.StringIO())
    lines.lost = 7
    assert [(each.name, each.value) for each in samples()] == [("sidecache_log_lost_total", 7)]
