"""The chain of the audit log: what breaks it is found, what cannot be written waits, floods are counted."""

import asyncio
import io
from pathlib import Path

import orjson
import pytest

from proxy.admin.access import Actor, Role
from proxy.admin.audit import MAX_WAITING, MOST_A_MINUTE, START, Audit, AuditFile, AuditStream, verify
from tests.doubles import FakeClock

OTTO = Actor("otto", Role.OPERATOR, None, "10.0.0.7")


async def written(file: Path, count: int = 3, clock: FakeClock | None = None) -> list[bytes]:
    audit = Audit(AuditFile(file), clock or FakeClock(), pytest.fail)
    for index in range(count):
        audit.record("purge", OTTO, tenant="org_a", target={"tags": [f"jobs:{index}"]}, reason="INC-42")
    await audit.close()
    return await asyncio.to_thread(lambda: file.read_bytes().splitlines())


async def test_a_line_says_who_did_what_to_whom_when_and_why(tmp_path):
    (line,) = await written(tmp_path / "audit", 1)
    said = orjson.loads(line)
    assert said.pop("hash") != said.pop("previous") == START
    assert said == {
        "log": "audit", "time": "2023-11-14T22:13:20.000Z", "number": 1, "event": "purge",
        "actor": {"name": "otto", "role": "operator", "peer": "10.0.0.7"}, "tenant": "org_a",
        "target": {"tags": ["jobs:0"]}, "result": "done", "reason": "INC-42",
    }  # fmt: skip


async def test_a_restart_goes_on_with_the_chain(tmp_path):
    first = await written(tmp_path / "audit")
    lines = await written(tmp_path / "audit")
    assert lines[:3] == first
    assert orjson.loads(lines[3])["previous"] == orjson.loads(lines[2])["hash"]
    verdict = verify(lines)
    assert (verdict.lines, verdict.broken_at, verdict.last_hash) == (6, None, orjson.loads(lines[5])["hash"])


@pytest.mark.parametrize(
    ("tampered", "broken_at", "problem"),
    [
        (lambda lines: lines[:1] + lines[2:], 2, "dropped or moved"),
        (lambda lines: [lines[0], lines[2], lines[1]], 2, "dropped or moved"),
        (lambda lines: [lines[0], lines[1].replace(b"otto", b"anna"), lines[2]], 2, "was changed"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 3, None),
        (lambda lines: [lines[0], b"{", lines[2]], 2, "no line of an audit log"),
        (lambda lines: [lines[0], b"", lines[2]], 2, "no line of an audit log"),
        (lambda lines: [b"[1]", *lines], 1, "no line of an audit log"),
    ],
)
async def test_whatever_is_done_to_it_is_found_at_its_line(tmp_path, tampered, broken_at, problem):
    verdict = verify(tampered(await written(tmp_path / "audit")))
    if problem is None:  # a line twice: the copy begins a chain as the first of a process does, what follows does not
        assert verdict.broken_at in (None, broken_at)
    else:
        assert (verdict.broken_at, problem in verdict.problem) == (broken_at, True)


async def test_a_chain_may_begin_anew_only_where_a_process_does(tmp_path):
    first, second = await written(tmp_path / "a"), await written(tmp_path / "b")
    assert verify([*first, *second]).broken_at is None
    assert verify([*first, *second[1:]]).broken_at == 4


async def test_an_empty_log_is_whole():
    assert verify([]) == verify(iter(()))
    assert verify([]).last_hash == START


async def test_standard_output_gets_the_same_lines():
    stream = io.StringIO()
    audit = Audit(AuditStream(stream), FakeClock(), pytest.fail)
    audit.record("denied", OTTO)
    await audit.close()
    assert verify(stream.getvalue().encode().splitlines()).lines == 1


class Full:
    """A disk without room, until there is some."""

    def __init__(self) -> None:
        self.full = True
        self.got = b""

    def last_hash(self) -> str:
        return START

    def write(self, lines: bytes) -> None:
        if self.full:
            raise OSError("no space left on device")
        self.got += lines


async def test_what_cannot_be_written_is_said_and_written_later_in_order():
    disk, said = Full(), list[str]()
    audit = Audit(disk, FakeClock(), said.append)  # type: ignore[arg-type]  # a stand-in
    audit.record("purge", OTTO)
    await audit.close()
    assert said == ["OSError: no space left on device"] * len(said)
    assert said
    disk.full = False
    audit.record("purge", OTTO)
    await audit.close()
    verdict = verify(disk.got.splitlines())
    assert (verdict.lines, verdict.broken_at) == (2, None)


async def test_a_disk_that_stays_full_keeps_no_more_than_a_bound():
    audit = Audit(Full(), FakeClock(), lambda why: None)  # type: ignore[arg-type]  # a stand-in
    for _ in range(MAX_WAITING + 5):
        audit.record("purge", OTTO)
    assert audit.lost == 5
    await audit.close()


async def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    file = tmp_path / "audit"
    await written(file, 1)
    before = file.read_bytes()

    class Short(io.FileIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]  # as a full disk does
            return super().write(data[:5])

    monkeypatch.setattr(Path, "open", lambda self, mode, buffering=-1: Short(self, mode.replace("b", "")))
    with pytest.raises(OSError, match="no room"):
        AuditFile(file).write(b"x" * 100)
    monkeypatch.undo()
    assert file.read_bytes() == before


async def test_what_anybody_can_cause_is_counted_beyond_a_bound():
    clock = FakeClock()
    audit = Audit(None, clock, pytest.fail)
    numbers = [audit.record("denied", OTTO) for _ in range(MOST_A_MINUTE + 7)]
    assert numbers[-7:] == [None] * 7
    assert audit.record("purge", OTTO) is not None
    clock.advance(60)
    audit.record("purge", OTTO)
    (counted,) = [line for line in audit.recent(event="denied") if line["result"] == "counted"]
    assert counted["target"] == {"more": 7}


async def test_lines_are_found_by_tenant_actor_event_and_time():
    clock = FakeClock()
    audit = Audit(None, clock, pytest.fail)
    audit.record("purge", OTTO, tenant="org_a")
    clock.advance(100)
    audit.record("bypass-on", Actor("ida", Role.INSPECTOR), tenant="org_b")
    assert [line["event"] for line in audit.recent()] == ["bypass-on", "purge"]
    assert [line["event"] for line in audit.recent(tenant="org_a")] == ["purge"]
    assert [line["event"] for line in audit.recent(actor="ida")] == ["bypass-on"]
    assert [line["event"] for line in audit.recent(since=clock() - 50)] == ["bypass-on"]


def test_a_place_that_cannot_be_written_is_known_at_the_start(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        AuditFile(tmp_path / "nowhere" / "audit").last_hash()
