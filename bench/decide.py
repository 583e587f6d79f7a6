"""What does it cost to decide about one fresh hit, once the entry is found? (target: at most 5 us)

Everything `policy/` is asked between the cache and the wire: may the request be answered from the cache, was the entry
selected as it selects, is it usable now.

python -m bench.decide [--json FILE]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from proxy.policy import lookup, reuse
from proxy.policy.entry import Entry, pack_head
from proxy.policy.message import Fields, Request
from proxy.policy.route import Kind, Route, Scope

TARGET = 5.0
ROUNDS = 15
PER_ROUND = 20_000
NOW = 1_800_000_000.0

BROWSER = Fields(
    [
        ("Host", "portal.example"),
        ("Accept", "application/json, text/plain, */*"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
        ("Authorization", "Bearer " + "x" * 900),
        ("Referer", "https://portal.example/jobs"),
        ("Sec-Fetch-Mode", "cors"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ]
)
REQUEST = Request("GET", "/api/jobs/77?page=2", BROWSER)
RULE = Route("jobs", Kind.READ, ("GET",), "/api/jobs/{job-id}", ttl=900.0, grace=120.0, if_error=3600.0)
ORIGIN = Route("all", Kind.READ, ("GET",), "/**", scope=Scope.PUBLIC, client_control=True)


def entry(vary: tuple[tuple[str, str], ...] = ()) -> Entry:
    head = pack_head(Fields([("Content-Type", "application/json"), ("Cache-Control", "max-age=900")]))
    return Entry(
        "key", "org", "GET /api/jobs/77?page=2", b"rule", 200, head, b"[]", NOW, 0.0, NOW + 900, NOW + 1020, NOW + 4500,
        content_type="application/json", vary=vary,
    )  # fmt: skip


def with_control(value: str) -> Request:
    return Request("GET", REQUEST.target, Fields([*BROWSER, ("Cache-Control", value)]))


CASES = {
    "a rule's ttl": (REQUEST, RULE, entry()),
    "ttl: origin": (REQUEST, ORIGIN, entry()),
    "ttl: origin, the client's max-age": (with_control("max-age=60"), ORIGIN, entry()),
    "Vary: Accept-Language": (REQUEST, RULE, entry((("accept-language", "en-gb,en;q=0.9,de;q=0.8"),))),
}


def cost(request: Request, route: Route, found: Entry) -> float:
    """Microseconds of CPU per decision in one round."""
    now = NOW + 9
    begin = time.process_time()
    for _ in range(PER_ROUND):
        lookup.bypass_reason(request)
        reuse.second_key_names(found, request)
        decision = reuse.decide(request, route, found, now)
    elapsed = time.process_time() - begin
    assert isinstance(decision, reuse.Serve), decision
    return elapsed / PER_ROUND * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    rounds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, case in CASES.items():
            rounds[name].append(cost(*case))
    figures = {name: round(statistics.median(found), 2) for name, found in rounds.items()}
    print("us of CPU per decision, median")
    for name, figure in figures.items():
        print(f"{name:36}{figure:6.2f}")
    met = max(figures.values()) <= TARGET
    print(f"at most {TARGET:g}: {'met' if met else 'MISSED'}")
    if arguments.json is not None:
        result = {"unit": "us of CPU per decision, median", "target": TARGET, "met": met, "figures": figures}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
