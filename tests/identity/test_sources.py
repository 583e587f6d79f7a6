"""Who sent a request: every combination of token, headers, peer and path, and what a forger can make of them."""

from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity.jwks import COOLDOWN, KEEP, Jwks, fetch_document
from proxy.identity.sources import REMEMBERED, IdentityResolver, bearer_token
from proxy.identity.tokens import TokenVerifier
from proxy.policy.identity import Identity, IdentitySources
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason
from tests.identity.clock import NOW, Clock, KeySource
from tests.issuer import ABSENT, AUDIENCE, ISSUER, Issuer, JwksServer, compact, segment

TOKEN_ONLY = IdentitySources()
GUIDE = IdentitySources(tenant=("jwt.org_id", "header.x-org-id", "path.org-id"))
HEADERS = IdentitySources(tenant=("header.x-org-id",), user="header.x-user", roles="header.x-roles")


@pytest.fixture
def resolver(jwks: Jwks) -> IdentityResolver:
    return IdentityResolver(TokenVerifier(jwks, ISSUER, AUDIENCE))


def request(*fields: tuple[str, str], token: str | None = None, trusted: bool = False) -> Request:
    credentials = () if token is None else (("Authorization", f"Bearer {token}"),)
    return Request("GET", "/api/jobs", Fields((("Host", "portal.test"), *credentials, *fields)), peer_trusted=trusted)


def tenant(answer: Identity | Reason | None) -> str | Reason | None:
    return answer.tenant if isinstance(answer, Identity) else answer


# the token


def test_a_token_says_who_is_asking(resolver: IdentityResolver, issuer: Issuer) -> None:
    answer = resolver.resolve_now(request(token=issuer.token()), {}, TOKEN_ONLY, NOW)
    assert isinstance(answer, Identity)
    assert (answer.tenant, answer.user, answer.roles) == ("org_a", "u1", frozenset({"read:jobs"}))
    assert answer.expires == NOW + 3600
    assert answer.claims["iss"] == ISSUER


@pytest.mark.isolation
def test_two_tenants_are_two_identities(resolver: IdentityResolver, issuer: Issuer) -> None:
    tokens = [issuer.token(org_id=name) for name in ("org_a", "org_b")]
    for _ in range(2):  # the second time from memory
        answers = [tenant(resolver.resolve_now(request(token=token), {}, TOKEN_ONLY, NOW)) for token in tokens]
        assert answers == ["org_a", "org_b"]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR  "])
def test_the_scheme_is_case_insensitive(resolver: IdentityResolver, issuer: Issuer, scheme: str) -> None:
    asked = request(("authorization", scheme + issuer.token()))
    assert tenant(resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW)) == "org_a"


@pytest.mark.parametrize(
    "org_id",
    [
        "org_A\n",  # pathological from here: PyJWT accepts all of them
        "\norg_a",
        "org_а",  # Cyrillic
        "org a",
        "org:a",
        "org.a",
        "",
        "o" * 65,
        ["org_a"],
        {"id": "org_a"},
        7,
        True,
        None,
        ABSENT,  # realistic: a user without an organisation
    ],
)
@pytest.mark.parametrize("sources", [TOKEN_ONLY, GUIDE])
@pytest.mark.isolation
def test_a_tenant_that_is_no_plain_name_is_no_tenant(
    resolver: IdentityResolver, issuer: Issuer, org_id: Any, sources: IdentitySources
) -> None:
    assert resolver.resolve_now(request(token=issuer.token(org_id=org_id)), {}, sources, NOW) is Reason.NO_TENANT


@pytest.mark.isolation
def test_a_tenant_claimed_twice_is_no_tenant(resolver: IdentityResolver, issuer: Issuer) -> None:
    payload = b"{" + compact(issuer.claims())[1:-1] + b',"org_id":"org_b"}'
    token = issuer.sign(compact(issuer.header()), payload)
    assert resolver.resolve_now(request(token=token), {}, TOKEN_ONLY, NOW) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"permissions": []}, frozenset()),  # an empty list is a value
        ({"permissions": ABSENT}, None),  # an absent one is unknown
        ({"permissions": ["a", 7]}, None),
        ({"permissions": "b a"}, frozenset({"a", "b"})),
    ],
)
def test_roles_are_known_or_unknown(
    resolver: IdentityResolver, issuer: Issuer, claims: dict[str, Any], roles: frozenset[str] | None
) -> None:
    answer = resolver.resolve_now(request(token=issuer.token(**claims)), {}, TOKEN_ONLY, NOW)
    assert isinstance(answer, Identity)
    assert answer.roles == roles


