"""The token verifier: what is genuine, what is not, and what is remembered of it."""

import asyncio
import hmac
import json
import string
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity.jwks import COOLDOWN, KEEP, Jwks
from proxy.identity.tokens import MAX_TOKEN, REFUSED_FOR, REMEMBERED, TokenVerifier, Verified
from proxy.policy.outcome import Reason
from tests.identity.clock import NOW, Clock, KeySource
from tests.issuer import ABSENT, AUDIENCE, ISSUER, Issuer, compact, rsa_key, segment

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.fixture
def verifier(jwks: Jwks) -> TokenVerifier:
    return TokenVerifier(jwks, ISSUER, AUDIENCE)


def claims(answer: Verified | Reason | None) -> dict[str, Any]:
    assert isinstance(answer, Verified)
    return dict(answer.claims)


# genuine


def test_a_genuine_token_says_its_claims_and_its_end(verifier: TokenVerifier, issuer: Issuer) -> None:
    answer = verifier.verify_now(issuer.token(org_id="org_b"), NOW)
    assert claims(answer)["org_id"] == "org_b"
    assert isinstance(answer, Verified)
    assert answer.expires == NOW + 3600


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE, "https://issuer.test/userinfo"]},  # realistic: Auth0 with openid
        {"exp": NOW + 0.5},
        {"nbf": NOW + 30},  # the issuer's clock runs ahead, within leeway
        {"iat": NOW + 30, "nbf": NOW + 30},
        {"nbf": 0},
        {"iat": ABSENT},
        {"https://portal.example/org": {"id": "org_a"}},  # realistic: a namespaced claim
        {"name": "Zoë Ünïcode 😀"},
        {"big": 10**30},  # pathological, but harmless
    ],
)
def test_these_claims_are_in_order(verifier: TokenVerifier, issuer: Issuer, changes: dict[str, Any]) -> None:
    assert isinstance(verifier.verify_now(issuer.token(**changes), NOW), Verified)


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", ABSENT])
def test_an_access_token_may_name_its_type_in_several_ways(
    verifier: TokenVerifier, issuer: Issuer, kind: object
) -> None:
    assert isinstance(verifier.verify_now(issuer.token(header={"typ": kind}), NOW), Verified)


# not genuine


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.test/"},  # realistic
        {"iss": ISSUER.rstrip("/")},
        {"iss": [ISSUER]},
        {"iss": None},
        {"iss": ABSENT},
        {"aud": "https://other-api.test"},  # realistic: a token for another API of the same issuer
        {"aud": ["https://other-api.test"]},
        {"aud": []},
        {"aud": [AUDIENCE, 7]},
        {"aud": {AUDIENCE: True}},
        {"aud": AUDIENCE + "/"},
        {"aud": ABSENT},
        {"exp": ABSENT},
        {"exp": str(int(NOW) + 3600)},  # pathological from here: PyJWT accepts a string
        {"exp": True},
        {"exp": None},
        {"exp": [NOW + 3600]},
        {"exp": -1},
        {"exp": 1 << 53},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": NOW + 31},  # realistic
        {"nbf": "0"},
        {"nbf": False},
        {"iat": NOW + 31},
        {"iat": str(int(NOW))},
        {"iat": None},
        {"name": "\ud800"},  # half a character
    ],
)
def test_these_claims_are_refused_however_well_they_are_signed(
    verifier: TokenVerifier, issuer: Issuer, changes: dict[str, Any]
) -> None:
    assert verifier.verify_now(issuer.token(**changes), NOW) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("age", [0, 1, 29, 3600])
