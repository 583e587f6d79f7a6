"""The key set: what counts as a key, when it is fetched, and what happens when it cannot be."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from proxy.identity.jwks import (
    COOLDOWN,
    KEEP,
    MAX_DOCUMENT,
    MAX_KEYS,
    REFRESH,
    RETRY,
    FetchError,
    Jwks,
    fetch_document,
    signing_keys,
)
from proxy.policy.outcome import Reason
from tests.identity.clock import Clock, KeySource
from tests.issuer import Issuer, JwksServer, compact, jwk, rsa_key

URL = "https://issuer.test/.well-known/jwks.json"
KEY = rsa_key("issuer/k1")


class Observed:
    """Every event reported, and how often the set changed."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.details: list[Mapping[str, object]] = []
        self.changes = 0

    def report(self, event: str, details: Mapping[str, object]) -> None:
        self.events.append(event)
        self.details.append(details)

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def jwks(source: KeySource, clock: Clock, observed: Observed) -> Jwks:
    return Jwks(URL, source, clock, report=observed.report, changed=observed.changed)


# what counts as a key


@pytest.mark.parametrize(
    "members",
    [
        {},  # realistic
        {"x5c": ["MIIC"], "x5t": "abc", "key_ops": ["verify"]},  # realistic: Auth0 adds certificates
        {"d": "AQAB"},  # pathological: a private member is ignored, the key is public
    ],
)
def test_an_rsa_signing_key_is_used(members: dict[str, Any]) -> None:
    keys = signing_keys(compact({"keys": [jwk(KEY, "k1", **members)]}))
    assert keys["k1"] == KEY.public_key()


@pytest.mark.parametrize("absent", ["use", "alg"])
def test_use_and_algorithm_may_be_absent(absent: str) -> None:
    entry = jwk(KEY, "k1")
    del entry[absent]
    assert list(signing_keys(compact({"keys": [entry]}))) == ["k1"]


@pytest.mark.parametrize(
    "entry",
    [
        jwk(KEY, "k2", use="enc"),  # realistic
        jwk(KEY, "k2", alg="RS512"),  # realistic
        jwk(KEY, "k2", alg="HS256"),  # pathological
        jwk(KEY, "k2", key_ops=["sign"]),
        jwk(KEY, "k2", key_ops="verify"),
        jwk(KEY, "k2", kty="EC"),
        {"kty": "oct", "kid": "k2", "k": "c2VjcmV0"},  # pathological: a shared secret
        jwk(rsa_key("weak", 1024), "k2"),  # pathological: factored in a weekend
        jwk(KEY, None),
        jwk(KEY, 7),
        jwk(KEY, "k2", n=""),
        jwk(KEY, "k2", n="not base64!"),
        jwk(KEY, "k2", n="é"),
        jwk(KEY, "k2", n=["AQAB"]),
        jwk(KEY, "k2", n="_" * 20_000),  # pathological: 120,000 bits would cost seconds per token
        jwk(KEY, "k2", e="Ag"),
        jwk(KEY, "k2", e=None),
        "k2",
        None,
        [],
    ],
)
def test_anything_else_is_left_out_without_harm_to_its_neighbours(entry: Any) -> None:
    assert list(signing_keys(compact({"keys": [entry, jwk(KEY, "k1")]}))) == ["k1"]


def test_the_first_of_two_keys_with_one_id_counts() -> None:
    keys = signing_keys(compact({"keys": [jwk(KEY, "k1"), jwk(rsa_key("other"), "k1")]}))
    assert keys["k1"] == KEY.public_key()


def test_the_number_of_keys_is_bounded() -> None:
    keys = signing_keys(compact({"keys": [jwk(KEY, f"k{number}") for number in range(MAX_KEYS + 10)]}))
    assert len(keys) == MAX_KEYS


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>maintenance</html>",  # realistic
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',  # realistic: an issuer in trouble
        b'{"keys": "k1"}',
        b"[" * 100_000,  # pathological
        b'{"keys": [' + b" " * MAX_DOCUMENT + b"]}",  # pathological
        b"\xff\xfe",
    ],
)
def test_a_document_without_a_usable_key_is_a_failure(document: bytes) -> None:
    with pytest.raises(FetchError):
        signing_keys(document)


# when it is fetched


async def test_a_key_is_unknown_until_the_first_fetch_and_known_after_it(jwks: Jwks, observed: Observed) -> None:
    assert jwks.key("k1") is None
    assert jwks.absence() is Reason.KEYS_UNAVAILABLE
    assert await jwks.wait_for("k1") is not None
    assert jwks.key("k1") is not None
    assert jwks.absence() is Reason.TOKEN_INVALID
    assert observed.events == ["jwks-available"]
    assert observed.changes == 1


async def test_a_hundred_requests_at_once_share_one_fetch(jwks: Jwks, source: KeySource) -> None:
    found = await asyncio.gather(*(jwks.wait_for("k1") for _ in range(100)))
    assert all(key is found[0] and key is not None for key in found)
    assert source.fetches == 1