# no token, or none that counts


@pytest.mark.parametrize(
    "fields",
    [
        (),  # realistic
        (("Authorization", "Basic dTpw"),),  # realistic
        (("Authorization", "Digest username=u, realm=r"),),
        (("Authorization", ""),),
        (("Cookie", "access_token=abc"),),
        (("X-Org-Id", "org_a"),),
        (("Proxy-Authorization", "Bearer abc"),),
    ],
)
@pytest.mark.parametrize("sources", [TOKEN_ONLY, GUIDE])
async def test_without_a_bearer_token_nobody_is_known(
    resolver: IdentityResolver, fields: tuple[tuple[str, str], ...], sources: IdentitySources
) -> None:
    assert resolver.resolve_now(request(*fields), {}, sources, NOW) is Reason.NO_CREDENTIALS
    assert await resolver.resolve(request(*fields), {"org-id": "org_a"}, sources, NOW) is Reason.NO_CREDENTIALS


@pytest.mark.isolation
def test_a_token_in_a_cookie_or_a_query_is_no_credential(resolver: IdentityResolver, issuer: Issuer) -> None:
    fields = Fields([("Cookie", f"token={issuer.token()}")])
    asked = Request("GET", f"/api/jobs?access_token={issuer.token()}", fields)
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW) is Reason.NO_CREDENTIALS


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer garbage",
        "Bearer a.b.c",
        "Bearer\tx",
        "Bearerx",
        "\tBearer x",
        'bearer realm="x"',
        "Bearer é",
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.isolation
def test_a_bearer_value_that_is_no_token_is_invalid_whatever_a_trusted_header_says(
    resolver: IdentityResolver, value: str, trusted: bool
) -> None:
    asked = request(("Authorization", value), ("X-Org-Id", "org_a"), trusted=trusted)
    assert resolver.resolve_now(asked, {}, GUIDE, NOW) is Reason.TOKEN_INVALID


@pytest.mark.isolation
def test_two_authorization_fields_are_refused_in_any_order(resolver: IdentityResolver, issuer: Issuer) -> None:
    a, b = f"Bearer {issuer.token()}", f"Bearer {issuer.token(org_id='org_b')}"
    for first, second in [(a, b), (b, a), (a, a), ("Basic dTpw", a), (a, "Basic dTpw"), ("", a), (a, "")]:
        asked = request(("Authorization", first), ("authorization", second), ("X-Org-Id", "org_a"), trusted=True)
        assert resolver.resolve_now(asked, {}, GUIDE, NOW) is Reason.TOKEN_INVALID


@pytest.mark.isolation
def test_an_expired_token_is_expired_to_the_second_even_from_memory(resolver: IdentityResolver, issuer: Issuer) -> None:
    asked = request(token=issuer.token(exp=NOW + 10))
    assert tenant(resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW + 9.9)) == "org_a"
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW + 10) is Reason.TOKEN_EXPIRED
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW + 11) is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW}, Reason.TOKEN_EXPIRED),
        ({"iss": "https://other.test/"}, Reason.TOKEN_INVALID),
        ({"nbf": NOW + 60}, Reason.TOKEN_INVALID),
    ],
)
@pytest.mark.isolation
def test_a_trusted_header_does_not_save_a_bad_token(
    resolver: IdentityResolver, issuer: Issuer, claims: dict[str, Any], reason: Reason
) -> None:
    asked = request(("X-Org-Id", "org_a"), token=issuer.token(**claims), trusted=True)
    assert resolver.resolve_now(asked, {}, GUIDE, NOW) is reason


# headers and paths


