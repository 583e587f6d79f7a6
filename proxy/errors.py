"""Which failures does sidecache itself raise? An expected outcome is a value (`policy.outcome.Reason`) instead."""


class SidecacheError(Exception):
    """The root of this tree: its text is one line for a person and never holds a secret."""


class ConfigError(SidecacheError):
    """A setting, a flag or the rules file is wrong: each problem is printed on its own line, exit code 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StoreError(SidecacheError):
    """The store did not answer, or answered with a failure. Never a reason for a client to see an error."""


class StoreRefusedError(StoreError):
    """It certainly did nothing of it: it was not asked, it could not be reached, or it said no."""

    @classmethod
    def of(cls, error: StoreError) -> "StoreRefusedError":
        """The same failure, of which this is known."""
        return error if isinstance(error, StoreRefusedError) else cls(str(error))


class StoreFullError(StoreRefusedError):
    """The store has no room: it answers reads, and takes nothing more."""


class UpstreamError(SidecacheError):
    """The upstream gave no usable response.

    `status` is what the client gets (502 or 504); `kind` is the RFC 9209 Proxy-Status error type;
    `delivered` says whether the upstream may have acted on the request (a write then still purges).
    """

    def __init__(self, kind: str, *, status: int = 502, delivered: bool = True) -> None:
        super().__init__(kind)
        self.kind = kind
        self.status = status
        self.delivered = delivered
