"""Where do secrets come from? `sidecache keygen` makes one and prints it once; nothing is kept."""

import json
import os
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from proxy.credentials import ROLES, new_admin_token, new_encryption_key, new_name_key

Made = TypeVar("Made")


def register(app: typer.Typer) -> None:
    app.command("keygen")(keygen)


def keygen(
    key_id: Annotated[str | None, typer.Option("--id", help="The key's id. Default: k and today's date.")] = None,
    name_key: Annotated[bool, typer.Option("--name-key", help="Make a SIDECACHE_NAME_KEY instead.")] = False,
    admin: Annotated[
        tuple[str, str] | None,
        typer.Option("--admin", metavar="NAME ROLE", help=f"Make an admin token instead: {', '.join(ROLES)}."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="The only tenant the admin token is for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an entry for SIDECACHE_ENCRYPTION_KEYS (or a name key, or an admin token) and print it."""
    _refuse_contradictions(key_id, name_key, admin, tenant)
    if admin is not None:
        made = _or_refuse("--admin", lambda: new_admin_token(*admin, tenant, os.urandom))
        facts = {"token": made.token, "entry": made.entry}
        text = f"token  {made.token}\nentry  {made.entry}"
        hint = (
            "The token is shown only now: its owner keeps it, as SIDECACHE_TOKEN. "
            "The entry goes into SIDECACHE_ADMIN_TOKENS."
        )
    elif name_key:
        text = new_name_key(os.urandom)
        facts = {"name_key": text}
        hint = "For SIDECACHE_NAME_KEY: the same on all replicas. A new one starts with an empty cache."
    else:
        name = time.strftime("k%Y%m%d", time.gmtime()) if key_id is None else key_id
        key = _or_refuse("--id", lambda: new_encryption_key(name, os.urandom))
        text = key.entry()
        facts = {"id": key.id, "entry": text}
        hint = (
            "For SIDECACHE_ENCRYPTION_KEYS: the first entry writes, all read. To rotate, append it everywhere first, "
            "then move it to the front."
        )
    typer.echo(json.dumps(facts) if as_json else text)
    if not as_json:
        typer.echo(hint, err=True)  # beside the output, which a script may want alone


def _refuse_contradictions(
    key_id: str | None, name_key: bool, admin: tuple[str, str] | None, tenant: str | None
) -> None:
    if name_key and admin is not None:
        raise typer.BadParameter("an admin token is made by itself: leave out --admin", param_hint="--name-key")
    if key_id is not None and (name_key or admin is not None):
        raise typer.BadParameter("only an encryption key has an id", param_hint="--id")
    if tenant is not None and admin is None:
        raise typer.BadParameter("only an admin token is for a tenant: add --admin NAME ROLE", param_hint="--tenant")


def _or_refuse(option: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