@pytest.mark.parametrize(
    ("fields", "parameters", "trusted", "expected"),
    [
        ((), {"org-id": "org_a"}, False, "org_a"),  # realistic: all agree
        ((("X-Org-Id", "org_a"),), {"org-id": "org_a"}, False, "org_a"),  # realistic
        ((("X-Org-Id", "org_a"),), {}, True, "org_a"),
        ((), {"org-id": "org_b"}, False, Reason.TENANT_CONFLICT),
        ((), {"org-id": "ORG_A"}, False, Reason.TENANT_CONFLICT),
        ((), {"org-id": "org%5fa"}, False, Reason.TENANT_CONFLICT),
        ((), {"job-id": "org_b"}, False, "org_a"),  # another parameter
        ((("X-Org-Id", "org_b"),), {}, False, Reason.TENANT_CONFLICT),  # untrusted, but contradicting
        ((("X-Org-Id", "org_b"),), {}, True, Reason.TENANT_CONFLICT),
        ((("X-Org-Id", "org_a"), ("x-org-id", "org_b")), {}, False, Reason.TENANT_CONFLICT),
        ((("X-Org-Id", "org_a, org_b"),), {}, True, Reason.TENANT_CONFLICT),
        ((("X_Org_Id", "org_b"),), {}, False, Reason.TENANT_CONFLICT),  # some servers read it as X-Org-Id
        ((("X-Org_Id", "org_b"),), {}, True, Reason.TENANT_CONFLICT),
        ((("X_ORG_ID", "org_a"),), {}, False, "org_a"),
        ((("X-Org-Id", ""),), {}, False, Reason.TENANT_CONFLICT),
        ((("X-Tenant", "org_b"), ("X-User-Id", "u2")), {}, True, "org_a"),  # no source: never used
        ((("Some_Thing", "org_b"),), {}, False, "org_a"),
    ],
)
@pytest.mark.isolation
def test_only_what_agrees_with_the_token_is_served(
    resolver: IdentityResolver,
    issuer: Issuer,
    fields: tuple[tuple[str, str], ...],
    parameters: dict[str, str],
    trusted: bool,
    expected: str | Reason,
) -> None:
    token = issuer.token()
    resolver.resolve_now(request(token=token), {}, GUIDE, NOW)  # now the token alone is remembered
    asked = request(*fields, token=token, trusted=trusted)
    assert tenant(resolver.resolve_now(asked, parameters, GUIDE, NOW)) == expected
    assert tenant(resolver.resolve_now(request(token=token), {}, GUIDE, NOW)) == "org_a"


def test_the_rules_are_free_not_to_look_at_headers(resolver: IdentityResolver, issuer: Issuer) -> None:
    asked = request(("X-Org-Id", "org_b"), ("X_Org_Id", "org_b"), token=issuer.token(), trusted=True)
    assert tenant(resolver.resolve_now(asked, {"org-id": "org_b"}, TOKEN_ONLY, NOW)) == "org_a"


def test_a_trusted_peer_may_speak_for_everybody(resolver: IdentityResolver) -> None:
    fields = (("X-Org-Id", "org_a"), ("X-User", "u1"), ("X-Roles", "read:jobs,admin"))
    answer = resolver.resolve_now(request(*fields, trusted=True), {}, HEADERS, NOW)
    assert isinstance(answer, Identity)
    assert (answer.tenant, answer.user, answer.roles) == ("org_a", "u1", frozenset({"read:jobs", "admin"}))
    assert answer.expires == float("inf")
    assert resolver.resolve_now(request(*fields, trusted=False), {}, HEADERS, NOW) is Reason.NO_CREDENTIALS


@pytest.mark.isolation
def test_a_peer_that_is_trusted_with_where_callers_are_alone_names_nobody(issuer: Issuer, jwks: Jwks) -> None:
    resolver = IdentityResolver(TokenVerifier(jwks, ISSUER, AUDIENCE), peers_speak=False)
    fields = (("X-Org-Id", "org_a"), ("X-User", "u1"), ("X-Roles", "read:jobs,admin"))
    assert resolver.resolve_now(request(*fields, trusted=True), {}, HEADERS, NOW) is Reason.NO_CREDENTIALS
    for named, expected in [("org_a", "org_a"), ("org_b", Reason.TENANT_CONFLICT)]:
        asked = request(("X-Org-Id", named), token=issuer.token(), trusted=True)
        assert tenant(resolver.resolve_now(asked, {}, GUIDE, NOW)) == expected


