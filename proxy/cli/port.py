"""How do the commands talk to a sidecar? JSON over its admin port, with SIDECACHE_TOKEN; every failure is one line."""

import json
import os
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from proxy.addresses import Address
from proxy.errors import SidecacheError
from proxy.settings import admin_address, admin_token

TIMEOUT = 10.0
_MAX_ANSWER = 16 << 20

AdminOption = Annotated[str | None, typer.Option("--admin", help="The admin port, HOST:PORT.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


class NoAnswerError(SidecacheError):
    """The admin port was not reached, or what answered there was no sidecar: exit code 2."""


class Port:
    """One admin port."""

    def __init__(self, admin: str | None) -> None:
        self.address = admin_address(os.environ, admin)
        self._token = admin_token(os.environ)

    def get(self, path: str, **query: object) -> dict[str, Any]:
        said = {name: str(value) for name, value in query.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(said)}" if said else path, None)

    def send(self, method: str, path: str, fields: Mapping[str, object]) -> dict[str, Any]:
        return self._ask(method, path, {name: value for name, value in fields.items() if value is not None})

    def _ask(self, method: str, path: str, document: Mapping[str, object] | None) -> dict[str, Any]:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        body = None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(document).encode()
        # this client follows no redirect and knows no proxy: a token goes nowhere else
        connection = HTTPConnection(self.address.host, self.address.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                answered = _document(response.read(_MAX_ANSWER), self.address)
        except OSError as error:
            raise NoAnswerError(
                f"no answer from the admin port {self.address}: {(error.strerror or str(error)).lower()}; "
                "is the sidecar running here? --admin HOST:PORT says where it is"
            ) from None
        except HTTPException:
            raise NoAnswerError(f"what answers at {self.address} is no sidecar's admin port") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise NoAnswerError(_refusal(response.status, answered))
        return answered


def _document(body: bytes, address: Address) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NoAnswerError(f"what answers at {address} is no sidecar's admin port")
    return value


def _refusal(status: int, answered: Mapping[str, Any]) -> str:
    detail = plain(answered.get("detail", f"status {status}"))
    problems = answered.get("problems")
    if status == 422 and isinstance(problems, list) and problems:
        return "\n".join(
            f"{plain(each.get('file'))}:{each.get('line')}: {plain(each.get('message'))}" for each in problems
        )
    field = answered.get("field")
    if status == 401:
        return f"{detail.rstrip('.')} (SIDECACHE_TOKEN)"
    return f"{plain(field)}: {detail}" if field is not None else detail


def plain(value: object) -> str:
    """A text of the sidecar as a terminal may show it: what moves a cursor or reorders a line is spelled out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True)
