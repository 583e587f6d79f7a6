"""Short rules files, and what becomes of them."""

from textwrap import dedent

from proxy.rules.compile import Rejected, RuleSet, compile_rules


def features(text: str, *, head: str = "") -> str:
    """A file with these features, each with a ttl of its own or the default of a minute."""
    body = "\n".join(f"  {line}" for line in dedent(text).strip("\n").splitlines())
    return f"version: 1\ndefaults: {{ttl: 1m}}\n{dedent(head)}features:\n{body}\n"


def accepted(text: str, **options) -> RuleSet:
    rules = compile_rules(text, **options)
    assert isinstance(rules, RuleSet), "\n".join(map(str, rules.problems))
    return rules


def refused(text: str, **options) -> list[str]:
    """The problems as people read them, without the file's name."""
    rules = compile_rules(text, **options)
    assert isinstance(rules, Rejected)
    assert all(problem.severity == "error" for problem in rules.problems)
    return [str(problem).removeprefix("rules.yaml:").replace(" error:", "", 1) for problem in rules.problems]


def warned(text: str, **options) -> list[str]:
    return [f"{each.path}: {each.message}" for each in accepted(text, **options).warnings]
