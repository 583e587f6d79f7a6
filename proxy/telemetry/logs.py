"""What does sidecache say about itself? Structured lines on standard error: JSON, or plain text on a terminal."""

import logging
import sys
from typing import Any, TextIO

import structlog

Logger = structlog.typing.FilteringBoundLogger

# Untrusted text (paths, header names) is cut: a line stays a line, and short (reliability: log injection).
_MAX_TEXT = 512


def configure(stream: TextIO = sys.stderr, *, level: int = logging.INFO) -> None:
    """Set up logging for the process. Called once, before anything logs."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)
        if stream.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cut,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module. A client's bad bytes are answered, not logged with a traceback.
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)
    for name in ("aiohttp.server", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def logger() -> Logger:
    log: Logger = structlog.get_logger()
    return log


def _cut(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            event[name] = value[:_MAX_TEXT] + "..."
    return event
