"""How does a sidecar live faster? `python -m soak.accelerated FACTOR run ...`: by a wall clock so many times faster.

Ttls, graces, ages, tokens and the minutes of audit and counting go by it. The monotonic clock, by which timeouts, the
breaker and copies of epochs go, stays as it is; so does the store's.
"""

import sys
import time


def main() -> None:
    factor = float(sys.argv.pop(1))
    right = time.time
    began = right()
    time.time = lambda: began + (right() - began) * factor
    from proxy.cli.main import main as sidecache  # after it: everything takes the clock from there

    sidecache()


if __name__ == "__main__":
    main()
