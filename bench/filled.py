"""How does a first tier get a million entries within a minute? `sidecache run`, and one answer that stands for many.

python -m bench.filled run ...      as `sidecache run`

A million misses through the front door take ten minutes. So the first few thousand are asked for, which also makes the
epochs of all tags; when number BENCH_MANY - 1 is stored, the others are put into the first tier beside it: entries that
differ in their number alone, each with bytes of its own as if it had come from the wire.
"""

import os
import re
import sys
import time
from dataclasses import replace
from typing import Any

import proxy.app
from proxy.cache import tiers
from proxy.cli.main import main
from proxy.policy.entry import Entry
from proxy.policy.outcome import Reason

ASKED_FOR = 4096  # by requests; item tags share 256 epochs
_NUMBER = re.compile(r"-(\d+)$")


class FilledCache(tiers.Cache):
    """Keeps all that one entry stands for."""

    def put(self, entry: Entry, **how: Any) -> Reason | None:
        refusal = super().put(entry, **how)
        number, many = _NUMBER.search(entry.key), int(os.environ["BENCH_MANY"])
        if refusal is None and number is not None and int(number[1]) == many - 1:
            for each in range(ASKED_FOR, many - 1):
                self._keep(entry, f"-{many - 1}", f"-{each}")
        return refusal

    def _keep(self, entry: Entry, last: str, this: str) -> None:
        tags = tuple([tag.replace(last, this) for tag in entry.tags])
        stamp = self._epochs.peek(entry.tenant, tags)
        assert stamp is not None, "the requests before have asked for all epochs"
        copy = replace(
            entry,
            key=entry.key.replace(last, this),
            request=entry.request.replace(last, this),
            head=bytes(bytearray(entry.head)),
            body=bytes(bytearray(entry.body)),
            tags=tags,
            epochs_hard=stamp.hard,
            epochs_soft=stamp.soft,
        )
        self._memory.put(copy, until=copy.kept_until(), quota=None, now=time.time())


if __name__ == "__main__":
    proxy.app.Cache = FilledCache  # type: ignore[misc]
    sys.exit(main())
