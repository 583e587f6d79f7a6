"""Does a client send fast enough? Time is its credit, which bytes renew."""


class Pace:
    """A body may take as long as it likes, at `rate` bytes a second or more; slower than that, or not at all, for
    `grace` seconds. While we hold the client back, its time stands still.
    """

    __slots__ = ("_at", "_bytes", "_credit", "_grace", "_held", "_rate")

    def __init__(self, grace: float, rate: float, now: float) -> None:
        self._grace = grace
        self._rate = rate
        self._credit = grace
        self._at = now
        self._bytes = 0
        self._held: float | None = None

    def received(self, size: int) -> None:
        self._bytes += size

    def hold(self, now: float) -> None:
        """From now on we do not read."""
        if self._held is None:
            self._held = now

    def release(self, now: float) -> None:
        if self._held is not None:
            self._at += now - self._held
            self._held = None

    def left(self, now: float) -> float:
        """Seconds the client has if it sends nothing more; 0 or less: it has been too slow."""
        if self._held is not None:
            self.release(now)
            self.hold(now)
        self._credit = min(self._grace, self._credit - (now - self._at) + self._bytes / self._rate)
        self._at, self._bytes = now, 0
        return self._credit
