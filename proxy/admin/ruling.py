"""Which rules are in force, would others do, and take the file now? In development also: keep these."""

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked, for_all_tenants
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.problems import Refused, answer
from proxy.live_rules import LiveRules
from proxy.rules.compile import RuleSet
from proxy.rules.source import MAX_BYTES, Problem

_TEXT: Mapping[str, Mapping[str, Any]] = {"text": text("the whole rules file")}
_ACCEPT: Mapping[str, Mapping[str, Any]] = {
    "accept-widening": text("the digest of rules that may share more than those in force; needs an inspector"),
}


class Ruling:
    """`/api/rules`, `/api/rules/validate`, `/api/rules/reload`. `editable`: the file may be written (development).

    Elsewhere rules come with the deployment: whoever writes them decides what tenants share, which is more than an
    operator may.
    """

    def __init__(self, rules: LiveRules, audit: Audit, *, editable: bool) -> None:
        self._rules = rules
        self._audit = audit
        self._editable = editable

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint("GET", "/api/rules", self.show, "The rules in force, and what is wrong with the file.", _VIEW)
        yield Endpoint(
            "POST", "/api/rules", self.replace, "Write the rules file, if it is valid (development only).", _OPERATE,
            document=_TEXT, answers={200: "In force.", 409: "The file cannot be written.", 422: "Not valid."},
        )  # fmt: skip
        yield Endpoint(
            "POST", "/api/rules/validate", self.validate, "Every mistake of a rules file; nothing changes.", _VIEW,
            document=_TEXT,
        )  # fmt: skip
        yield Endpoint(
            "POST", "/api/rules/reload", self.reload, "Take the file over now.", _OPERATE, document=_ACCEPT,
            answers={200: "In force.", 422: "Not valid, or not accepted: the rules before stay in force."},
        )  # fmt: skip

    async def show(self, _: Asked) -> web.Response:
        current = self._rules.current
        routes = [
            {
                "route": str(route), "kind": route.kind.value, "feature": route.feature, "scope": route.scope.value,
                "ttl": "origin" if route.ttl is None else route.ttl, "sensitive": route.sensitive, "line": route.line,
            }
            for route in current.routes
        ]  # fmt: skip
        return answer({**self._state(), "routes": routes})

    async def validate(self, asked: Asked) -> web.Response:
        verdict = await self._rules.validate(_text(asked))
        if isinstance(verdict, RuleSet):
            return answer({"valid": True, "digest": verdict.digest, "problems": _listed(verdict.warnings)})
        return answer({"valid": False, "digest": None, "problems": _listed(verdict)})

    async def reload(self, asked: Asked) -> web.Response:
        for_all_tenants(asked.actor)
        accepted = asked.text("accept-widening", limit=64)
        if accepted is None:
            await self._rules.reload()
            return self._taken(asked, "rules-reload")
        if not asked.actor.may(Role.INSPECTOR):
            # what tenants share is more than an operator may decide
            raise Refused(f"This needs the role inspector; {asked.actor.name} is {asked.actor.role}.", status=403)
        before = self._rules.current.digest
        await self._rules.reload(accepted)
        return self._taken(asked, "rules-widen", {"accepted": accepted, "before": before})

    async def replace(self, asked: Asked) -> web.Response:
        for_all_tenants(asked.actor)
        if not self._editable:
            raise Refused("Rules are written with the deployment here; only development takes them so.", status=403)
        data = _text(asked)
        verdict = await self._rules.validate(data)
        if not isinstance(verdict, RuleSet):
            return answer({"valid": False, "problems": _listed(verdict)}, status=422)
        try:
            await asyncio.to_thread(_write, self._rules.file, data)
        except OSError as error:
            raise Refused(f"The file cannot be written: {error.strerror or error}.", status=409) from None
        await self._rules.reload()
        return self._taken(asked, "rules-write")

    def _taken(self, asked: Asked, event: str, more: Mapping[str, str] | None = None) -> web.Response:
        state = self._state()
        done = not self._rules.problems
        self._audit.record(
            event,
            asked.actor,
            result="done" if done else "refused",
            target={"digest": self._rules.current.digest, **(more or {})},
        )
        return answer({"valid": done, **state}, status=200 if done else 422)

    def _state(self) -> dict[str, Any]:
        current = self._rules.current
        return {
            "file": str(self._rules.file),
            "digest": current.digest,
            "loaded_at": self._rules.loaded_at,
            "problems": _listed(self._rules.problems),
            "widening": self._rules.widening or None,  # the digest that could be accepted
            "warnings": _listed(current.warnings),
        }


_VIEW = (Role.VIEWER,)
_OPERATE = (Role.OPERATOR,)


def _text(asked: Asked) -> bytes:
    value = asked.value("text")
    if not isinstance(value, str):
        raise Refused("is missing: the whole rules file as one text", field="text")
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        raise Refused(f"is larger than {MAX_BYTES} bytes", field="text", status=413)
    return data


def _listed(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all: whoever reads meanwhile sees the file before or after."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".rules-")
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(data)
        os.chmod(name, file.stat().st_mode & 0o777)
        os.replace(name, file)
    except OSError:
        os.unlink(name)
        raise
