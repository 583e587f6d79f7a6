"""What do clients notice of rules that are edited a hundred times a minute, every second time with a mistake?"""

import asyncio
import signal
import time
from pathlib import Path

from soak.crowd import Crowd, Watched
from soak.judged import Judged
from soak.sidecars import Sidecar, replicas
from tests import wire
from tests.portal import RULES, Portal

METHOD = (
    "a sidecar of two workers on one redis-server, clients that verify every answer, 5 % writes; {edits} edits of "
    "rules.yaml, one every {apart} s with a SIGHUP: valid ones (other ttl) and broken ones (unknown key, half a file, "
    "an empty one, a value of another kind, no text) by turns"
)
APART = 0.6


def valid(number: int) -> str:
    return RULES.replace("ttl: 15m", f"ttl: {15 + number % 20}m")


BROKEN = (
    RULES.replace("ttl:", "tll:"),
    RULES[: len(RULES) // 2] + "\n    read: [GET",
    "",
    "version: 1\nfeatures: {jobs: {ttl: 15:00}}\n",
    "\x00\xff not text",
)


async def run(folder: Path, *, short: bool) -> Judged:
    edits = 14 if short else 100
    judged = Judged("rules edited", METHOD.format(edits=edits, apart=APART))
    portal = Portal()
    async with replicas(folder, portal, SIDECACHE_WORKERS="2") as (sidecar,):
        crowd = Crowd(Watched(portal, [sidecar.port]))
        async with crowd.asking():
            began = time.monotonic()
            for number in range(edits):
                sidecar.rules.write_text(valid(number) if number % 2 == 0 else BROKEN[number // 2 % len(BROKEN)])
                sidecar.send(signal.SIGHUP)
                await asyncio.sleep(max(0.0, began + (number + 1) * APART - time.monotonic()))
            sidecar.rules.write_text(RULES.replace("ttl: 15m", "ttl: 59m"))
            judged.figures["edits a minute"] = round(60 * edits / (time.monotonic() - began))
            judged.at_most("the last valid edit is in force", await in_force(sidecar), 5.0)
            judged.at_most("hits after the last edit", await crowd.hits_again(), 10.0)
        judge(judged, crowd, sidecar, edits)
    return judged


async def in_force(sidecar: Sidecar) -> float:
    """Seconds until the word on the data port is that all is well."""
    began = time.monotonic()
    while time.monotonic() < began + 20.0:
        answer = await wire.fetch(sidecar.port, "/.sidecache/health")
        if answer.body.strip() == b"ready":
            break
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def judge(judged: Judged, crowd: Crowd, sidecar: Sidecar, edits: int) -> None:
    history = crowd.history
    loaded, refused = len(sidecar.events("rules-loaded")), len(sidecar.events("rules-refused"))
    judged.figures |= {"answers": history.operations, "hits": history.hits, "loaded": loaded, "refused": refused}
    judged.at_least("answers that were verified", history.operations, 200)
    judged.at_least("edits that came into force", loaded, edits / 4)
    judged.at_least("edits that were refused", refused, edits / 4)
    told = [f"{each.kind} {each.told}" for each in history.of("C1", "C2", "C3 same", "C3 other", "C5")]
    judged.none("answers of another tenant, broken, or stale", told)
    judged.none("answers that were not 200", [each.told for each in history.of("C7")])
    judged.none("requests without an answer", crowd.examples)
    judged.none("alarming lines in the log", sidecar.alarming())