def test_expired_is_expired_without_leeway(verifier: TokenVerifier, issuer: Issuer, age: float) -> None:
    assert verifier.verify_now(issuer.token(exp=NOW - age), NOW) is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS512"},
        {"alg": "PS256"},
        {"alg": "HS256"},
        {"alg": "rs256"},
        {"alg": ["RS256"]},
        {"alg": None},
        {"alg": ABSENT},
        {"alg": "none"},
        {"alg": "None"},
        {"kid": ABSENT},
        {"kid": None},
        {"kid": 1},
        {"kid": ["k1"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": ["http://example.invalid/UNDEFINED"], "http://example.invalid/UNDEFINED": True},
        {"b64": False},
        {"b64": True},
        {"typ": "logout+jwt"},  # realistic: a back-channel logout token is no access token
        {"typ": "dpop+jwt"},
        {"typ": "JOSE"},
        {"typ": None},
        {"typ": ["JWT"]},
    ],
)
def test_these_headers_are_refused_however_well_they_are_signed(
    verifier: TokenVerifier, issuer: Issuer, header: dict[str, Any]
) -> None:
    assert verifier.verify_now(issuer.token(header=header), NOW) is Reason.TOKEN_INVALID


def test_the_issuers_public_key_is_no_shared_secret(verifier: TokenVerifier, issuer: Issuer) -> None:
    pem = issuer.keys["k1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{segment(compact(issuer.header({'alg': 'HS256'})))}.{segment(compact(issuer.claims()))}"
    forged = f"{text}.{segment(hmac.digest(pem, text.encode(), sha256))}"
    assert verifier.verify_now(forged, NOW) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
def test_an_unsigned_token_is_refused(verifier: TokenVerifier, issuer: Issuer, algorithm: str) -> None:
    text = f"{segment(compact({'alg': algorithm, 'typ': 'JWT'}))}.{segment(compact(issuer.claims()))}."
    assert verifier.verify_now(text, NOW) is Reason.TOKEN_INVALID


@pytest.mark.isolation
def test_another_issuers_valid_key_proves_nothing(verifier: TokenVerifier, issuer: Issuer) -> None:
    stranger = Issuer(clock=lambda: NOW, name="stranger")
    assert verifier.verify_now(stranger.token(), NOW) is Reason.TOKEN_INVALID


def test_keys_that_a_token_brings_along_are_ignored(verifier: TokenVerifier, issuer: Issuer, source: KeySource) -> None:
    own = rsa_key("attacker")
    places = {"jku": "http://evil.test/jwks", "x5u": "http://evil.test/cert", "jwk": {"kty": "RSA"}, "x5c": ["MII"]}
    header = compact(issuer.header(places))
    assert verifier.verify_now(issuer.sign(header, compact(issuer.claims()), key=own), NOW) is Reason.TOKEN_INVALID
    assert isinstance(verifier.verify_now(issuer.sign(header, compact(issuer.claims())), NOW), Verified)
    assert source.fetches == 1


@pytest.mark.parametrize(
    "payload",
    [
        b'{%s,"org_id":"org_b"}',  # PyJWT: the last one wins
        b'{%s,"exp":9000000000}',
        b'{%s,"a":{"b":1,"b":2}}',
        b'{%s,"x":Infinity}',
        b'{%s,"x":NaN}',
        b"\xef\xbb\xbf{%s}",  # a byte order mark
        b"[{%s}]",
        b'{%s,"x":"\xff"}',
        b'{%s,"x":"\xc0\xaf"}',
        b'{%s,"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"{%s} {}",
        b"{%s,}",
    ],
)
def test_a_signed_payload_that_two_readers_could_read_differently_is_refused(
    verifier: TokenVerifier, issuer: Issuer, payload: bytes
) -> None:
    token = issuer.sign(compact(issuer.header()), payload.replace(b"%s", compact(issuer.claims())[1:-1]))
    assert verifier.verify_now(token, NOW) is Reason.TOKEN_INVALID


def test_a_payload_in_another_unicode_encoding_is_refused(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.sign(compact(issuer.header()), json.dumps(issuer.claims()).encode("utf-16"))
    assert verifier.verify_now(token, NOW) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    "header",
    [b'{"alg":"none","alg":"RS256","kid":"k1"}', b'{"alg":"RS256","kid":"k0","kid":"k1"}', b'["RS256"]', b"RS256"],
)
def test_a_header_with_two_readings_is_refused(verifier: TokenVerifier, issuer: Issuer, header: bytes) -> None:
    assert verifier.verify_now(issuer.sign(header, compact(issuer.claims())), NOW) is Reason.TOKEN_INVALID


def test_a_token_has_one_spelling(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token()
    header, payload, signature = token.split(".")
    # 256 bytes leave four unused bits in the last character: sixteen spellings of one signature
    twins = [token[:-1] + letter for letter in ALPHABET if letter != token[-1]]
    spellings = [
        *twins,
        token + "=",
        token + "==",
        f"{header}==.{payload}.{signature}",
        f"{header}.{payload}=.{signature}",
        token + "\n",
        " " + token,
        token + ".",
        "." + token,
        token.replace("-", "+", 1) if "-" in token else token.replace("_", "/", 1),
        f"{header}.{payload}",
        f"{header}.{payload}.",
        f"{header}..{signature}",
        f"{header}.{payload}.{signature}.{signature}",
        token.upper(),
        token + "é",
        token.replace("e", "е", 1),  # Cyrillic
    ]
    assert [verifier.verify_now(spelling, NOW) for spelling in spellings] == [Reason.TOKEN_INVALID] * len(spellings)
    assert isinstance(verifier.verify_now(token, NOW), Verified)


def test_a_signed_header_or_payload_has_one_spelling_too(verifier: TokenVerifier, issuer: Issuer) -> None:
    header, payload = (compact(part) for part in (issuer.header(), issuer.claims()))
    header, payload = (part + b" " * ((1 - len(part)) % 3) for part in (header, payload))  # four unused bits at the end
    for spoilt in range(2):
        texts = [segment(header), segment(payload)]
        texts[spoilt] = texts[spoilt][:-1] + ALPHABET[ALPHABET.index(texts[spoilt][-1]) + 1]
        assert verifier.verify_now(issuer.signed(".".join(texts)), NOW) is Reason.TOKEN_INVALID
    assert isinstance(verifier.verify_now(issuer.sign(header, payload), NOW), Verified)


def test_a_token_as_long_as_allowed_is_verified_and_a_longer_one_is_not_looked_at(
    verifier: TokenVerifier, issuer: Issuer
) -> None:
    fits, long = issuer.token(pad="x" * 5500), issuer.token(pad="x" * 5900)
    assert len(fits) <= MAX_TOKEN < len(long)
    assert isinstance(verifier.verify_now(fits, NOW), Verified)
    assert verifier.verify_now(long, NOW) is Reason.TOKEN_INVALID


@given(st.text(max_size=200) | st.text(alphabet=ALPHABET + ".=", max_size=400))
def test_no_text_raises_or_is_believed(text: str) -> None:
    verifier = TokenVerifier(None, "", "")
    assert verifier.verify_now(text, NOW) in (Reason.TOKEN_INVALID, Reason.KEYS_UNAVAILABLE)


@given(header=st.binary(max_size=60), payload=st.binary(max_size=60), signature=st.binary(max_size=300))
def test_no_three_segments_raise_or_are_believed(header: bytes, payload: bytes, signature: bytes) -> None:
    verifier = TokenVerifier(None, "", "", allow_unsigned=True)
    token = f"{segment(header)}.{segment(payload)}.{segment(signature)}"
    assert isinstance(verifier.verify_now(token, NOW), Reason)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


async def test_no_signed_bytes_and_no_bad_signature_raise(issuer: Issuer, clock: Clock, jwks: Jwks) -> None:
    verifier = TokenVerifier(jwks, ISSUER, AUDIENCE)
    good = compact(issuer.header())

    @given(
        header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip"]), _JSON, max_size=3),
        payload=st.binary(max_size=40)
        | st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub"]), _JSON, max_size=4).map(compact),
        signature=st.binary(max_size=300),
    )
    def attempt(header: dict[str, Any], payload: bytes, signature: bytes) -> None:
        changed = compact({**issuer.header(), **header})
        answers = [
            verifier.verify_now(issuer.sign(changed, payload), NOW),
            verifier.verify_now(issuer.sign(good, payload), NOW),
            verifier.verify_now(f"{segment(good)}.{segment(payload)}.{segment(signature)}", NOW),
        ]
        assert not any(isinstance(answer, Verified) for answer in answers)

    attempt()


# keys come and go


async def test_an_unknown_key_is_awaited_once_and_then_the_token_is_verified(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock, source: KeySource
) -> None:
    issuer.rotate("k2")
    token = issuer.token()
    assert verifier.verify_now(token, NOW) is Reason.TOKEN_INVALID  # asked a moment ago: not worth a wait
    clock.advance(COOLDOWN)
    assert verifier.verify_now(token, NOW) is None
    assert isinstance(await verifier.verify(token, NOW), Verified)
    assert isinstance(verifier.verify_now(token, NOW), Verified)
    assert source.fetches == 2


async def test_a_flood_of_tokens_with_made_up_key_ids_costs_one_fetch(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock, source: KeySource
) -> None:
    clock.advance(COOLDOWN)
    tokens = [issuer.token(header={"kid": f"made-up-{number}"}) for number in range(50)]
    answers = await asyncio.gather(*(verifier.verify(token, NOW) for token in tokens))
    assert answers == [Reason.TOKEN_INVALID] * 50
    assert source.fetches == 2
    assert {verifier.verify_now(token, NOW) for token in tokens} == {Reason.TOKEN_INVALID}


async def test_without_any_key_the_reason_is_the_keys_and_it_is_not_remembered(
    issuer: Issuer, clock: Clock, source: KeySource
) -> None:
    source.failing = True
    verifier = TokenVerifier(Jwks("https://issuer.test/jwks", source, clock), ISSUER, AUDIENCE)
    token = issuer.token()
    assert verifier.verify_now(token, NOW) is None
    assert await verifier.verify(token, NOW) is Reason.KEYS_UNAVAILABLE
    assert verifier.verify_now(token, NOW) is Reason.KEYS_UNAVAILABLE
    source.failing = False
    clock.advance(COOLDOWN)
    assert isinstance(await verifier.verify(token, NOW), Verified)


def test_a_token_is_forgotten_with_its_key(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock, source: KeySource
) -> None:
    token = issuer.token(exp=NOW + 10 * KEEP)
    assert isinstance(verifier.verify_now(token, NOW), Verified)
    source.failing = True
    clock.advance(KEEP)
    assert verifier.verify_now(token, NOW) is None  # nobody confirms the key any more


@pytest.mark.isolation
async def test_a_token_is_verified_anew_when_its_key_id_names_another_key(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock, jwks: Jwks
) -> None:
    token = issuer.token()
    assert isinstance(verifier.verify_now(token, NOW), Verified)
    issuer.keys["k1"] = rsa_key("replacement")
    clock.advance(COOLDOWN)
    await jwks.wait_for("unknown")
    assert verifier.verify_now(token, NOW) is Reason.TOKEN_INVALID


def test_with_no_issuer_configured_no_signed_token_is_judged(issuer: Issuer) -> None:
    assert TokenVerifier(None, "", "").verify_now(issuer.token(), NOW) is Reason.KEYS_UNAVAILABLE


async def test_with_no_issuer_configured_nothing_is_awaited_either(issuer: Issuer) -> None:
    assert await TokenVerifier(None, "", "").verify(issuer.token(), NOW) is Reason.KEYS_UNAVAILABLE


@pytest.mark.parametrize(("issuer_name", "audience"), [("", AUDIENCE), (ISSUER, ""), ("", "")])
def test_signed_tokens_need_an_issuer_and_an_audience(jwks: Jwks, issuer_name: str, audience: str) -> None:
    with pytest.raises(ValueError):
        TokenVerifier(jwks, issuer_name, audience)


# remembered


def test_a_repeated_token_yields_the_same_object_until_it_expires(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token()
    first = verifier.verify_now(token, NOW)
    assert verifier.verify_now(token, NOW + 3599.9) is first
    assert verifier.verify_now(token, NOW + 3600) is Reason.TOKEN_EXPIRED


def test_claims_cannot_be_changed_by_one_request_for_the_next(verifier: TokenVerifier, issuer: Issuer) -> None:
    answer = verifier.verify_now(issuer.token(), NOW)
    assert isinstance(answer, Verified)
    with pytest.raises(TypeError):
        answer.claims["org_id"] = "org_b"  # type: ignore[index]


def test_a_refusal_is_remembered_for_five_seconds(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token(nbf=NOW + 31)
    assert verifier.verify_now(token, NOW) is Reason.TOKEN_INVALID
    assert verifier.verify_now(token, NOW + REFUSED_FOR - 0.1) is Reason.TOKEN_INVALID  # though it would be valid now
    assert isinstance(verifier.verify_now(token, NOW + REFUSED_FOR), Verified)


def test_a_refusal_does_not_outlive_a_clock_that_steps_back(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token(exp=NOW, iat=NOW - 7200)
    assert verifier.verify_now(token, NOW) is Reason.TOKEN_EXPIRED
    assert isinstance(verifier.verify_now(token, NOW - 3600), Verified)


def test_the_memory_is_bounded_and_keeps_what_is_used() -> None:
    verifier = TokenVerifier(None, "", "", allow_unsigned=True)
    head = segment(b'{"alg":"none"}')
    tokens = [f"{head}.{segment(compact({'n': number}))}." for number in range(REMEMBERED + 1)]
    used, unused = verifier.verify_now(tokens[0], NOW), verifier.verify_now(tokens[1], NOW)
    for token in tokens[2:-1]:
        verifier.verify_now(token, NOW)
    assert verifier.verify_now(tokens[0], NOW) is used
    verifier.verify_now(tokens[-1], NOW)
    assert verifier.verify_now(tokens[0], NOW) is used
    assert verifier.verify_now(tokens[1], NOW) is not unused


# unsigned, in development


@pytest.fixture
def lenient(jwks: Jwks) -> TokenVerifier:
    return TokenVerifier(jwks, ISSUER, AUDIENCE, allow_unsigned=True)


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    return f"{segment(compact({'alg': 'none', **header}))}.{segment(compact(claims))}."


def test_development_accepts_unsigned_tokens_as_well_as_signed_ones(lenient: TokenVerifier, issuer: Issuer) -> None:
    answer = lenient.verify_now(unsigned({"org_id": "org_a", "sub": "u1"}), NOW)
    assert isinstance(answer, Verified)
    assert answer.expires == float("inf")
    assert isinstance(lenient.verify_now(issuer.token(), NOW), Verified)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW}, Reason.TOKEN_EXPIRED),
        ({"exp": "9000000000"}, Reason.TOKEN_INVALID),
        ({"nbf": NOW + 31}, Reason.TOKEN_INVALID),
        ({"iss": "https://other.test/"}, Reason.TOKEN_INVALID),
        ({"aud": "https://other-api.test"}, Reason.TOKEN_INVALID),
    ],
)
def test_what_an_unsigned_token_does_claim_must_be_right(
    lenient: TokenVerifier, changes: dict[str, Any], reason: Reason
) -> None:
    assert lenient.verify_now(unsigned({"org_id": "org_a", **changes}), NOW) is reason


@pytest.mark.parametrize(
    "token", [unsigned({}) + "c2ln", unsigned({}, crit=["exp"]), unsigned({}, alg="NONE"), "..", "."]
)
def test_an_unsigned_token_must_be_exactly_that(lenient: TokenVerifier, token: str) -> None:
    assert lenient.verify_now(token, NOW) is Reason.TOKEN_INVALID


def test_development_does_not_weaken_signed_tokens(lenient: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token()
    assert lenient.verify_now(token[:-6] + "AAAAAA", NOW) is Reason.TOKEN_INVALID
    assert lenient.verify_now(issuer.token(aud=ABSENT), NOW) is Reason.TOKEN_INVALID
