"""Which paths of the data port are ours? The reserved prefix, where health is one word; all else is the upstream's."""

from collections.abc import Awaitable, Callable, Mapping

from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply

Own = Callable[[Request], Awaitable[Reply]]


class Reserved:
    """Answers below `prefix` ("" switches it off). `word` is the health in one word, `ready` says if it is ready.

    `own` are further paths below it, and who answers each.
    """

    def __init__(
        self, prefix: str, word: Callable[[], str], ready: Callable[[], bool], own: Mapping[str, Own] | None = None
    ) -> None:
        self._prefix = prefix + "/" if prefix else ""
        self._own = own or {}
        self._words: dict[str, Callable[[], tuple[int, str]]] = {
            "livez": lambda: (200, "alive"),
            "readyz": lambda: (200 if ready() else 503, word()),
            "health": lambda: (200, word()),
        }

    def __call__(self, path: str) -> Reply | Own | None:
        """The answer, or who gives it; None: the path is not ours."""
        if not self._prefix or not path.startswith(self._prefix):
            return None
        name = path.removeprefix(self._prefix)
        own = self._own.get(name)
        if own is not None:
            return own
        outcome = Outcome(Reason.RESERVED)
        answer = self._words.get(name)
        if answer is None:
            fields, body = problem(404, "There is nothing at this path below the reserved prefix.")
            return Reply.own(404, fields, body, outcome)
        status, word = answer()
        fields = Fields((("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")))
        return Reply.own(status, fields, f"{word}\n".encode(), outcome)
