"""What does a worker's process do? It is started by its parent (`sidecache run --workers N`), never by a person."""

import pickle
import signal
import sys


def main() -> None:
    from proxy.app import serve
    from proxy.cli.run import run_until_done
    from proxy.errors import SidecacheError
    from proxy.telemetry.logs import configure
    from proxy.workers.seat import Assignment, Seat

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent reads the rules
    assignment = pickle.load(sys.stdin.buffer)
    assert isinstance(assignment, Assignment)
    configure(worker=assignment.number)
    try:
        run_until_done(serve(assignment.settings, seat=Seat(assignment)))
    except SidecacheError as error:
        print(f"sidecache: {error}", file=sys.stderr)
        sys.exit(2)