def test_a_trusted_peer_may_name_the_user_of_a_token(resolver: IdentityResolver, issuer: Issuer) -> None:
    sources = IdentitySources(user="header.x-user")
    token = issuer.token()
    users = []
    for fields, trusted in [((("X-User", "u7"),), True), ((("X-User", "u8"),), True), ((("X-User", "u9"),), False)]:
        answer = resolver.resolve_now(request(*fields, token=token, trusted=trusted), {}, sources, NOW)
        assert isinstance(answer, Identity)
        users.append(answer.user)
    assert users == ["u7", "u8", None]


async def test_without_an_issuer_a_token_proves_nothing_and_a_trusted_header_still_does(issuer: Issuer) -> None:
    resolver = IdentityResolver(None)
    for asked in (request(token=issuer.token()), request(("X-Org-Id", "org_a"), token=issuer.token(), trusted=True)):
        assert resolver.resolve_now(asked, {}, GUIDE, NOW) is Reason.KEYS_UNAVAILABLE
        assert await resolver.resolve(asked, {}, GUIDE, NOW) is Reason.KEYS_UNAVAILABLE
    assert tenant(resolver.resolve_now(request(("X-Org-Id", "org_a"), trusted=True), {}, GUIDE, NOW)) == "org_a"


def test_an_unsigned_token_names_a_tenant_in_development_only(jwks: Jwks, resolver: IdentityResolver) -> None:
    token = ".".join([segment(compact({"alg": "none"})), segment(compact({"org_id": "org_a"})), ""])
    asked = request(token=token)
    lenient = IdentityResolver(TokenVerifier(None, "", "", allow_unsigned=True))
    assert tenant(lenient.resolve_now(asked, {}, TOKEN_ONLY, NOW)) == "org_a"
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW) is Reason.TOKEN_INVALID


# waiting for keys


async def test_the_short_way_hands_over_only_when_a_key_may_be_learnt(
    resolver: IdentityResolver, issuer: Issuer, clock: Clock, source: KeySource
) -> None:
    issuer.rotate("k2")
    asked = request(token=issuer.token())
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW) is Reason.TOKEN_INVALID
    clock.advance(COOLDOWN)
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW) is None
    assert tenant(await resolver.resolve(asked, {}, TOKEN_ONLY, NOW)) == "org_a"
    assert tenant(resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW)) == "org_a"
    assert source.fetches == 2


async def test_the_long_way_gives_the_answers_of_the_short_one(resolver: IdentityResolver, issuer: Issuer) -> None:
    requests = [
        request(token=issuer.token()),
        request(token=issuer.token(exp=NOW)),
        request(("X-Org-Id", "org_b"), token=issuer.token()),
        request(("Authorization", "Bearer"), ("authorization", "x")),
        request(("Authorization", "Basic x")),
        request(("X-Org-Id", "org_b"), trusted=True),
        request(),
    ]
    for asked in requests:
        short = resolver.resolve_now(asked, {}, GUIDE, NOW)
        assert await resolver.resolve(asked, {}, GUIDE, NOW) == short
        assert short is not None


async def test_the_issuer_may_fail_after_the_first_fetch_and_must_answer_within_a_day(
    jwks_server: JwksServer, issuer: Issuer, clock: Clock
) -> None:
    async with aiohttp.ClientSession() as session:
        jwks = Jwks(jwks_server.url, lambda url: fetch_document(session, url), clock)
        resolver = IdentityResolver(TokenVerifier(jwks, ISSUER, AUDIENCE))
        asked = request(token=issuer.token(exp=NOW + 2 * KEEP))
        assert tenant(await resolver.resolve(asked, {}, TOKEN_ONLY, NOW)) == "org_a"
        jwks_server.status = 503
        clock.advance(KEEP - 1)
        assert tenant(await resolver.resolve(asked, {}, TOKEN_ONLY, clock())) == "org_a"
        another = request(token=issuer.token(sub="u2"))
        assert tenant(await resolver.resolve(another, {}, TOKEN_ONLY, clock())) == "org_a"
        clock.advance(1)
        assert await resolver.resolve(asked, {}, TOKEN_ONLY, clock()) is Reason.KEYS_UNAVAILABLE
        jwks_server.status = 200
        clock.advance(COOLDOWN)
        assert tenant(await resolver.resolve(asked, {}, TOKEN_ONLY, clock())) == "org_a"


