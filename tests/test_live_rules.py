"""A rules file that is edited in every way that files are edited, while the last good rules stay in force."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.live_rules import LiveRules
from proxy.rules.compile import RuleSet
from tests.doubles import FakeClock
from tests.wire import until

INTERVAL = 0.01


def rules(ttl: str = "15m", *, tests: str = "") -> str:
    return f"""
version: 1
features:
  jobs:
    ttl: {ttl}
    read: [GET /api/jobs]
    write: [POST /api/jobs]
{tests}"""


FAILING_TEST = """
tests:
  - request: GET /api/jobs
    as: {org_id: org_a, sub: u1}
    expect: {ttl: 1h}
"""


class Followed:
    """Live rules on a file, what they report, and a way to wait for something to become true."""

    def __init__(self, file: Path, profile: str = "production", *, has_encryption_key: bool = False) -> None:
        self.file = file
        self.clock = FakeClock()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.live = LiveRules(file, profile, self.clock, self._note, has_encryption_key=has_encryption_key)

    def _note(self, event: str, details: Mapping[str, object]) -> None:
        self.events.append((event, dict(details)))

    @property
    def ttl(self) -> float | None:
        return self.live.current.routes[0].ttl

    def names(self) -> list[str]:
        return [event for event, _ in self.events]


@contextlib.asynccontextmanager
async def watched(file: Path) -> AsyncIterator[Followed]:
    followed = Followed(file)
    followed.live.load()
    watching = asyncio.create_task(followed.live.watch(INTERVAL))
    try:
        yield followed
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.wait({watching})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(rules())
    return file


# The first load


def test_the_first_load_takes_the_rules_and_notes_when(file):
    followed = Followed(file)
    followed.live.load()
    assert (followed.ttl, followed.live.loaded_at, followed.live.problems) == (900.0, followed.clock.now, ())
    assert followed.live.file == file


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        # realistic
        (None, ["{file}: cannot be read: no such file or directory; --rules FILE says where the rules are"]),
        (rules(ttl="15:00"), ["{file}:5:5: error: features.jobs.ttl:"]),
        ("version: 1\nfeatures: [\n", ["{file}:"]),
        (rules(tests=FAILING_TEST), ["{file}:10:1: error: tests[0]: GET /api/jobs: ttl: expected 1h, got 15m"]),
        (rules("x").replace("read", "raed"), ["{file}:5:5: error: features.jobs.ttl", "{file}:6:5: error: features"]),
        # pathological
        ("", ["{file}:1:1: error: the file is empty"]),
        (b"\xff\xfe", ["{file}:1:1: error: the file is not UTF-8 text"]),
        (b"#" * (300 << 10), ["{file}:1:1: error: the file is larger than 256 KiB"]),
    ],
)  # fmt: skip
def test_without_good_rules_there_is_no_start_and_each_problem_has_its_line(tmp_path, content, lines):
    file = tmp_path / "rules.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        Followed(file).live.load()
    assert len(caught.value.problems) == len(lines)
    for problem, line in zip(caught.value.problems, lines, strict=True):
        assert problem.startswith(line.format(file=file)), problem
        assert "\n" not in problem


def test_a_directory_is_no_rules_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        Followed(tmp_path).live.load()


def test_warnings_are_reported_when_rules_are_taken(file):
    file.write_text(rules().replace("    write: [POST /api/jobs]\n", ""))
    followed = Followed(file)
    followed.live.load()
    assert followed.names() == ["rules-warning"]
    assert f"{file}:4:3: warning: " in str(followed.events[0][1]["warning"])


# Editing


async def test_saving_in_place_applies_and_says_so(file):
    async with watched(file) as followed:
        followed.clock.advance(60)
        file.write_text(rules("1h"))
        await until(lambda: followed.ttl == 3600)
        assert followed.live.loaded_at == followed.clock.now
        await until(lambda: followed.names() == ["rules-loaded"])
        assert followed.events[0][1] == {"file": str(file), "digest": followed.live.current.digest}


async def test_an_editors_rename_applies(file):
    async with watched(file) as followed:
        for ttl, seconds in (("1h", 3600), ("2h", 7200)):
            (file.parent / ".rules.yaml.swp").write_text(rules(ttl))
            os.replace(file.parent / ".rules.yaml.swp", file)
            await until(lambda seconds=seconds: followed.ttl == seconds)


async def test_two_swaps_of_a_config_maps_symlink_apply(tmp_path):
    def swap(ttl: str) -> None:
        """As the kubelet does it: a new directory, a new link, one atomic rename, the old directory gone."""
        old = data.resolve() if data.exists() else None
        new = tmp_path / f"..{ttl}"
        new.mkdir()
        (new / "rules.yaml").write_text(rules(ttl))
        (tmp_path / "..data_tmp").symlink_to(new.name)
        os.replace(tmp_path / "..data_tmp", data)
        if old is not None:
            (old / "rules.yaml").unlink()
            old.rmdir()

    data = tmp_path / "..data"
    swap("15m")
    (tmp_path / "rules.yaml").symlink_to("..data/rules.yaml")
    async with watched(tmp_path / "rules.yaml") as followed:
        for ttl, seconds in (("1h", 3600), ("2h", 7200)):
            swap(ttl)
            await until(lambda seconds=seconds: followed.ttl == seconds)
        assert followed.names() == ["rules-loaded"] * 2


async def test_a_file_that_is_being_written_is_not_judged():
    """Its content counts when it was read twice; each of these is valid, so taking one would be silent."""

    class Written(LiveRules):
        contents = tuple(rules(ttl).encode() for ttl in ("1m", "2m", "3m", "4m", "4m", "4m"))
        reads = 0

        def _read(self) -> bytes:
            self.reads += 1
            return self.contents[self.reads - 1]

    taken: list[str] = []
    live = Written(Path("rules.yaml"), "production", FakeClock(), lambda event, details: taken.append(event))
    with pytest.raises(IndexError):  # the end of the script
        await live.watch(0)
    assert live.current.routes[0].ttl == 240
    assert taken == ["rules-loaded"]


async def test_a_truncated_half_write_leaves_the_last_good_rules_until_it_is_complete(file):
    async with watched(file) as followed:
        before = followed.live.current
        whole = rules("1h")
        file.write_text(whole[: whole.index("[GET") + 6])
        await until(lambda: followed.live.problems != ())
        assert followed.live.current is before
        file.write_text(whole)
        await until(lambda: followed.ttl == 3600 and followed.live.problems == ())


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        # realistic
        (rules(ttl="15:00"), ":5:5: error: features.jobs.ttl: "),
        (rules().replace("ttl", "tll"), ":5:5: error: features.jobs.tll: "),
        (rules() + "  jobs:\n    ttl: 1m\n", ":8:3: error: duplicate key 'jobs' (first at line 4)"),
        (rules(tests=FAILING_TEST), ":10:1: error: tests[0]: GET /api/jobs: ttl: expected 1h, got 15m"),
        (rules().replace("[GET /api/jobs]", "[GET /api/jobs"), ":7:"),
        ("", ":1:1: error: the file is empty"),
        # pathological
        (rules(ttl="1e309s"), ":5:5: error: features.jobs.ttl: "),
        (rules(ttl=".nan"), ":5:5: error: features.jobs.ttl: "),
        ("a: &a [x]\n" + "".join(f"{c}: [*a, *a]\n" for c in "bcdef"), ":1:4: error: anchors"),
        ("[" * 5000, "error: nested deeper than 20 levels"),
        ("x" * (10 << 20), ":1:1: error: the file is larger than 256 KiB"),
    ],
)  # fmt: skip
async def test_a_broken_save_keeps_the_last_good_rules_and_the_fix_clears_the_problems(file, broken, place):
    async with watched(file) as followed:
        before = followed.live.current
        file.write_text(broken)
        await until(lambda: followed.names() == ["rules-refused"])
        assert followed.live.current is before
        assert any(place in str(problem) for problem in followed.live.problems), followed.live.problems
        assert followed.events[0][1]["problems"] == [str(problem) for problem in followed.live.problems]
        file.write_text(rules("1h"))
        await until(lambda: followed.ttl == 3600 and followed.live.problems == ())


async def test_going_back_to_what_is_in_force_clears_the_problems(file):
    async with watched(file) as followed:
        good = file.read_text()
        file.write_text("broken: [")
        await until(lambda: followed.live.problems != ())
        file.write_text(good)
        await until(lambda: followed.live.problems == ())
        assert followed.ttl == 900


async def test_deletion_keeps_the_rules_and_is_told_once_and_the_return_applies(file):
    async with watched(file) as followed:
        file.unlink()
        await until(lambda: followed.live.problems != ())
        await asyncio.to_thread(lambda: None)
        assert str(followed.live.problems[0]) == f"{file}:1:1: error: cannot be read: no such file or directory"
        assert followed.ttl == 900
        file.write_text(rules("1h"))
        await until(lambda: followed.ttl == 3600 and followed.live.problems == ())
        assert followed.names() == ["rules-refused", "rules-loaded"]


async def test_a_directory_that_vanishes_and_comes_back_is_followed(tmp_path):
    home = tmp_path / "mounted"
    home.mkdir()
    (home / "rules.yaml").write_text(rules())
    async with watched(home / "rules.yaml") as followed:
        home.rename(tmp_path / "away")
        await until(lambda: followed.live.problems != ())
        home.mkdir()
        (home / "rules.yaml").write_text(rules("1h"))
        await until(lambda: followed.ttl == 3600 and followed.live.problems == ())


async def test_a_change_between_load_and_watch_is_not_lost(file):
    followed = Followed(file)
    followed.live.load()
    file.write_text(rules("1h"))
    watching = asyncio.create_task(followed.live.watch(INTERVAL))
    await until(lambda: followed.ttl == 3600)
    watching.cancel()
    await asyncio.wait({watching})


# Asked for (SIGHUP)


async def test_reload_applies_at_once(file):
    followed = Followed(file)
    followed.live.load()
    file.write_text(rules("1h"))
    await followed.live.reload()
    assert followed.ttl == 3600


async def test_reload_of_an_unchanged_file_does_nothing(file):
    followed = Followed(file)
    followed.live.load()
    before = followed.live.current
    await followed.live.reload()
    os.utime(file)
    await followed.live.reload()
    assert followed.live.current is before
    assert followed.events == []


async def test_a_refusal_is_reported_once_however_often_it_is_looked_at(file):
    followed = Followed(file)
    followed.live.load()
    file.write_text("broken: [")
    for _ in range(3):
        await followed.live.reload()
    assert followed.names() == ["rules-refused"]


async def test_of_two_reloads_at_once_the_newer_content_stays(file):
    followed = Followed(file)
    followed.live.load()
    file.write_text(rules("1h"))
    first = asyncio.create_task(followed.live.reload())
    await until(lambda: followed.live._judging.locked() or first.done())
    file.write_text(rules("2h"))
    await asyncio.gather(first, followed.live.reload())
    assert followed.ttl == 7200


# What another process has read


async def test_a_content_that_somebody_else_has_read_is_judged_the_same(file):
    followed = Followed(file)
    followed.live.load(rules("1h").encode())
    assert (followed.ttl, followed.live.source, followed.live.latest) == (
        3600,
        rules("1h").encode(),
        followed.live.source,
    )
    await followed.live.take_over(b"broken: [")
    assert followed.names() == ["rules-refused"]
    assert (followed.ttl, followed.live.source, followed.live.latest) == (3600, rules("1h").encode(), b"broken: [")
    await followed.live.take_over(rules("2h").encode())
    assert (followed.ttl, followed.live.source, followed.live.problems) == (7200, rules("2h").encode(), ())


# Encryption

ENCRYPTING = pytest.mark.parametrize("how", ["sensitive: true", "encrypt: all"])


@ENCRYPTING
def test_production_does_not_start_with_rules_that_need_a_missing_key(file, how):
    file.write_text(rules(f"15m\n    {how}"))
    with pytest.raises(ConfigError, match=rf"^{file}:6:5: error: features.jobs.\w+: .*without an encryption key: set "):
        Followed(file).live.load()
    Followed(file, has_encryption_key=True).live.load()


@ENCRYPTING
async def test_production_does_not_take_over_rules_that_need_a_missing_key(file, how):
    followed = Followed(file)
    followed.live.load()
    file.write_text(rules(f"1h\n    {how}"))
    await followed.live.reload()
    assert followed.ttl == 900
    assert followed.names() == ["rules-refused"]
    assert "without an encryption key" in str(followed.live.problems[0])


@ENCRYPTING
@pytest.mark.parametrize("profile", ["development", "staging"])
def test_other_profiles_only_warn(file, how, profile):
    file.write_text(rules(f"1h\n    {how}"))
    followed = Followed(file, profile)
    followed.live.load()
    assert followed.ttl == 3600
    ((event, details),) = followed.events
    assert event == "rules-warning"
    assert "without an encryption key" in str(details)


async def test_other_rules_are_judged_without_a_change(file):
    followed = Followed(file)
    followed.live.load()
    good, bad = [await followed.live.validate(text.encode()) for text in (rules("1h"), "version: [")]
    assert isinstance(good, RuleSet)
    assert isinstance(bad, tuple)
    assert (followed.ttl, followed.names(), followed.live.problems) == (900, [], ())


# Rules that share more than those in force


def scoped(scope: str) -> str:
    return rules(f"15m\n    scope: {scope}")


async def refused(file: Path, profile: str = "production") -> Followed:
    followed = Followed(file, profile)
    followed.live.load(scoped("role").encode())
    await followed.live.take_over(scoped("tenant").encode())
    return followed


@pytest.mark.parametrize("profile", ["production", "staging"])
async def test_rules_that_share_more_wait_for_somebody_to_accept_it(file, profile):
    followed = await refused(file, profile)
    ((event, details),) = followed.events
    assert event == "rules-widening"
    assert details["digest"] == followed.live.widening != ""
    assert "loosens scope role to tenant of GET /api/jobs; not in force until it is acc" in str(
        followed.live.problems[0]
    )
    assert followed.live.current.routes[0].scope == "role"


async def test_in_development_nobody_need_accept_it(file):
    followed = await refused(file, "development")
    assert (followed.names(), followed.live.current.routes[0].scope) == (["rules-loaded"], "tenant")


async def test_what_is_accepted_by_its_digest_is_in_force(file):
    followed = await refused(file)
    file.write_text(scoped("tenant"))
    await followed.live.reload(followed.live.widening)
    assert followed.names() == ["rules-widening", "rules-loaded"]
    assert (followed.live.current.routes[0].scope, followed.live.widening, followed.live.problems) == ("tenant", "", ())


async def test_what_was_accepted_is_one_content_of_the_file_and_no_other(file):
    followed = await refused(file)
    accepted = followed.live.widening
    file.write_text(scoped("public"))
    await followed.live.reload(accepted)
    assert (followed.names(), followed.live.current.routes[0].scope) == (["rules-widening", "rules-widening"], "role")


async def test_accepted_once_is_not_accepted_for_ever(file):
    followed = await refused(file)
    accepted = followed.live.widening
    file.write_text(scoped("tenant"))
    await followed.live.reload(accepted)
    file.write_text(scoped("user"))
    await followed.live.reload()
    file.write_text(scoped("tenant"))
    await followed.live.reload()
    assert (followed.live.current.routes[0].scope, followed.live.widening) == ("user", accepted)


async def test_a_wrong_digest_accepts_nothing_and_the_same_file_is_not_reported_again(file):
    followed = await refused(file)
    file.write_text(scoped("tenant"))
    await followed.live.reload("0123456789ab")
    await followed.live.reload()
    assert followed.names() == ["rules-widening"]


async def test_a_file_that_shares_less_again_is_in_force_at_once(file):
    followed = await refused(file)
    file.write_text(scoped("user"))
    await followed.live.reload()
    assert (followed.live.current.routes[0].scope, followed.live.widening, followed.live.problems) == ("user", "", ())


NOTHING = "version: 1\nfeatures: {}\n"


async def test_what_is_away_for_a_while_comes_back_for_no_more_than_before(file):
    followed = await refused(file)
    for text in (NOTHING, scoped("tenant")):
        await followed.live.take_over(text.encode())
    assert (followed.live.current.routes, followed.live.widening != "") == ((), True)
    assert "loosens scope role to tenant of GET /api/jobs" in str(followed.live.problems[0])
    await followed.live.take_over(scoped("role").encode())
    assert followed.live.current.routes[0].scope == "role"


async def test_what_comes_back_for_more_than_before_can_be_accepted(file):
    followed = await refused(file)
    for text in (NOTHING, scoped("tenant")):
        await followed.live.take_over(text.encode())
    await followed.live.take_over(scoped("tenant").encode(), followed.live.widening)
    assert followed.live.current.routes[0].scope == "tenant"
    for text in (NOTHING, scoped("tenant")):
        await followed.live.take_over(text.encode())
    assert followed.live.current.routes[0].scope == "tenant"  # it was accepted for so many before


async def test_another_process_that_starts_later_knows_of_what_was_before(file):
    followed = await refused(file)
    await followed.live.take_over(NOTHING.encode())
    later = Followed(file)
    later.live.load(followed.live.source, followed.live.former)
    await later.live.take_over(scoped("tenant").encode())
    assert (later.live.current.routes, later.live.former) == ((), followed.live.former)


async def test_that_other_rules_would_share_more_is_told_beforehand(file):
    followed = await refused(file)
    verdict = await followed.live.validate(scoped("public").encode())
    assert isinstance(verdict, tuple)
    assert "loosens scope role to public" in verdict[0].message


async def test_rules_at_the_start_are_compared_with_nothing(file):
    file.write_text(scoped("public"))
    followed = Followed(file)
    followed.live.load()
    assert followed.live.current.routes[0].scope == "public"


async def test_what_another_process_reads_comes_with_what_is_accepted(file):
    followed = await refused(file)
    asked: list[str] = []

    async def elsewhere(accept: str) -> tuple[bytes, str]:
        asked.append(accept)
        return scoped("tenant").encode(), accept

    worker = LiveRules(file, "production", followed.clock, followed._note, elsewhere=elsewhere)
    worker.load(scoped("role").encode())
    await worker.reload()
    assert worker.current.routes[0].scope == "role"
    await worker.reload(worker.widening)
    assert (worker.current.routes[0].scope, asked) == ("tenant", ["", followed.live.widening])
