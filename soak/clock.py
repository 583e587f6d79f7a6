"""What is served when the wall clock jumps an hour, forth and back? Timeouts and copies of epochs have another one."""

import asyncio
import time
from pathlib import Path

from soak.crowd import Crowd, Patient, Watched
from soak.faketime import library, said
from soak.judged import Judged
from soak.sidecars import Sidecar, replicas
from tests.portal import TENANTS, Portal, is_hit, item

METHOD = (
    "a sidecar whose wall clock (libfaketime) jumps {steps}, every {seconds} s, the monotonic one untouched, on one "
    "redis-server with the right time; clients verify every answer, 5 % writes; ttl 15 min, grace 2 min"
)
STEPS = (("+1 h", "+3600"), ("back", "+0"), ("-1 h", "-3600"), ("forth", "+0"), ("+2 days", "+172800"), ("back", "+0"))


async def run(folder: Path, *, short: bool) -> Judged:
    seconds = 2.0 if short else 5.0
    steps = STEPS[:4] if short else STEPS
    method = METHOD.format(steps=", ".join(name for name, _ in steps), seconds=seconds)
    judged = Judged("the clock jumps", method)
    portal, times = Portal(), folder / "time"
    times.write_text(said("+0"))
    environ = {
        "LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(times), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    async with replicas(folder, portal, **environ) as (sidecar,):
        crowd = Crowd(Watched(portal, [sidecar.port]))
        async with crowd.asking():
            await crowd.hits_again()
            for number, (name, offset) in enumerate(steps):
                await jump(name, offset, times, seconds, 500 + number, crowd, judged)
        judge(judged, crowd, sidecar)
    return judged


async def jump(
    name: str, offset: str, times: Path, seconds: float, number: int, crowd: Crowd, judged: Judged
) -> None:  # fmt: skip
    """What was kept just before is asked for just behind."""
    user, history = Patient(crowd.history.ports), crowd.history
    try:
        for _ in range(2):
            kept = await history.read(user, 0, TENANTS[0], item(number))
        judged.true(f"{name}: kept before it", is_hit(kept), kept)
        await asyncio.to_thread(times.write_text, said(offset))
        at = time.monotonic()
        behind = await history.read(user, 0, TENANTS[0], item(number))
        judged.true(f"{name}: what was kept before is not fresh any more", not is_hit(behind), behind)
        judged.none(f"{name}: an Age below 0 or above an hour", await _absurd(user, number))
        recovered = await crowd.hits_again()
        judged.at_most(f"{name}: hits afterwards", recovered, 5.0)
        await asyncio.sleep(max(0.0, at + seconds - time.monotonic()))
    finally:
        await user.close()


async def _absurd(user: Patient, number: int) -> list[str]:
    found = []
    for each in range(5):
        answer = await user.ask(0, TENANTS[0], item(number))
        age = answer.get("age")
        if age is not None and not (age.isdigit() and int(age) <= 3600 + 900):
            found.append(f"Age: {age} at look {each}: {answer.cache}")
    return found


def judge(judged: Judged, crowd: Crowd, sidecar: Sidecar) -> None:
    history = crowd.history
    judged.figures |= {"answers": history.operations, "hits": history.hits}
    judged.at_least("answers that were verified", history.operations, 500)
    told = [f"{each.kind} {each.told}" for each in history.of("C1", "C2", "C3 same", "C3 other", "C5")]
    judged.none("answers of another tenant, broken, or stale", told)
    judged.none("answers that were not 200", [each.told for each in history.of("C7")])
    judged.none("requests without an answer", crowd.examples)
    judged.true("the process is the same and runs", sidecar.runs)
    judged.none("alarming lines in the log", sidecar.alarming())
