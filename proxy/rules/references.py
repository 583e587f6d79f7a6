"""What does a reference of the rules (`path.job-id`, `response.id`) stand for in one exchange?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from proxy.policy.agreement import ABSENT, claim

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class References:
    """Where references lead. `asked` and `answered` are the JSON documents of the two bodies."""

    parameters: Mapping[str, str]
    query: str | None = None
    claims: Mapping[str, Any] | None = None
    asked: object = None
    answered: object = None

    def value(self, reference: str) -> Any:
        """What is there; ABSENT when nothing is, or a JSON null."""
        root, _, path = reference.partition(".")
        if root == "path":
            return unquote(self.parameters[path]) if path in self.parameters else ABSENT
        if root == "query":
            return _first(self.query or "", path)
        document = self.claims if root == "jwt" else self.asked if root == "request" else self.answered
        found = claim(document if isinstance(document, Mapping) else NOTHING, path)
        return ABSENT if found is None else found


def reads(references: list[str], root: str) -> bool:
    """Whether any of them leads into this part of the exchange."""
    return any(each.startswith(f"{root}.") for each in references)


def _first(query: str, name: str) -> object:
    pairs = (pair.partition("=") for pair in query.split("&"))
    return next((unquote(value) for key, _, value in pairs if key == name), ABSENT)
