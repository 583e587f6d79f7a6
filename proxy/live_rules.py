"""Which rules are in force, and how do new ones take over? Validated, tested, swapped; the last good ones stay."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from watchfiles import awatch

from proxy.errors import ConfigError
from proxy.rules.compile import Rejected, RuleSet, compile_rules
from proxy.rules.scenarios import run
from proxy.rules.source import Problem

MAX_FILE = 256 << 10
_RETRY = 1.0  # seconds until a directory that vanished is watched again

Report = Callable[[str, Mapping[str, object]], None]


class LiveRules:
    """The rules file and the rule set that it last gave."""

    def __init__(self, file: Path, profile: str, clock: Callable[[], float], report: Report) -> None:
        self._file = file
        self._profile = profile
        self._clock = clock
        self._report = report
        self._seen = b""
        self._current: RuleSet | None = None
        self.loaded_at = 0.0
        self.problems: tuple[Problem, ...] = ()  # why the file as it is now is not in force

    @property
    def current(self) -> RuleSet:
        assert self._current is not None, "load() comes first"
        return self._current

    @property
    def file(self) -> Path:
        return self._file

    def load(self) -> None:
        """The first rules; ConfigError with every problem when there are none to be had."""
        verdict = self._judge(self._read())
        if not isinstance(verdict, RuleSet):
            raise ConfigError(*map(str, verdict))
        self._take(verdict)

    async def reload(self) -> None:
        """Take the file over if it is different and good; otherwise keep what is in force and say why."""
        data = await asyncio.to_thread(self._read)
        digest = hashlib.blake2b(data if isinstance(data, bytes) else str(data).encode(), digest_size=16).digest()
        if digest == self._seen:
            return
        verdict = await asyncio.to_thread(self._judge, data)
        self._seen = digest
        if isinstance(verdict, RuleSet):
            self._take(verdict)
            self._report("rules-loaded", {"file": str(self._file), "digest": verdict.digest})
        else:
            self.problems = verdict
            self._report("rules-refused", {"file": str(self._file), "problems": [str(each) for each in verdict]})

    async def watch(self) -> None:
        """Reload when the file changes, until cancelled.

        The directory is watched, not the file: an editor's rename and a ConfigMap's symlink swap replace the file,
        and a watch on it would follow the old one.
        """
        while True:
            try:
                async for _ in awatch(self._file.parent, recursive=False, debounce=200, step=50):
                    await self.reload()
            except OSError:
                await self.reload()
            await asyncio.sleep(_RETRY)

    def _read(self) -> bytes | Problem:
        try:
            with self._file.open("rb") as file:
                return file.read(MAX_FILE + 1)
        except OSError as error:
            return Problem(str(self._file), 1, 1, "error", "", f"cannot be read: {error.strerror}")

    def _judge(self, data: bytes | Problem) -> RuleSet | tuple[Problem, ...]:
        if isinstance(data, Problem):
            return (data,)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            return (Problem(str(self._file), line, 1, "error", "", "is not UTF-8 text"),)
        rules = compile_rules(text, file=str(self._file), profile=self._profile)
        if isinstance(rules, Rejected):
            return rules.problems
        failures = tuple(result.problem for result in run(rules) if result.problem is not None)
        return failures or rules

    def _take(self, rules: RuleSet) -> None:
        self._current = rules
        self.loaded_at = self._clock()
        self.problems = ()
        for warning in rules.warnings:
            self._report("rules-warning", {"warning": str(warning)})