# remembered


def test_a_repeated_token_yields_the_same_identity_until_the_rules_look_elsewhere(
    resolver: IdentityResolver, issuer: Issuer
) -> None:
    asked = request(token=issuer.token(team="org_t"))
    first = resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW)
    assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW + 1) is first
    other = IdentitySources(tenant=("jwt.team",))
    assert tenant(resolver.resolve_now(asked, {}, other, NOW)) == "org_t"
    assert tenant(resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW)) == "org_a"


def test_a_refusal_to_name_a_tenant_is_remembered_too(resolver: IdentityResolver, issuer: Issuer) -> None:
    asked = request(token=issuer.token(org_id=ABSENT))
    for _ in range(2):
        assert resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW) is Reason.NO_TENANT


def test_the_memory_of_identities_is_bounded() -> None:
    resolver = IdentityResolver(TokenVerifier(None, "", "", allow_unsigned=True))
    head = segment(b'{"alg":"none"}')
    requests = [
        request(token=f"{head}.{segment(compact({'org_id': f'org_{number}'}))}.") for number in range(REMEMBERED + 1)
    ]
    first = resolver.resolve_now(requests[0], {}, TOKEN_ONLY, NOW)
    for asked in requests[1:-1]:
        resolver.resolve_now(asked, {}, TOKEN_ONLY, NOW)
    assert resolver.resolve_now(requests[0], {}, TOKEN_ONLY, NOW) is first
    assert tenant(resolver.resolve_now(requests[-1], {}, TOKEN_ONLY, NOW)) == f"org_{REMEMBERED}"
    again = resolver.resolve_now(requests[0], {}, TOKEN_ONLY, NOW)
    assert again is not first
    assert tenant(again) == "org_0"


# anything at all


@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from(["Authorization", "authorization", "X-Org-Id", "x_org_id", "Cookie"]),
            st.text(alphabet=st.characters(max_codepoint=255), max_size=60)
            | st.text(max_size=60).map(lambda text: f"Bearer {text}"),
        ),
        max_size=4,
    ),
    parameters=st.dictionaries(st.sampled_from(["org-id", "job-id"]), st.text(max_size=8), max_size=2),
)
@pytest.mark.isolation
def test_no_untrusted_request_without_a_genuine_token_is_anybody(
    fields: list[tuple[str, str]], parameters: dict[str, str]
) -> None:
    answer = IdentityResolver(None).resolve_now(request(*fields), parameters, GUIDE, NOW)
    assert isinstance(answer, Reason)
    assert answer not in (Reason.TENANT_CONFLICT, Reason.NO_TENANT)


def test_the_token_of_a_request_is_found_by_the_rfc() -> None:
    assert bearer_token(Fields()) is None
    assert bearer_token(Fields([("AUTHORIZATION", "Bearer abc")])) == "abc"
    assert bearer_token(Fields([("Authorization", "Bearer a, b")])) == "a, b"  # one field: not two tokens, no token


@pytest.mark.parametrize("token", [True, False])
def test_the_headers_in_which_a_caller_may_be_named_are_those_of_the_last_answer(resolver, issuer, token):
    sources = IdentitySources(tenant=("header.x-org_id",), user="header.from")
    resolver.resolve_now(request(token=issuer.token() if token else None, trusted=True), {}, sources, NOW)
    assert resolver.headers == {"x-org_id", "x-org-id", "from"}
    resolver.resolve_now(request(trusted=True), {}, TOKEN_ONLY, NOW)
    assert resolver.headers == set()
