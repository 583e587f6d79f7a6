"""The chain of the audit log, in both forms: whatever is done to it is found, and where."""

import orjson
import pytest

from proxy.admin.chain import START, hash_of, linked, verify

RECORD = {
    "time": "2023-11-14T22:13:20.000Z", "event": "purge",
    "actor": {"name": "otto", "role": "operator", "peer": "10.0.0.7"}, "tenant": "org_a",
    "target": {"tags": ["jobs:0"]}, "result": "done", "reason": "INC-42",
}  # fmt: skip


def chained(form, count=3, previous=START):
    lines = []
    for number in range(1, count + 1):
        line, written = linked({**RECORD, "target": {"tags": [f"jobs:{number}"]}}, number, previous, form)
        previous = line["hash"]
        lines.append(written.rstrip(b"\n"))
    return lines


def test_a_native_line_says_who_did_what_to_whom_when_and_why():
    line, written = linked(RECORD, 1, START, "native")
    assert orjson.loads(written) == line
    assert line == {"log": "audit", "number": 1, **RECORD, "previous": START, "hash": line["hash"]}


@pytest.mark.parametrize("form", ["native", "ocsf"])
@pytest.mark.parametrize(
    ("tampered", "broken_at", "problem"),
    [
        (lambda lines: lines, None, ""),
        (lambda lines: lines[:1] + lines[2:], 2, "dropped or moved"),
        (lambda lines: [lines[0], lines[2], lines[1]], 2, "dropped or moved"),
        (lambda lines: [lines[0], lines[1].replace(b"otto", b"anna"), lines[2]], 2, "was changed"),
        (lambda lines: [lines[0], lines[1].replace(b'"number":2', b'"number":1'), lines[2]], 2, "was changed"),
        (lambda lines: [lines[0], b"{", lines[2]], 2, "no line of an audit log"),
        (lambda lines: [lines[0], b"", lines[2]], 2, "no line of an audit log"),
        (lambda lines: [b"[1]", *lines], 1, "no line of an audit log"),
        (lambda lines: [lines[0], b'{"unmapped":{"chain":1}}', lines[2]], 2, "no line of an audit log"),
    ],
)
def test_whatever_is_done_to_it_is_found_at_its_line(form, tampered, broken_at, problem):
    verdict = verify(tampered(chained(form)))
    assert (verdict.broken_at, problem in verdict.problem) == (broken_at, True)


def test_a_chain_may_begin_anew_only_where_a_process_does():
    first, second = chained("native"), chained("ocsf")
    assert verify([*first, *second]).broken_at is None
    assert verify([*first, *second[1:]]).broken_at == 4


@pytest.mark.parametrize("form", ["native", "ocsf"])
def test_lines_cut_off_at_the_beginning_are_told_by_the_hash_that_is_followed(form):
    lines = chained(form)
    assert verify(lines).follows is None
    cut = verify(lines[1:])
    assert (cut.lines, cut.broken_at, cut.follows) == (2, None, hash_of(lines[0]))


def test_one_chain_may_go_on_in_the_other_form():
    first = chained("native")
    second = chained("ocsf", previous=hash_of(first[-1]))
    verdict = verify([*first, *second])
    assert (verdict.lines, verdict.broken_at, verdict.last_hash) == (6, None, hash_of(second[-1]))


def test_among_other_lines_only_those_of_the_log_count_and_one_that_is_missed_is_noticed():
    one, two, three = chained("native")
    others = [b'{"event": "listening"}', b"Traceback (most recent call last):", b""]
    verdict = verify([*others, one, *others, two, three], among_others=True)
    assert (verdict.lines, verdict.broken_at, verdict.last_hash) == (3, None, hash_of(three))
    hidden = two.replace(b'"log":"audit"', b'"log":"other"')
    assert verify([*others, one, hidden, three], among_others=True).broken_at == 6


def test_an_empty_log_is_whole():
    assert verify([]) == verify(iter(()))
    assert verify([]).last_hash == START


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b"{}", b'{"log": "audit"}', b'{"log": "audit", "hash": 1}'])
def test_what_has_no_hash_has_none(line):
    assert hash_of(line) is None
