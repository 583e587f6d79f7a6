"""Can nobody rewrite the audit log unseen? Each line holds the hash of the one before (SPEC 14).

A line's `hash` is the SHA-256 of the line without it; `previous` is the hash of the line before. Whoever changes, drops
or moves a line breaks the chain from there on. Lines cut off at either end leave a shorter, whole chain, and so does
whoever makes all hashes anew: `verify` tells the last hash, to compare with one that was kept elsewhere, and which one
the first line follows, to compare with the last of the file before.

In the native form a line has `number`, `previous` and `hash` itself; an OCSF event has them in `unmapped.chain`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import orjson

from proxy.admin import ocsf

START = "0" * 64  # before the first line

Form = Literal["native", "ocsf"]
Record = Mapping[str, Any]  # what an audit line says, before it has its place in a chain
Line = dict[str, Any]  # the same in its place, for whoever asks the admin port


def linked(record: Record, number: int, previous: str, form: Form) -> tuple[Line, bytes]:
    """The line that follows `previous`, and how it is written."""
    line: Line = {"log": "audit", "time": record["time"], "number": number, **record, "previous": previous}
    if form == "native":
        line["hash"] = _hash(line)
        return line, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    event = ocsf.event(record)
    chain = event["unmapped"]["chain"] = {"number": number, "previous": previous}
    line["hash"] = chain["hash"] = _hash(event)
    return line, orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def hash_of(line: bytes) -> str | None:
    """The hash that a written line says it has."""
    record = _parsed(line)
    chain = _chain(record) if record is not None else None
    found = chain.get("hash") if chain is not None else None
    return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a chain. `broken_at` None: every line is as it was written."""

    lines: int
    last_hash: str
    broken_at: int | None = None  # a line's place in the file, from 1
    problem: str = ""
    follows: str | None = None  # the hash of a line before the first one, which is not among these


def verify(lines: Iterable[bytes], *, among_others: bool = False) -> Verdict:
    """Follow the chain. Only a process's first line may begin a new one (in what was kept of a standard output).

    `among_others`: what is no line of an audit log is something else that was said in between; a line that was made to
    look so is missed by the one behind it.
    """
    previous: str | None = None
    follows: str | None = None
    count = 0
    for place, line in enumerate(lines, 1):
        record = _parsed(line)
        chain = _chain(record) if record is not None else None
        if record is None or chain is None:
            if among_others:
                continue
            return Verdict(place, previous or START, place, "is no line of an audit log")
        count += 1
        said = chain.pop("hash", None)
        if said != _hash(record):
            return Verdict(count, previous or START, place, "was changed")
        begins = chain.get("previous") == START and chain.get("number") == 1
        if previous is not None and chain.get("previous") != previous and not begins:
            return Verdict(count, previous, place, "does not follow the line before: lines were dropped or moved")
        if previous is None and not begins:
            follows = str(chain.get("previous"))
        previous = said
    return Verdict(count, previous or START, follows=follows)


def _hash(line: Mapping[str, object]) -> str:
    return sha256(orjson.dumps(line, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _chain(record: dict[str, Any]) -> dict[str, Any] | None:
    """Where a line holds its place; None: it is none of an audit log."""
    if record.get("log") == "audit":
        return record
    unmapped = record.get("unmapped")
    chain = unmapped.get("chain") if isinstance(unmapped, dict) else None
    return chain if isinstance(chain, dict) else None
