"""Which paths of the data port are ours? The reserved prefix, where health is one word; all else is the upstream's."""

from collections.abc import Awaitable, Callable, Mapping

from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body

Page = Callable[[Request, Body], Awaitable[Reply]]


class Reserved:
    """Answers below `prefix` ("" switches it off). `word` is the health in one word, `ready` says if it is ready.

    `pages` are those that look at the request, by their name; one that ends in a slash stands for all that begin so.
    """

    def __init__(
        self, prefix: str, word: Callable[[], str], ready: Callable[[], bool], pages: Mapping[str, Page] | None = None
    ) -> None:
        self._pages = pages if pages is not None else {}
        self._prefix = prefix + "/" if prefix else ""
        self._words: dict[str, Callable[[], tuple[int, str]]] = {
            "livez": lambda: (200, "alive"),
            "readyz": lambda: (200 if ready() else 503, word()),
            "health": lambda: (200, word()),
        }

    def page(self, path: str) -> Page | None:
        """What answers this path once the request was looked at; None: `__call__` does."""
        if not self._prefix or not path.startswith(self._prefix):
            return None
        name = path.removeprefix(self._prefix)
        return self._pages.get(name) or self._pages.get(f"{name.partition('/')[0]}/")

    def __call__(self, path: str) -> Reply | None:
        if not self._prefix or not path.startswith(self._prefix):
            return None
        outcome = Outcome(Reason.RESERVED)
        answer = self._words.get(path.removeprefix(self._prefix))
        if answer is None:
            fields, body = problem(404, "There is nothing at this path below the reserved prefix.")
            return Reply.own(404, fields, body, outcome)
        status, word = answer()
        fields = Fields((("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")))
        return Reply.own(status, fields, f"{word}\n".encode(), outcome)
