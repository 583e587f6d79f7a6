"""What can one say on the command line? Composes the commands; every failure is one clear line and an exit code."""

import errno
import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

from proxy import __version__
from proxy.errors import SidecacheError

# 0: done. 1: the answer is no (a check failed, unhealthy). 2: it could not be asked (flags, settings, files).
EXIT_UNUSABLE = 2

# The module below proxy.cli that has each command. It is imported when the command is named: a container's probe runs
# `sidecache health` every few seconds and need not load the rules compiler.
_MODULES = {
    "run": "run",
    "demo": "demo",
    "check": "rules",
    "test": "rules",
    "explain": "rules",
    "plan": "plan",
    "schema": "rules",
    "status": "operate",
    "why": "operate",
    "purge": "operate",
    "bypass": "operate",
    "keys": "operate",
    "top": "operate",
    "audit": "operate",
    "keygen": "keygen",
    "health": "health",
    "dev": "dev",
}


class _Commands(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # a subclass of its own
        return list(_MODULES)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand:  # type: ignore[override]
        if cmd_name not in _MODULES:
            near = get_close_matches(cmd_name, _MODULES, n=1)
            ctx.fail(f"No such command '{cmd_name}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
        part = typer.Typer(rich_markup_mode=None, add_completion=False, callback=lambda: None)
        import_module(f"proxy.cli.{_MODULES[cmd_name]}").register(part)
        group = typer.main.get_command(part)
        assert isinstance(group, TyperGroup)
        command = group.commands[cmd_name]
        assert isinstance(command, TyperCommand)
        return command


app = typer.Typer(
    name="sidecache",
    cls=_Commands,
    help="A transparent caching reverse proxy that runs as a sidecar in front of a multi-tenant API.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        typer.echo(f"sidecache {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_UNUSABLE)


def main() -> None:
    """The console script."""
    _have_standard_streams()
    try:
        code = app(prog_name="sidecache", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "sidecache"
        _fail(f"{' '.join(error.format_message().split()).rstrip('.')} (see `{command} --help`)")
    except typer.Abort:
        sys.exit(130)
    except SidecacheError as error:
        _fail(*str(error).splitlines())
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _drop_output()
        if error.errno != errno.EPIPE:  # a reader that has seen enough, such as `head`, need not be told
            _fail(f"the output cannot be written: {(error.strerror or '').lower()}")
        sys.exit(EXIT_UNUSABLE)
    else:
        sys.exit(code if isinstance(code, int) else 0)


_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}


def _have_standard_streams() -> None:
    """Whoever started us may have closed them: the next connection would get such a number, and what we say."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as we run


def _drop_output() -> None:
    """What is left in the buffer is not tried again, and complained about, when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(*lines: str) -> None:
    for line in lines:
        with suppress(OSError):  # nobody can be told; the exit code says it
            typer.echo(f"sidecache: {line}", err=True)
    sys.exit(EXIT_UNUSABLE)
