"""How is caching switched off for a while? By feature, by tenant or altogether; it comes back by itself."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked, for_all_tenants
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.filters import is_public
from proxy.admin.problems import Refused, answer
from proxy.bypasses import MAX_SECONDS, MAX_SWITCHES, Bypass, Bypasses
from proxy.live_rules import LiveRules


class Switching:
    """`POST /api/cache/bypass`. A switch holds in this sidecar; other replicas are switched by themselves."""

    def __init__(
        self,
        rules: LiveRules,
        bypasses: Bypasses,
        audit: Audit,
        spread: Callable[[], Awaitable[None]],
        *,
        reasons: bool,
    ) -> None:
        self._rules = rules
        self._bypasses = bypasses
        self._audit = audit
        self._spread = spread
        self._reasons = reasons

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "POST", "/api/cache/bypass", self.switch, "Forward everything for a while, or cache again.",
            (Role.OPERATOR,),
            document={
                "state": text("on: bypass the cache; off: use it again", enum=["on", "off"]),
                "for": text("how long, such as 15m; at most 24h. Needed for on"),
                "feature": text("only this feature"),
                "tenant": text("only this tenant"),
                "reason": text("why; required in production for on"),
            },
            answers={200: "The switches that are on now.", 404: "The rules know no such feature."},
        )  # fmt: skip

    async def switch(self, asked: Asked) -> web.Response:
        state = asked.chosen("state", ("on", "off"), "")
        feature, tenant, reason = asked.text("feature"), asked.tenant(), asked.text("reason")
        if state == "on":
            if feature is not None and is_public(self._rules.current, feature, "feature"):
                for_all_tenants(asked.actor)
                if tenant is not None:
                    raise Refused(f"has no part in {feature}: it is public", field="tenant")
            self._on(asked, feature, tenant, reason)
        else:
            own = asked.actor.tenant
            named = tenant if "tenant" in asked or feature is not None else None
            for bypass in self._bypasses.off(feature, named, only=own):
                self._audit.record("bypass-off", asked.actor, tenant=bypass.tenant, target=_target(bypass))
        await self._spread()
        return answer({"bypasses": shown(self._bypasses, asked.actor.tenant)})

    def _on(self, asked: Asked, feature: str | None, tenant: str | None, reason: str | None) -> None:
        seconds = asked.duration("for", MAX_SECONDS)
        if seconds is None:
            raise Refused("is missing: how long, such as 15m", field="for")
        if reason is None and self._reasons:
            raise Refused("is required in production", field="reason")
        bypass = self._bypasses.on(feature, tenant, seconds, asked.actor.name, reason)
        if bypass is None:
            raise Refused(f"There are {MAX_SWITCHES} switches already; switch some off.", status=409)
        target = {**_target(bypass), "seconds": seconds}
        self._audit.record("bypass-on", asked.actor, tenant=tenant, target=target, reason=reason)


def shown(bypasses: Bypasses, tenant: str | None) -> list[dict[str, Any]]:
    """The switches that are on; with `tenant` those that concern it."""
    return [
        {
            "feature": bypass.feature, "tenant": bypass.tenant, "until": bypass.until, "by": bypass.by,
            "reason": bypass.reason,
        }
        for bypass in bypasses.active()
        if tenant is None or bypass.tenant in (None, tenant)
    ]  # fmt: skip


def _target(bypass: Bypass) -> dict[str, object]:
    return {"feature": bypass.feature, "tenant": bypass.tenant}
