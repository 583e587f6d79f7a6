"""What does a Dockerfile say? Its stages and their steps, as far as ours uses the language; all else is an error."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class NotUnderstood(Exception):
    """An instruction that this reader does not know."""


@dataclass(frozen=True)
class Run:
    command: str
    environment: Mapping[str, str]
    workdir: str
    caches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copy:
    sources: tuple[str, ...]
    target: str
    stage: str | None = None


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str | None
    steps: list[Run | Copy] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: list[str] = field(default_factory=list)
    workdir: str = "/"
    user: str = "0:0"
    stop_signal: str = ""
    health: tuple[str, ...] = ()
    health_options: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def read(file: Path, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """`arguments`: what `--build-arg` says."""
    given = dict(arguments or {})
    globals_: dict[str, str] = {}
    stages: list[Stage] = []
    known: dict[str, str] = {}
    for word, rest in _instructions(file.read_text()):
        if word == "ARG":
            name, _, default = rest.partition("=")
            value = given.get(name, globals_.get(name, default))
            (known if stages else globals_)[name] = value
        elif word == "FROM":
            image, *alias = _filled(rest, globals_).split()
            stages.append(Stage(image, alias[1] if alias else None))
            known = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"}
            stages[-1].environment["PATH"] = known["PATH"]
        else:
            _apply(stages[-1], word, rest, known)
    return stages


def _apply(stage: Stage, word: str, rest: str, known: dict[str, str]) -> None:
    if word == "RUN":  # its variables are the shell's
        options, command = _options(rest)
        mounts = [dict(part.split("=", 1) for part in each.split(",")) for each in options.get("mount", [])]
        if options.keys() - {"mount"} or any(mount["type"] != "cache" for mount in mounts):
            raise NotUnderstood(rest)
        environment = {**known, **stage.environment}
        stage.steps.append(Run(command, environment, stage.workdir, tuple(mount["target"] for mount in mounts)))
        return
    if word == "HEALTHCHECK":
        options, command = _options(rest)
        stage.health_options = {name: value for name, (value,) in options.items()}
        stage.health = tuple(json.loads(command.removeprefix("CMD")))
        return
    rest = _filled(rest, known)
    match word:
        case "COPY":
            options, files = _options(rest)
            *sources, target = files.split()
            (origin,) = options.get("from", [None])
            stage.steps.append(
                Copy(tuple(sources), f"{stage.workdir}/{target}" if target[0] != "/" else target, origin)
            )
        case "WORKDIR":
            stage.workdir = rest
            stage.steps.append(Run(f"mkdir -p {rest}", dict(stage.environment), "/"))
        case "ENV":
            stage.environment |= _pairs(rest)
            known |= stage.environment
        case "LABEL":
            stage.labels |= _pairs(rest)
        case "USER":
            stage.user = rest
        case "EXPOSE":
            stage.ports += rest.split()
        case "STOPSIGNAL":
            stage.stop_signal = rest
        case "ENTRYPOINT":
            stage.entrypoint = tuple(json.loads(rest))
        case "CMD":
            stage.command = tuple(json.loads(rest))
        case _:
            raise NotUnderstood(f"{word} {rest}")


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _options(text: str) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    while option := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        found.setdefault(option[1], []).append(option[2])
        text = text[option.end() :]
    return found, text


def _pairs(text: str) -> dict[str, str]:
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\S+?)=(?:"([^"]*)"|(\S+))', text)}


def _filled(text: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?([A-Z_]+)\}?", lambda found: known[found[1]], text)
