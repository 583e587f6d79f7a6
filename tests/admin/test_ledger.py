"""Where lines go: whole and in order, whoever enters them; what cannot be written waits."""

import asyncio
import io
import os
import threading
from pathlib import Path

import orjson
import pytest

from proxy.admin import ledger
from proxy.admin.chain import START, verify
from proxy.admin.ledger import KEPT, MAX_WAITING, AuditFile, AuditStream, Ledger, opened
from proxy.errors import ConfigError
from tests.admin.test_chain import RECORD
from tests.doubles import settle


async def written(file: Path, count: int = 3, form="native") -> list[bytes]:
    made = Ledger(AuditFile(file), pytest.fail, form=form)
    for _ in range(count):
        await made.enter([RECORD])
    await made.close()
    return await asyncio.to_thread(lambda: file.read_bytes().splitlines())


@pytest.mark.parametrize("form", ["native", "ocsf"])
async def test_a_restart_goes_on_with_the_chain_in_whatever_form(tmp_path, form):
    first = await written(tmp_path / "audit")
    lines = await written(tmp_path / "audit", form=form)
    assert lines[:3] == first
    verdict = verify(lines)
    assert (verdict.lines, verdict.broken_at) == (6, None)
    assert verify(lines[3:]).broken_at is None
    assert START not in {orjson.loads(lines[3]).get("previous"), str(orjson.loads(lines[3]).get("unmapped"))[-66:-2]}


async def test_a_new_file_is_for_its_owner_alone(tmp_path):
    await written(tmp_path / "audit")
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0


async def test_what_many_enter_at_the_same_time_is_one_chain_with_all_of_it(tmp_path):
    ledger = Ledger(AuditFile(tmp_path / "audit"), pytest.fail)
    entered = await asyncio.gather(*(ledger.enter([{**RECORD, "worker": number}] * 3) for number in range(20)))
    lines = await asyncio.to_thread(lambda: (tmp_path / "audit").read_bytes().splitlines())
    assert (verify(lines).lines, verify(lines).broken_at) == (60, None)
    assert [orjson.loads(line) for line in lines] == [line for each in entered for line in each]
    assert ledger.recent() == [orjson.loads(line) for line in reversed(lines)]


async def test_when_it_was_entered_it_is_written(tmp_path):
    ledger = Ledger(AuditFile(tmp_path / "audit"), pytest.fail)
    await ledger.enter([RECORD])
    assert (tmp_path / "audit").read_bytes().count(b"\n") == 1


async def test_standard_output_gets_the_same_lines(capfd):
    ledger = Ledger(AuditStream(), pytest.fail)
    await ledger.enter([RECORD, RECORD])
    assert verify(capfd.readouterr().out.encode().splitlines()).lines == 2


async def test_a_line_that_an_output_took_half_of_goes_on_where_it_ended():
    """A pipe whose reader is slow, and that does not wait."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    complaints: list[str] = []
    ledger = Ledger(AuditStream(writes), complaints.append)
    count, got = 400, b""
    for _ in range(count):
        await ledger.enter([RECORD])
    assert complaints
    os.set_blocking(reads, False)
    while ledger._waiting:
        got += os.read(reads, 1 << 20)
        await ledger.close()
    os.close(writes)
    os.set_blocking(reads, True)
    while chunk := os.read(reads, 1 << 20):
        got += chunk
    os.close(reads)
    assert (verify(got.splitlines()).lines, verify(got.splitlines()).broken_at) == (count, None)


async def test_without_a_sink_lines_are_kept_up_to_a_bound():
    ledger = Ledger(None, pytest.fail)
    await ledger.enter([RECORD] * (KEPT + 5))
    assert [line["number"] for line in ledger.recent()] == list(range(KEPT + 5, 5, -1))


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
    ledger = Ledger(disk, said.append)  # type: ignore[arg-type]  # a stand-in
    await ledger.enter([RECORD])
    assert said == ["OSError: no space left on device"]
    disk.full = False
    await ledger.enter([RECORD])
    await ledger.close()
    verdict = verify(disk.got.splitlines())
    assert (verdict.lines, verdict.broken_at) == (2, None)


async def test_a_disk_that_stays_full_keeps_no_more_than_a_bound():
    ledger = Ledger(Full(), lambda why: None)  # type: ignore[arg-type]  # a stand-in
    await ledger.enter([RECORD] * (MAX_WAITING + 5))
    assert ledger.lost == 5
    await ledger.close()


class Stopped:
    """A reader that has stopped: what is written to it does not return."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def last_hash(self) -> str:
        return START

    def write(self, lines: bytes) -> None:
        self.goes_on.wait()


async def test_a_reader_that_has_stopped_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(ledger, "LAST", 0.05)
    reader, said = Stopped(), list[str]()
    made = Ledger(reader, said.append)  # type: ignore[arg-type]  # a stand-in
    entering = [asyncio.ensure_future(made.enter([RECORD] * 2)) for _ in range(2)]
    await settle()
    await made.close()
    assert (made.lost, said) == (4, ["nobody took the last 4 lines"])
    for each in entering:
        each.cancel()
    await asyncio.wait(entering)
    reader.goes_on.set()


async def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    file = tmp_path / "audit"
    await written(file, 1)
    before = file.read_bytes()

    class Short(io.FileIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]  # as a full disk does
            return super().write(data[:5])

    monkeypatch.setattr(ledger, "open", lambda path, mode, **how: Short(path, mode.replace("b", "")), raising=False)
    with pytest.raises(OSError, match="no room"):
        AuditFile(file).write(b"x" * 100)
    monkeypatch.undo()
    assert file.read_bytes() == before


@pytest.mark.parametrize("half", [b'{"log": "audit", "ti', b"\xff"])
async def test_behind_half_a_line_of_a_machine_that_went_down_the_chain_goes_on(tmp_path, half):
    file = tmp_path / "audit"
    first = await written(file, 2)
    file.write_bytes(file.read_bytes() + half)
    lines = await written(file, 2)
    assert lines[:3] == [*first, half]
    assert verify(lines).broken_at == 3  # it is said that something is missing there
    assert verify([*first, *lines[3:]]).broken_at is None


def test_a_place_that_cannot_be_written_is_known_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"SIDECACHE_AUDIT_LOG: cannot use .*no such file"):
        opened(str(tmp_path / "nowhere" / "audit"), pytest.fail)


async def test_off_is_kept_for_the_admin_port_only():
    ledger = opened("off", pytest.fail)
    await ledger.enter([RECORD])
    assert len(ledger.recent()) == 1
