"""What does sidecache say about itself? Structured lines on standard error: JSON, or plain text on a terminal."""

import atexit
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import structlog

from proxy.telemetry.lines import Lines
from proxy.telemetry.metrics import Sample

Logger = structlog.typing.FilteringBoundLogger

_MAX_TEXT = 512  # of a value: a line stays short whatever a client sends
_MAX_ITEMS = 50  # of a list
_LAST = 1.0  # seconds that the end of the process waits for lines to be written

# What moves a cursor, ends a line, reorders it or cannot be written: C0, DEL, C1, line separators, bidirectional
# controls, lone surrogates.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Nothing here logs credentials on purpose; an error's text or a query might carry one.
# No dot is needed: looking for one from every `eyJ` on would take time by the square of their number.
_CREDENTIAL = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){0,4}|(?i:(?<=bearer )|(?<=token=))[^\s&\"']+")


def configure(stream: TextIO | None = None, *, level: int = logging.INFO, worker: int | None = None) -> Lines:
    """Set up logging for the process. Called once, before anything logs. `worker`: its lines say which of several."""
    stream = stream if stream is not None else sys.stderr
    lines = Lines(stream)
    atexit.register(lines.written, _LAST)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)
        if stream.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_with_worker(worker)] if worker is not None else ()),
            _made_inert,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Libraries()]
    root.setLevel(logging.WARNING)
    # A client's bad bytes are answered, not logged with a traceback.
    for name in ("aiohttp.server", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return lines


def logger() -> Logger:
    log: Logger = structlog.get_logger()
    return log


def samples() -> Iterator[Sample]:
    """What a scrape finds about the log itself."""
    lines = structlog.get_config()["logger_factory"]()
    lost = lines.lost if isinstance(lines, Lines) else 0
    yield Sample("sidecache_log_lost_total", "Lines of the log that nobody took in time.", lost, counter=True)


class _Libraries(logging.Handler):
    """What libraries say through the standard module, in the same form: one line, with the place instead of a trace."""

    def emit(self, record: logging.LogRecord) -> None:
        details: dict[str, str] = {"logger": record.name, "message": record.getMessage()}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            details["error"] = f"{type(error).__name__}: {error}"
            trace = error.__traceback__
            while trace is not None:
                details["at"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
                trace = trace.tb_next
        logger().log(max(record.levelno, logging.WARNING), "library", **details)


def _with_worker(number: int) -> structlog.typing.Processor:
    def added(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"worker": number, **event}

    return added


def _made_inert(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: _inert(value) for name, value in event.items()}


def _inert(value: Any) -> Any:
    if isinstance(value, str):
        return _inert_text(value)
    if isinstance(value, list | tuple):
        return [_inert(each) for each in value[:_MAX_ITEMS]]
    if isinstance(value, dict):
        return {_inert_text(str(name)): _inert(each) for name, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float) else _inert_text(str(value))


def _inert_text(text: str) -> str:
    text = _CREDENTIAL.sub("(credential)", text[: 16 * _MAX_TEXT])
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "..."
    return _ACTIVE.sub(lambda found: ascii(found[0])[1:-1], text)
