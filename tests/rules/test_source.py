"""Strict YAML with places: whatever the text holds, the answer is a tree or problems, soon, and never an exception."""

import pytest

from proxy.rules.source import MAX_BYTES, Node, Problem, decode, load, suggestion


def read(text: str) -> Node:
    root, problems = load(text, "rules.yaml")
    assert root is not None
    assert problems == []
    return root


def messages(text: str) -> list[str]:
    return [str(problem) for problem in load(text, "rules.yaml")[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # realistic
        ("a: 1\nb: two\n", {"a": 1, "b": "two"}),
        ("a: [x, 'y', \"z\"]", {"a": ["x", "y", "z"]}),
        ("{404: 30s}", {"404": "30s"}),
        ("a: true\nb: False\nc: ~\nd: null\ne:\n", {"a": True, "b": False, "c": None, "d": None, "e": None}),
        ("a: 1.5\nb: -7\nc: +3\nd: 1e3\n", {"a": 1.5, "b": -7, "c": 3, "d": 1000.0}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        # what YAML 1.1 would have made something else of
        ("a: no\nb: on\nc: 12:30:45\nd: 010\n", {"a": "no", "b": "on", "c": "12:30:45", "d": 10}),
        ("on: 1\nno: 2", {"on": 1, "no": 2}),
        ("a: 'true'\nb: '1'\nc: ''\n", {"a": "true", "b": "1", "c": ""}),
        ("a: 1e309\nb: .nan\nc: 0x10\n", {"a": float("inf"), "b": ".nan", "c": "0x10"}),
        ("a: " + "9" * 5000, {"a": "9" * 5000}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("%YAML 1.2\n---\na: 1\n", {"a": 1}),
    ],
)
def test_scalars_follow_the_core_schema_and_keys_stay_texts(text, expected):
    assert read(text).plain() == expected


def test_a_node_is_at_its_key_or_where_its_item_begins():
    root = read("features:\n  jobs:\n    read:\n      - GET /a\n      - route: GET /b\n        ttl: 1m\n")
    jobs = root.at("features", "jobs")
    assert (jobs.path, jobs.line, jobs.column) == ("features.jobs", 2, 3)
    line = jobs.at("read", 0)
    assert (line.path, line.line, line.column, line.text) == ("features.jobs.read[0]", 4, 9, "GET /a")
    ttl = jobs.at("read", 1, "ttl")
    assert (ttl.path, ttl.line, ttl.column) == ("features.jobs.read[1].ttl", 6, 9)


def test_the_deepest_node_on_the_way_stands_for_what_does_not_exist():
    root = read("a: [x]")
    assert root.at("a", 5).path == "a"
    assert root.at("a", "b").path == "a"
    assert root.at("z") is root
    assert root.at("a", 0, "b").path == "a[0]"


def test_a_value_is_shown_as_it_was_written():
    root = read("a: 010\nb: [x]\nc: {d: 1}\ne: " + "x" * 80)
    assert root.at("a").shown() == "'010'"
    assert root.at("b").shown() == "a list"
    assert root.at("c").shown() == "a mapping"
    assert len(root.at("e").shown()) == 62


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "rules.yaml:3:1: error: duplicate key 'a' (first at line 1)"),
        ("a: {b: 1, b: 2}", "rules.yaml:1:11: error: duplicate key 'b' (first at line 1)"),
        ("a: 1\na: {b: [1, {c: 2}]}\n", "rules.yaml:2:1: error: duplicate key 'a' (first at line 1)"),
    ],
)
def test_a_duplicate_key_names_both_lines_and_the_first_one_counts(text, expected):
    root, problems = load(text, "rules.yaml")
    assert [str(problem) for problem in problems] == [expected]
    assert root is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # realistic
        ("", "rules.yaml:1:1: error: the file is empty"),
        ("# nothing\n", "rules.yaml:1:1: error: the file is empty"),
        ("a:\n  jobs:\n    ttl: 15m\n    re", "rules.yaml:4:7: error: while scanning a simple key, "),
        ("a:\n\tb: 1", "rules.yaml:2:1: error: while scanning for the next token, "),
        ("read: [GET /api/{id}]", "rules.yaml:1:17: error: while parsing a flow sequence, "),
        ('a: "x', "rules.yaml:1:6: error: while scanning a quoted scalar, "),
        ("a: &x 1\nb: *x\n", "rules.yaml:1:4: error: anchors (&name) are not allowed: write the value out"),
        ("b: *x\n", "rules.yaml:1:4: error: aliases (*name) are not allowed: write the value out"),
        ("a: 1\n---\nb: 2\n", "rules.yaml:2:1: error: a second document: rules are one document"),
        ("%YAML 1.1\n---\na: 1", "rules.yaml:2:1: error: only YAML 1.2 is read"),
        # pathological
        ("a: !!python/object:os.system x", "rules.yaml:1:4: error: tags (!name) are not allowed"),
        ("%TAG ! tag:x,2000:\n---\na: !foo 1", "rules.yaml:3:4: error: tags (!name) are not allowed"),
        ("? [a]\n: b", "rules.yaml:1:3: error: a key must be a plain text"),
        ("[" * 5000, "rules.yaml:1:21: error: nested deeper than 20 levels"),
        ("{a: " * 5000, "rules.yaml:1:81: error: nested deeper than 20 levels"),
        ("- " * 5000, "rules.yaml:1:41: error: nested deeper than 20 levels"),
        (
            "".join(" " * depth + "a:\n" for depth in range(600)),
            "rules.yaml:21:21: error: nested deeper than 20 levels",
        ),
        ("a: \x00", "rules.yaml:1:4: error: a control character is not allowed here"),
        ("a: 1\nb: \x1b[31m", "rules.yaml:2:4: error: a control character is not allowed here"),
        ('a: "\\ud800"', "rules.yaml:1:4: error: half a surrogate pair is not a character"),
        ('a: "\\Uffffffff"', "rules.yaml:1:1: error: not YAML: "),
        ("%YAML 9.9\n---\na: 1", "rules.yaml:1:1: error: "),
        ("x" * (MAX_BYTES + 1), "rules.yaml:1:1: error: the file is larger than 256 KiB"),
        ("é" * (MAX_BYTES // 2 + 1), "rules.yaml:1:1: error: the file is larger than 256 KiB"),
    ],
)
def test_an_unreadable_text_is_one_problem_at_its_place(text, expected):
    root, problems = load(text, "rules.yaml")
    assert root is None
    assert len(problems) == 1
    assert str(problems[0]).startswith(expected)