async def test_a_thousand_unknown_key_ids_cost_one_fetch_in_thirty_seconds(
    jwks: Jwks, source: KeySource, clock: Clock
) -> None:
    await jwks.wait_for("k1")
    clock.advance(COOLDOWN)
    for number in range(1000):
        assert await jwks.wait_for(f"made-up-{number}") is None
    assert source.fetches == 2
    clock.advance(COOLDOWN - 0.001)
    assert not jwks.may_learn()
    await jwks.wait_for("made-up")
    assert source.fetches == 2
    clock.advance(0.001)
    await jwks.wait_for("made-up")
    assert source.fetches == 3


async def test_a_rotated_key_is_learnt_by_the_first_token_that_names_it(
    jwks: Jwks, issuer: Issuer, clock: Clock, observed: Observed
) -> None:
    first = await jwks.wait_for("k1")
    issuer.rotate("k2")
    clock.advance(COOLDOWN)
    assert await jwks.wait_for("k2") is not None
    assert jwks.key("k1") is first  # unchanged, so what it verified stays verified
    assert observed.events == ["jwks-available", "jwks-changed"]
    assert observed.details[-1] == {"url": URL, "added": ["k2"], "removed": []}
    assert observed.changes == 2


async def test_a_retired_key_is_forgotten_and_a_reused_id_is_another_key(
    jwks: Jwks, issuer: Issuer, clock: Clock, observed: Observed
) -> None:
    first = await jwks.wait_for("k1")
    issuer.rotate("k2")
    issuer.keys["k1"] = rsa_key("replacement")
    clock.advance(COOLDOWN)
    await jwks.wait_for("k2")
    assert jwks.key("k1") not in (None, first)
    issuer.retire("k1")
    clock.advance(COOLDOWN)
    await jwks.wait_for("unknown")
    assert jwks.key("k1") is None
    assert observed.changes == 3


async def test_an_unchanged_set_is_no_change(jwks: Jwks, clock: Clock, observed: Observed) -> None:
    await jwks.wait_for("k1")
    clock.advance(COOLDOWN)
    await jwks.wait_for("unknown")
    assert observed.changes == 1
    assert observed.events == ["jwks-available"]


# when it cannot be


async def test_an_unreachable_issuer_is_reported_once_per_change_of_state(
    jwks: Jwks, source: KeySource, clock: Clock, observed: Observed
) -> None:
    for source.failing in (True, True, True, False, False, True, True):
        await jwks.wait_for("unknown")
        clock.advance(COOLDOWN)
    assert observed.events == ["jwks-unavailable", "jwks-available", "jwks-unavailable"]
    assert observed.details[0] == {"url": URL, "error": "refused", "keys": 0}
    assert observed.details[2]["keys"] == 1


async def test_known_keys_outlive_the_issuer_by_24_hours_and_not_a_moment_more(
    jwks: Jwks, source: KeySource, clock: Clock, observed: Observed
) -> None:
    await jwks.wait_for("k1")
    source.failing = True
    clock.advance(KEEP - 1)
    await jwks.wait_for("unknown")
    assert jwks.key("k1") is not None
    clock.advance(0.999)
    assert jwks.key("k1") is not None
    clock.advance(0.001)
    assert jwks.key("k1") is None
    assert jwks.absence() is Reason.KEYS_UNAVAILABLE
    clock.advance(COOLDOWN)
    assert await jwks.wait_for("k1") is None
    assert observed.events == ["jwks-available", "jwks-unavailable", "jwks-expired"]
    assert observed.changes == 2


async def test_a_nonsense_document_leaves_the_last_good_set_in_place(
    clock: Clock, issuer: Issuer, observed: Observed
) -> None:
    documents = iter([issuer.document(), b'{"keys": []}', b"<html>"])

    async def fetch(url: str) -> bytes:
        return next(documents)

    jwks = Jwks(URL, fetch, clock, report=observed.report)
    for _ in range(3):
        await jwks.wait_for("unknown")
        clock.advance(COOLDOWN)
    assert jwks.key("k1") is not None
    assert observed.events == ["jwks-available", "jwks-unavailable"]


async def test_a_hanging_issuer_holds_a_request_for_the_bounded_wait_only(
    source: KeySource, clock: Clock, observed: Observed
) -> None:
    source.gate = asyncio.Event()
    jwks = Jwks(URL, source, clock, report=observed.report, wait=0.01, timeout=30)
    assert await jwks.wait_for("k1") is None
    clock.advance(0.02)
    assert not jwks.may_learn()  # the fetch still hangs: the next request does not wait at all
    assert await jwks.wait_for("k1") is None
    source.gate.set()
    clock.advance(-0.02)
    assert await jwks.wait_for("k1") is not None  # the same fetch, now answered
    assert source.fetches == 1
    await jwks.close()


async def test_a_fetch_that_never_ends_is_given_up_and_counts_as_a_failure(
    source: KeySource, clock: Clock, observed: Observed
) -> None:
    source.gate = asyncio.Event()
    jwks = Jwks(URL, source, clock, report=observed.report, timeout=0.01)
    assert await jwks.wait_for("k1") is None
    assert observed.events == ["jwks-unavailable"]
    assert observed.details[0]["error"] == "timeout"


