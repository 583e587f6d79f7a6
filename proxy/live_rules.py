"""Which rules are in force, and how do new ones take over? Validated, tested, swapped; the last good ones stay."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from proxy.errors import ConfigError
from proxy.profiles import Answer, Concern, answer
from proxy.rules.compare import forgets, widening
from proxy.rules.compile import Rejected, RuleSet, compile_rules
from proxy.rules.scenarios import run
from proxy.rules.source import MAX_BYTES, Problem, decode

MOST_FORMER = 8  # rule sets with something that is away, which are remembered for when it comes back
INTERVAL = 0.4  # seconds between two looks at the file; a change is in force after two of them

Report = Callable[[str, Mapping[str, object]], None]
Elsewhere = Callable[[str], Awaitable[tuple[bytes | Problem, str]]]

_UNACCEPTED = "; not in force until it is accepted (`sidecache plan OLD NEW --accept-widening`)"


def content(file: Path) -> bytes | Problem:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        return Problem(str(file), 1, 1, "error", "", f"cannot be read: {(error.strerror or str(error)).lower()}")


def judged(
    data: bytes, file: Path, profile: str, *, has_encryption_key: bool, serves: bool = True
) -> RuleSet | tuple[Problem, ...]:
    """The rules of a file, or all that is wrong with them, its own tests included.

    `serves`: this is the environment that will serve them, so that it is known whether there is a key.
    """
    text = decode(data, str(file))
    if isinstance(text, Problem):
        return (text,)
    must_encrypt = serves and answer(profile, Concern.UNKEYED) is Answer.REFUSES
    rules = compile_rules(
        text, file=str(file), profile=profile, has_encryption_key=has_encryption_key, must_encrypt=must_encrypt
    )
    if isinstance(rules, Rejected):
        return rules.problems
    return tuple(result.problem for result in run(rules) if result.problem is not None) or rules


class LiveRules:
    """The rules file and the rule set that it last gave."""

    def __init__(
        self,
        file: Path,
        profile: str,
        clock: Callable[[], float],
        report: Report,
        *,
        has_encryption_key: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`elsewhere`: another process reads the file; it gives the content as it is now, and what is `accepted`."""
        self._file = file
        self._profile = profile
        self._has_encryption_key = has_encryption_key
        self._elsewhere = elsewhere
        self._clock = clock
        self._report = report
        self._judged: bytes | Problem = b""  # what the verdict in force, or the problems, are about
        self._judging = asyncio.Lock()
        self._source = b""
        self._current: RuleSet | None = None
        self._former: list[tuple[RuleSet, bytes]] = []  # what new rules are compared with beside those in force
        self.loaded_at = 0.0
        self.accepted = ""  # the digest of rules that share more than those before, and may
        self.widening = ""  # the digest of the file's rules, where they only lack that
        self.problems: tuple[Problem, ...] = ()  # why the file as it is now is not in force

    @property
    def current(self) -> RuleSet:
        assert self._current is not None, "load() comes first"
        return self._current

    @property
    def file(self) -> Path:
        return self._file

    @property
    def source(self) -> bytes:
        """The text of the rules in force."""
        return self._source

    @property
    def latest(self) -> bytes | Problem:
        """The content of the file that was judged last: that of the rules in force, unless it was refused."""
        return self._judged

    @property
    def former(self) -> tuple[bytes, ...]:
        """The texts of rules that were in force and know of something that those now do not."""
        return tuple(source for _, source in self._former)

    def load(self, source: bytes | None = None, former: Sequence[bytes] = ()) -> None:
        """The first rules, from the file or `source`; ConfigError with every problem when there are none to be had.

        `former`: of the process that gives the source.
        """
        data = self._read() if source is None else source
        if isinstance(data, Problem):
            raise ConfigError(f"{self._file}: {data.message}; --rules FILE says where the rules are")
        verdict, _ = self._judge(data)
        if not isinstance(verdict, RuleSet):
            raise ConfigError(*map(str, verdict))
        judged = [(self._judge(each)[0], each) for each in former]
        self._former = [(each, text) for each, text in judged if isinstance(each, RuleSet)]
        self._judged = data
        self._take(verdict, data)

    async def reload(self, accept: str = "") -> None:
        """Take the file over if it is different and good; otherwise keep what is in force and say why.

        `accept`: the digest of rules that may share more than those in force.
        """
        if self._elsewhere is None:
            await self.take_over(await asyncio.to_thread(self._read), accept)
        else:
            await self.take_over(*await self._elsewhere(accept))

    async def validate(self, data: bytes) -> RuleSet | tuple[Problem, ...]:
        """What would become of these rules in place of those in force; nothing changes."""
        return (await asyncio.to_thread(self._judge, data, self.accepted))[0]

    async def watch(self, interval: float = INTERVAL) -> None:
        """Reload when the content of the file changes, until cancelled.

        The content is compared, not waited for: an editor's rename, a ConfigMap's symlink swap, a network file system
        and a directory that comes back are then all the same, and no change falls into a gap. It counts when it was
        read twice: a file is not taken while it is being written.
        """
        last: bytes | Problem = self._judged
        while True:
            await asyncio.sleep(interval)
            data = await asyncio.to_thread(self._read)
            if data == last:
                await self.take_over(data)
            last = data

    async def take_over(self, data: bytes | Problem, accept: str = "") -> None:
        """The same with a content of the file that somebody else has read."""
        async with self._judging:  # one after the other: an older content never replaces a newer one
            if data == self._judged and not (accept and accept == self.widening):
                return
            verdict, self.widening = await asyncio.to_thread(self._judge, data, accept)
            self._judged, self.accepted = data, accept
            if isinstance(verdict, RuleSet):
                assert isinstance(data, bytes), "what could not be read gives no rules"
                if verdict.digest == accept:
                    self._former.clear()  # somebody has looked
                await self._remember(verdict)
                self._take(verdict, data)
                self._report("rules-loaded", {"file": str(self._file), "digest": verdict.digest})
            else:
                self.problems = verdict
                said = {"file": str(self._file), "problems": [str(each) for each in verdict]}
                if self.widening:
                    self._report("rules-widening", {**said, "digest": self.widening})
                else:
                    self._report("rules-refused", said)

    async def _remember(self, rules: RuleSet) -> None:
        """What these do not know any more of those in force."""
        before = self._current
        if before is None or self._profile == "development":
            return
        if await asyncio.to_thread(forgets, before, rules):
            self._former = [*self._former[: MOST_FORMER - 1], (before, self._source)]

    def _read(self) -> bytes | Problem:
        return content(self._file)

    def _judge(self, data: bytes | Problem, accept: str = "") -> tuple[RuleSet | tuple[Problem, ...], str]:
        """The rules, or what is wrong with them; and their digest, if it is only that they share more."""
        if isinstance(data, Problem):
            return (data,), ""
        rules = judged(data, self._file, self._profile, has_encryption_key=self._has_encryption_key)
        if not isinstance(rules, RuleSet):
            return rules, ""
        wider = self._wider(rules) if rules.digest != accept else ()
        return (wider, rules.digest) if wider else (rules, "")

    def _wider(self, rules: RuleSet) -> tuple[Problem, ...]:
        """Real leaks came from exactly this: outside development somebody has to have looked (SPEC 4)."""
        if self._current is None or self._profile == "development":
            return ()
        compared = [self._current, *(former for former, _ in self._former)]
        wider = dict.fromkeys(problem for before in compared for problem in widening(before, rules))
        return tuple(replace(each, message=each.message + _UNACCEPTED) for each in wider)

    def _take(self, rules: RuleSet, source: bytes) -> None:
        self._current = rules
        self._source = source
        self.loaded_at = self._clock()
        self.problems = ()
        for warning in rules.warnings:
            self._report("rules-warning", {"warning": str(warning)})
