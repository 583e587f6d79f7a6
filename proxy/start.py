"""May it start so? Environment and rules judged together: every problem of both at once, and none later (SPEC 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.errors import ConfigError
from proxy.live_rules import content, judged
from proxy.rules.compile import RuleSet
from proxy.rules.source import Problem
from proxy.settings import Settings, read

_KEYS = "SIDECACHE_ENCRYPTION_KEYS"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an environment and the rules that it names come to. With problems the settings are what could be read."""

    settings: Settings
    problems: tuple[str, ...]  # of the environment, each `NAME: what is wrong; what to do`
    rules: RuleSet | tuple[Problem, ...]  # or all that is wrong with them

    @property
    def refused(self) -> tuple[str, ...]:
        """All that keeps it from starting."""
        return self.problems if isinstance(self.rules, RuleSet) else (*self.problems, *map(str, self.rules))


def verdict(environ: Mapping[str, str], **flags: Any) -> Verdict:
    settings, problems = read(environ, **flags)
    data = content(settings.rules)
    if isinstance(data, Problem):
        return Verdict(settings, problems, (data,))
    # a key that is wrong has been told of: the rules are not blamed for it too
    has_key = bool(settings.encryption_keys) or any(each.startswith(_KEYS) for each in problems)
    return Verdict(settings, problems, judged(data, settings.rules, settings.profile, has_encryption_key=has_key))


def startable(environ: Mapping[str, str], **flags: Any) -> Settings:
    """The settings to start with. ConfigError with the problems of environment and rules.

    Rules are looked at here only beside a problem: whoever starts reads them anyway, and says the same.
    """
    settings, problems = read(environ, **flags)
    if problems:
        raise ConfigError(*verdict(environ, **flags).refused)
    return settings