async def test_a_request_that_goes_away_does_not_cancel_the_fetch_of_the_others(jwks: Jwks, source: KeySource) -> None:
    source.gate = asyncio.Event()
    gone, patient = asyncio.create_task(jwks.wait_for("k1")), asyncio.create_task(jwks.wait_for("k1"))
    await asyncio.sleep(0)
    gone.cancel()
    source.gate.set()
    assert await patient is not None
    assert source.fetches == 1
    assert gone.cancelled()


# refreshed ahead


class Pauses:
    """Stands for asyncio.sleep: time passes at once, the first `limit` times."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self.clock = clock
        self.limit = limit
        self.taken: list[float] = []
        self.done = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        if len(self.taken) == self.limit:
            self.done.set()
            await asyncio.Event().wait()
        self.taken.append(seconds)
        self.clock.advance(seconds)


async def test_keys_are_fetched_at_the_start_and_every_ten_minutes(source: KeySource, clock: Clock) -> None:
    pauses = Pauses(clock, 3)
    jwks = Jwks(URL, source, clock, sleep=pauses)
    jwks.start()
    jwks.start()
    await pauses.done.wait()
    assert pauses.taken == [REFRESH] * 3
    assert source.fetches == 4
    await jwks.close()


async def test_a_failed_refresh_is_tried_again_ever_more_slowly_until_the_keys_expire(
    source: KeySource, clock: Clock, observed: Observed
) -> None:
    source.failing = True
    pauses = Pauses(clock, 6)
    jwks = Jwks(URL, source, clock, sleep=pauses, report=observed.report)
    jwks.start()
    await pauses.done.wait()
    assert pauses.taken == [RETRY, 4, 8, 16, COOLDOWN, COOLDOWN]
    assert observed.events == ["jwks-unavailable"]
    await jwks.close()


async def test_expiry_is_noticed_at_its_moment_even_when_nobody_asks(
    source: KeySource, clock: Clock, observed: Observed
) -> None:
    class FailsLater(Pauses):
        async def __call__(self, seconds: float) -> None:
            source.failing = True
            await super().__call__(seconds)
            if len(self.taken) == 1:
                self.clock.advance(KEEP - REFRESH - 1)

    pauses = FailsLater(clock, 2)
    jwks = Jwks(URL, source, clock, sleep=pauses, report=observed.report, changed=observed.changed)
    jwks.start()
    await pauses.done.wait()
    assert pauses.taken == [REFRESH, 1.0]  # one second was left
    assert observed.events == ["jwks-available", "jwks-unavailable", "jwks-expired"]
    assert observed.changes == 2
    await jwks.close()


async def test_after_close_nothing_is_fetched_and_known_keys_stay_for_the_last_requests(
    jwks: Jwks, source: KeySource, clock: Clock
) -> None:
    await jwks.wait_for("k1")
    await jwks.close()
    clock.advance(COOLDOWN)
    assert await jwks.wait_for("k2") is None
    assert source.fetches == 1
    assert jwks.key("k1") is not None


async def test_it_says_where_it_stands(jwks: Jwks, source: KeySource) -> None:
    assert str(jwks) == f"{URL}: not asked yet, 0 keys"
    await jwks.wait_for("k1")
    assert str(jwks) == f"{URL}: reachable, 1 keys"


# over the wire


async def test_the_document_is_fetched_over_http(jwks_server: JwksServer, issuer: Issuer) -> None:
    async with aiohttp.ClientSession() as session:
        assert await fetch_document(session, jwks_server.url) == issuer.document()


@pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500, 503])
async def test_anything_but_200_is_a_failure_and_no_redirect_is_followed(jwks_server: JwksServer, status: int) -> None:
    jwks_server.status = status
    jwks_server.headers = {"Location": jwks_server.url + "?elsewhere"}
    jwks_server.body = b""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(FetchError, match=str(status)):
            await fetch_document(session, jwks_server.url)
    assert jwks_server.requests == 1


async def test_a_document_too_long_is_not_read_to_its_end(jwks_server: JwksServer) -> None:
    jwks_server.body = b" " * (MAX_DOCUMENT + 1)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(FetchError, match="more than"):
            await fetch_document(session, jwks_server.url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "file:///etc/passwd", "nonsense", ""])
async def test_an_address_that_cannot_answer_is_a_failure(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(FetchError):
            await fetch_document(session, url)


async def test_keys_are_learnt_over_the_wire_and_survive_the_issuer(jwks_server: JwksServer, clock: Clock) -> None:
    async with aiohttp.ClientSession() as session:
        jwks = Jwks(jwks_server.url, lambda url: fetch_document(session, url), clock)
        assert await jwks.wait_for("k1") is not None
        jwks_server.status = 500
        clock.advance(COOLDOWN)
        assert await jwks.wait_for("k2") is None
        assert jwks.key("k1") is not None
        assert jwks_server.requests == 2
