"""What came of a scenario? Checks that hold or not, each with its bound, and figures beside them."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    holds: bool
    measured: str
    bound: str


@dataclass
class Judged:
    """One scenario's result. `losses`: what was lost or late as the documentation says it may be."""

    name: str
    method: str
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, float | int | str] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    def none(self, what: str, found: "int | list[str]") -> None:
        """Of this there must be none."""
        count = found if isinstance(found, int) else len(found)
        example = f", as in: {found[0][:300]}" if isinstance(found, list) and found else ""
        self.checks.append(Check(what, not count, f"{count}{example}", "0"))

    def at_most(self, what: str, measured: float, bound: float, unit: str = "s") -> None:
        self.checks.append(Check(what, measured <= bound, f"{measured:.4g} {unit}", f"<= {bound:g} {unit}"))

    def at_least(self, what: str, measured: float, bound: float, unit: str = "") -> None:
        self.checks.append(
            Check(what, measured >= bound, f"{measured:.6g} {unit}".strip(), f">= {bound:g} {unit}".strip())
        )

    def true(self, what: str, holds: bool, measured: str = "") -> None:
        self.checks.append(Check(what, holds, measured or ("yes" if holds else "no"), "yes"))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


class NotPossible(Exception):
    """A scenario cannot be played here; the text says why."""