def test_a_syntax_error_keeps_the_problems_before_it():
    assert len(messages("a: 1\na: 2\nb: [")) == 2


def test_only_flow_style_gets_the_hint_about_quoting_routes():
    assert "quote a route" in messages("read: [GET /api/{id}]")[0]
    assert "quote a route" not in messages('a: "x')[0]


def test_a_path_that_is_printed_holds_no_control_characters():
    root = read('"a\\e[31m": {b: 1}\n')
    (child,) = root.value.values()
    assert child.path == "'a\\x1b[31m'"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1", "a: 1"),
        (b"\xef\xbb\xbfa: 1", "a: 1"),
        (b"a: 1\nb: \xff", Problem("r", 2, 4, "error", "", "the file is not UTF-8 text")),
        (b"\xff\xfea", Problem("r", 1, 1, "error", "", "the file is not UTF-8 text")),
        (b" " * (MAX_BYTES + 1), Problem("r", 1, 1, "error", "", "the file is larger than 256 KiB")),
    ],
)
def test_bytes_are_utf_8_or_a_problem(data, expected):
    assert decode(data, "r") == expected


def test_a_suggestion_is_made_only_for_a_near_word():
    assert suggestion("tll", ["ttl", "grace"]) == " (did you mean 'ttl'?)"
    assert suggestion("prod", ["production", "staging"]) == " (did you mean 'production'?)"
    assert suggestion("elephant", ["ttl", "grace"]) == ""


def test_a_problem_reads_like_a_compilers():
    assert str(Problem("f", 1, 2, "error", "a.b", "is wrong")) == "f:1:2: error: a.b: is wrong"
    assert str(Problem("f", 1, 2, "error", "", "is wrong")) == "f:1:2: error: is wrong"
