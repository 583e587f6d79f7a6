"""What do clients lose when one of two replicas is killed, or stands still, and comes back?"""

import asyncio
import signal
from pathlib import Path

from soak.crowd import Crowd, Watched
from soak.judged import Judged
from soak.sidecars import Sidecar, replicas
from tests.portal import BOUND, Portal

METHOD = (
    "two replicas on one redis-server, clients at both that verify every answer, 5 % writes; the second is killed "
    "(SIGKILL) and started again {times} times, then stopped (SIGSTOP) for 2 s"
)
_RECOVERY = 15.0  # with the start of a Python process on a busy machine
_DOWN = 0.5


async def run(folder: Path, *, short: bool) -> Judged:
    times = 1 if short else 4
    judged = Judged("a replica killed", METHOD.format(times=times))
    portal = Portal()
    async with replicas(folder, portal, count=2) as both:
        crowd = Crowd(Watched(portal, [each.port for each in both]))
        async with crowd.asking():
            await crowd.hits_again()
            for _ in range(times):
                await kill(both[1], crowd, judged)
            both[1].send(signal.SIGSTOP)
            await asyncio.sleep(2.0)
            both[1].send(signal.SIGCONT)
            judged.at_most("hits of both after it stood still", await crowd.hits_again(), _RECOVERY)
        judge(judged, crowd, both)
    return judged


async def kill(replica: Sidecar, crowd: Crowd, judged: Judged) -> None:
    replica.send(signal.SIGKILL)
    await replica.ended()
    await asyncio.sleep(_DOWN)
    await replica.start()
    judged.at_most("hits of both after it was started again", await crowd.hits_again(), _RECOVERY)
    await asyncio.sleep(BOUND)


def judge(judged: Judged, crowd: Crowd, both: list[Sidecar]) -> None:
    history = crowd.history
    judged.figures |= {"answers": history.operations, "hits": history.hits, "requests cut off": crowd.failed}
    judged.at_least("answers that were verified", history.operations, 200)
    kinds = {"C1", "C2", "C3 same", "C3 other", "C5"}
    told = [f"{each.kind} {each.told}" for each in history.of(*kinds)]
    judged.none("answers of another tenant, broken, or stale beyond a second", told)
    judged.none("answers that were not 200", [each.told for each in history.of("C7")])
    elsewhere = [each for each in crowd.examples if " at 0:" in each]
    judged.none("requests of the other replica without an answer", elsewhere)
    judged.none("alarming lines in the logs", [line for each in both for line in each.alarming()])
    if crowd.failed:
        judged.losses.append(
            f"{crowd.failed} requests that the killed replica had, or that came before it listened again, got no answer"
        )
