"""Which safeguard does each mutant take out of the sources, and which tests must notice?"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard less: in `file` the text `old`, which is there once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # as pytest takes them; any of them must fail

    def applied(self, text: str) -> str:
        """ValueError when the source is no longer what this was made for."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {text.count(self.old)} times: {self.old}")
        return text.replace(self.old, self.new)


MUTANTS = (
    # Keys
    Mutant(
        "tenant-dropped-from-key",
        "proxy/policy/key.py",
        "{f'tenant:{space}' if space is not None else 'shared'}",
        "{'tenant:all' if space is not None else 'shared'}",
        "tests/policy/test_key.py",
    ),
    Mutant(
        "user-dropped-from-key",
        "proxy/policy/key.py",
        '".u-" + keys.digest("user", identity.tenant, identity.user)',
        '".u-" + keys.digest("user", identity.tenant)',
        "tests/policy/test_key.py",
    ),
    Mutant(
        "roles-dropped-from-key",
        "proxy/policy/key.py",
        '".r-" + keys.digest("roles", identity.tenant, *sorted(identity.roles))',
        '".r-" + keys.digest("roles", identity.tenant)',
        "tests/policy/test_key.py",
    ),
    Mutant(
        "key-parts-not-length-prefixed",
        "proxy/policy/key.py",
        'state.update(len(data).to_bytes(8, "big"))',
        "pass",
        "tests/policy/test_key.py",
    ),
    Mutant(
        "uncounted-parameters-reach-the-fill",
        "proxy/policy/key.py",
        'if dropped or target.endswith("?"):',
        'if target.endswith("?"):',
        "tests/policy/test_key.py",
    ),
    # Identity
    Mutant(
        "exp-not-checked-on-a-remembered-token",
        "proxy/identity/tokens.py",
        "if proof.verified.expires > now and self._holds(proof):",
        "if self._holds(proof):",
        "tests/identity/test_tokens.py",
    ),
    Mutant(
        "exp-not-checked-at-first-sight",
        "proxy/identity/tokens.py",
        "if now < expires else Reason.TOKEN_EXPIRED",
        "if expires else Reason.TOKEN_EXPIRED",
        "tests/identity/test_tokens.py",
    ),
    Mutant(
        "signature-not-checked",
        "proxy/identity/tokens.py",
        "if not opened.is_signed_with(key):",
        "if False:",
        "tests/identity/test_tokens.py",
    ),
    Mutant(
        "withdrawn-key-still-trusted",
        "proxy/identity/tokens.py",
        "(self._jwks is not None and self._jwks.key(proof.kid) is proof.key)",
        "True",
        "tests/identity/test_tokens.py",
    ),
    Mutant(
        "tenant-conflict-ignored",
        "proxy/policy/agreement.py",
        "if any(value != tenant for value in (*establishing, *contradicting)):",
        "if False:",
        "tests/identity/test_sources.py tests/policy/test_agreement.py",
    ),
    Mutant(
        "anybodys-header-establishes-the-tenant",
        "proxy/policy/agreement.py",
        "(establishing if peer_trusted else contradicting).extend(own)",
        "establishing.extend(own)",
        "tests/identity/test_sources.py tests/policy/test_agreement.py",
    ),
    Mutant(
        "revocation-ignored",
        "proxy/sessions/notbefore.py",
        "        if self._names(Kind.ENDED, names, issued):\n            return Standing.REVOKED\n",
        "",
        "tests/sessions/test_notbefore.py tests/sessions/test_revocation.py",
    ),
    # The cache
    Mutant(
        "epochs-not-compared",
        "proxy/cache/tiers.py",
        "if held.hard != entry.epochs_hard:",
        "if False:",
        "tests/cache/test_tiers.py",
    ),
    Mutant(
        "policy-not-compared",
        "proxy/cache/tiers.py",
        "if entry.policy != policy:",
        "if False:",
        "tests/cache/test_tiers.py tests/serving/test_exchange.py",
    ),
    Mutant(
        "purge-during-a-fill-ignored",
        "proxy/cache/tiers.py",
        "if stamp is not None and stamp.hard != entry.epochs_hard:",
        "if False:",
        "tests/cache/test_tiers.py",
    ),
    Mutant(
        "sensitive-kept-in-plain-text",
        "proxy/policy/entry.py",
        "return self.sensitive or self.encrypt",
        "return False",
        "tests/cache/test_record.py tests/cache/test_tiers.py",
    ),
    Mutant(
        "mac-skipped",
        "proxy/cache/record.py",
        "compare_digest(data[start : start + MAC], sealer.mac(data[:start], plain))",
        "plain",
        "tests/cache/test_record.py",
    ),
    Mutant(
        "record-of-another-tenant-believed",
        "proxy/cache/record.py",
        "if tenant_part != _text(tenant):",
        "if False:",
        "tests/cache/test_record.py",
    ),
    Mutant(
        "record-of-another-key-believed",
        "proxy/cache/record.py",
        "if key_part != _text(key):",
        "if False:",
        "tests/cache/test_record.py",
    ),
    Mutant(
        "one-encryption-key-for-all-tenants",
        "proxy/cache/seal.py",
        'info = _INFO + tenant.encode("utf-8", "surrogatepass")',
        "info = _INFO",
        "tests/cache/test_seal.py",
    ),
    Mutant(
        "declared-size-not-compared",
        "proxy/cache/record.py",
        "if size > max_body:",
        "if False:",
        "tests/cache/test_record.py",
    ),
    Mutant(
        "followers-join-across-a-purge",
        "proxy/serving/fetch.py",
        "return reading.key.full, reading.stamp, reading.route.digest",
        "return reading.key.full, reading.route.digest",
        "tests/serving/test_exchange.py::test_a_reader_after_a_purge_follows_no_fetch_from_before_it",
    ),
    Mutant(
        "prepared-answer-outlives-its-token",
        "proxy/serving/hits.py",
        "valid_until = min(valid_until, expires, now + RECHECKED)",
        "valid_until = min(valid_until, now + RECHECKED)",
        "tests/isolation/test_short_way.py tests/serving/test_hits.py",
    ),
    Mutant(
        "remembered-caller-outlives-its-token",
        "proxy/serving/callers.py",
        "valid_until = min(now + recheck, caller.expires)",
        "valid_until = now + recheck",
        "tests/isolation/test_short_way.py tests/serving/test_hits.py tests/serving/test_sought.py",
    ),
    Mutant(
        "prepared-answer-outlives-a-revocation",
        "proxy/serving/hits.py",
        "            prepared.number == self._serving.number\n            and prepared.head_from",
        "            prepared.head_from",
        "tests/serving/test_hits.py tests/serving/test_hits_safety.py",
    ),
    Mutant(
        "remembered-caller-outlives-a-revocation",
        "proxy/serving/callers.py",
        "kept is None or kept.number != number or kept.caller",
        "kept is None or kept.caller",
        "tests/serving/test_sought.py tests/serving/test_hits_safety.py tests/sessions/test_short_ways.py",
    ),
    # Storing
    Mutant(
        "private-shared",
        "proxy/policy/storing.py",
        "if control.private and route.scope is not Scope.USER:",
        "if False:",
        "tests/policy/test_storing.py",
    ),
    Mutant(
        "no-store-ignored",
        "proxy/policy/storing.py",
        "if control.no_store and not (control.must_understand and route.ttl is None):",
        "if False:",
        "tests/policy/test_storing.py",
    ),
    Mutant(
        "set-cookie-stored",
        "proxy/policy/storing.py",
        'if "set-cookie" in fields:',
        "if False:",
        "tests/policy/test_storing.py",
    ),
    Mutant(
        "vary-ignored",
        "proxy/policy/storing.py",
        "    return tuple(name for name in names if name not in _CREDENTIALS and _is_left_out(name, route))",
        "    return ()",
        "tests/policy/test_storing.py tests/serving/test_exchange.py",
    ),
    Mutant(
        "vary-on-credentials-shared",
        "proxy/policy/storing.py",
        "if not _CREDENTIALS.isdisjoint(names) and route.scope is not Scope.USER:",
        "if False:",
        "tests/policy/test_storing.py",
    ),
    Mutant(
        "truncated-response-stored",
        "proxy/serving/fill.py",
        "            self._stream.close()\n            return Reason.INCOMPLETE",
        "            self._stream.close()",
        "tests/serving/test_fill.py tests/serving/test_exchange.py",
    ),
    # Towards the upstream
    Mutant(
        "unsolicited-bytes-left-for-the-next",
        "proxy/serving/connection.py",
        "self.close()  # nobody asked",
        "pass  # nobody asked",
        "tests/serving/test_connection.py",
    ),
    Mutant(
        "credentials-of-the-first-forwarded-for-others",
        "proxy/serving/rewriting.py",
        "lines = data[begin : 2 - len(_END)]",
        'lines = globals().setdefault("_first", {}).setdefault(self._prefix, data[begin : 2 - len(_END)])',
        "tests/serving/test_rewriting.py tests/serving/test_forwarding.py",
    ),
    Mutant(
        "user-told-on-a-fill-for-many",
        "proxy/sessions/telling.py",
        "told = _SHARED[scope]",
        "told = _SHARED[None]",
        "tests/sessions/test_telling.py",
    ),
    Mutant(
        "forged-fields-about-the-caller-pass",
        "proxy/sessions/telling.py",
        "return request.with_fields(request.fields.without(forged)) if forged else request",
        "return request",
        "tests/sessions/test_telling.py",
    ),
    Mutant(
        "one-cookies-answer-for-all",
        "proxy/sessions/cookie.py",
        'sha256(cookies.encode("utf-8", "surrogateescape")).digest()',
        'sha256(b"").digest()',
        "tests/sessions/test_cookie.py",
    ),
    # Events, reports, organisations
    Mutant(
        "audience-of-events-ignored",
        "proxy/events/audience.py",
        "return self._is_among(to) and (",
        "return (",
        "tests/events/test_audience.py",
    ),
    Mutant(
        "event-record-not-bound-to-its-tenant",
        "proxy/events/event.py",
        'return b"sidecache/event/1:" + tenant.encode()',
        'return b"sidecache/event/1:"',
        "tests/events/test_event.py",
    ),
    Mutant(
        "another-organisations-answer-believed",
        "proxy/sessions/enrich.py",
        'return document if claim(document, rule.tenant) == tenant else "other-organisation"',
        "return document",
        "tests/sessions/test_enrich.py",
    ),
    Mutant(
        "organisation-shared-by-all-tenants",
        "proxy/sessions/enrich.py",
        "self._known.get(tenant)\n        if known is not None and known.of is not rule:",
        "next(iter(self._known.values()), None)\n        if known is not None and known.of is not rule:",
        "tests/sessions/test_enrich.py",
    ),
    # Admin
    Mutant(
        "admin-tenant-filter-dropped",
        "proxy/admin/asked.py",
        "if actor.tenant not in (None, value):",
        "if False:",
        "tests/admin/test_asked.py",
    ),
    Mutant(
        "admin-entry-of-any-tenant",
        "proxy/admin/contents.py",
        "if asked.actor.tenant in (None, tenant_of(key)) else None",
        "if key else None",
        "tests/admin/test_contents.py",
    ),
    Mutant(
        "admin-live-of-any-tenant",
        "proxy/admin/live.py",
        "if scope.tenant not in (None, each.tenant):",
        "if False:",
        "tests/admin/test_live.py",
    ),
    Mutant(
        "admin-role-not-asked",
        "proxy/admin/access.py",
        "if isinstance(found, Actor) and needed and not found.may(*needed):",
        "if False:",
        "tests/admin/test_access.py tests/admin/test_api.py",
    ),
)
