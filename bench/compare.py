"""How do several servers compare? They take turns, so that a slow moment of the machine hits them alike.

A figure is the median over the rounds; a ratio is the median of the ratios of each round, because what was measured
next to each other is comparable even where the machine is shared.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.cpu import core_busy_seconds
from bench.load import CONNECTIONS, Answered
from bench.peers import Place, Server
from bench.wire import fetched


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server under a load. `series` and `at` name it: at which size, number of connections or keys."""

    series: str
    server: Server
    send: Callable[[], Answered]
    at: str = ""
    fetches: float | None = 0.0  # requests that reach the origin for each answered one; None: whatever they are
    prepare: Callable[[], object] | None = None  # before each round, not measured


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one contestant: microseconds, answers a second, fetches from the origin per answer.

    `others`: the share of the round in which the server's core ran something else. The machine is quiet below 0.05.
    """

    cpu: float
    p50: float
    p99: float
    rate: float
    fetches: float
    others: float

    def figure(self, name: str) -> float:
        return float(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Target:
    """`series` may cost at most `limit` times what `against` costs."""

    series: str
    against: str
    limit: float
    at: str = ""
    against_at: str = ""
    measure: str = "cpu"


@dataclass(slots=True)
class Comparison:
    """All rounds of a workload."""

    workload: str
    question: str
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    failed: str = ""  # why there is nothing more of it
    resident: dict[tuple[str, str], float] = field(default_factory=dict)
    measured: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M", time.gmtime()))

    def median(self, who: tuple[str, str], measure: str = "cpu") -> float:
        return statistics.median(sample.figure(measure) for sample in self.samples[who])

    def spread(self, who: tuple[str, str]) -> tuple[float, float]:
        """The second lowest and second highest of CPU per request."""
        costs = sorted(sample.cpu for sample in self.samples[who])
        return (costs[1], costs[-2]) if len(costs) > 3 else (costs[0], costs[-1])

    def ratio(self, who: tuple[str, str], against: tuple[str, str], measure: str = "cpu") -> float | None:
        """How many times what `against` costs; None when one of them was not measured."""
        pairs = list(zip(self.samples.get(who, ()), self.samples.get(against, ()), strict=False))
        if not pairs:
            return None
        return statistics.median(mine.figure(measure) / theirs.figure(measure) for mine, theirs in pairs)

    def verdicts(self) -> list[tuple[Target, float | None]]:
        return [
            (each, self.ratio((each.series, each.at), (each.against, each.against_at), each.measure))
            for each in self.targets
        ]

    def fail(self, why: str) -> None:
        """Nothing more comes: of what there is, only whole rounds count."""
        self.failed = why
        whole = min([len(samples) for samples in self.samples.values()], default=0)
        self.samples = {who: samples[:whole] for who, samples in self.samples.items() if whole}

    def document(self) -> dict[str, Any]:
        """For JSON."""
        figures = ("cpu", "p50", "p99", "rate", "fetches", "others")
        rows = [
            {"series": who[0], "at": who[1], **{name: round(self.median(who, name), 3) for name in figures}}
            | {"cpu_spread": [round(bound, 2) for bound in self.spread(who)], "rounds": len(samples)}
            | ({"resident_mib": round(self.resident[who], 1)} if who in self.resident else {})
            for who, samples in self.samples.items()
        ]
        targets = [asdict(target) | {"ratio": ratio and round(ratio, 3)} for target, ratio in self.verdicts()]
        return {
            "question": self.question,
            "measured": self.measured,
            "rows": rows,
            "targets": targets,
            "skipped": self.skipped,
            "failed": self.failed,
        }


def measure(contestant: Contestant, place: Place) -> Sample:
    """One round. ValueError when the origin was asked more or less often than this load must ask it."""
    processes, core = contestant.server.processes, place.cores.server
    if contestant.prepare is not None:
        contestant.prepare()
    began, busy, used, before = (
        time.perf_counter(),
        core_busy_seconds(core),
        processes.seconds(),
        fetched(place.origin),
    )
    answered = contestant.send()
    used, busy, took = processes.seconds() - used, core_busy_seconds(core) - busy, time.perf_counter() - began
    rate = (fetched(place.origin) - before) / answered.requests
    # requests that were under way when the load ended are fetched, but not answered
    tolerated = 0.01 + 2 * CONNECTIONS / answered.requests
    if contestant.fetches is not None and abs(rate - contestant.fetches) > tolerated:
        raise ValueError(f"{contestant.series}: {rate:.3f} fetches for each answer instead of {contestant.fetches:g}")
    return Sample(
        cpu=used / answered.requests * 1e6,
        p50=answered.p50,
        p99=answered.p99,
        rate=answered.requests / answered.seconds,
        fetches=rate,
        others=max(0.0, busy - used) / took,
    )


def interleaved(contestants: Sequence[Contestant], place: Place, rounds: int, into: Comparison) -> None:
    """Each contestant once a round, in turns that start with another one each time.

    A turn that fails is tried once more; a contestant that fails again is out, with its reason.
    """
    left = list(contestants)
    for number in range(rounds):
        for turn in range(len(contestants)):
            each = contestants[(turn + number) % len(contestants)]
            if each not in left:
                continue
            sample = _sampled(each, place)
            if isinstance(sample, Sample):
                into.samples.setdefault((each.series, each.at), []).append(sample)
            else:
                left.remove(each)
                into.samples.pop((each.series, each.at), None)
                into.skipped[f"{each.series} {each.at}".strip()] = sample
    for each in left:
        into.resident[each.series, each.at] = each.server.processes.resident_mib()


def _sampled(contestant: Contestant, place: Place) -> Sample | str:
    try:
        return measure(contestant, place)
    except ValueError:
        pass
    try:
        return measure(contestant, place)
    except ValueError as error:
        return str(error).strip().splitlines()[0]
