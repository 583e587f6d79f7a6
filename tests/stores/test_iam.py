"""Tokens of an IAM user: what is signed, and how long one is handed out."""

import asyncio
import importlib.util
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.errors import ConfigError
from proxy.stores.iam import IamTokens
from tests.doubles import FakeClock


class Signer:
    def __init__(self) -> None:
        self.signed: list[tuple[str, str]] = []
        self.threads: set[int] = set()

    def __call__(self, url: str, region: str) -> str:
        self.signed.append((url, region))
        self.threads.add(threading.get_ident())
        return f"{url}&n={len(self.signed)}"


@pytest.mark.parametrize(
    ("cache", "url"),
    [
        ("eu-central-1/portal-cache", "https://portal-cache/?Action=connect&User=portal"),
        (
            "eu-central-1/portal-cache/serverless",
            "https://portal-cache/?Action=connect&User=portal&ResourceType=ServerlessCache",
        ),
    ],
)
async def test_the_request_that_is_signed_names_the_cache_and_the_user(cache, url):
    signer = Signer()
    name, token = await IamTokens(cache, "portal", clock=FakeClock(), sign=signer).get_credentials_async()
    assert signer.signed == [(url, "eu-central-1")]
    assert (name, token) == ("portal", url.removeprefix("https://") + "&n=1")


async def test_a_token_is_used_again_for_ten_minutes_and_made_in_a_thread():
    clock, signer = FakeClock(), Signer()
    tokens = IamTokens("eu-central-1/c", "u", clock=clock, sign=signer)
    await asyncio.gather(*(tokens.get_credentials_async() for _ in range(20)))
    clock.advance(599)
    assert (await tokens.get_credentials_async())[1].endswith("n=1")
    clock.advance(1)
    assert (await tokens.get_credentials_async())[1].endswith("n=2")
    assert tokens.get_credentials()[1].endswith("n=2")
    assert threading.get_ident() not in signer.threads


def test_botocore_signs_it(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    _, token = IamTokens("eu-central-1/portal-cache", "portal", clock=FakeClock()).get_credentials()
    url = urlsplit(f"https://{token}")
    asked = parse_qs(url.query)
    assert (url.hostname, asked["Action"], asked["User"]) == ("portal-cache", ["connect"], ["portal"])
    assert asked["X-Amz-Expires"] == ["900"]
    assert "/eu-central-1/elasticache/aws4_request" in asked["X-Amz-Credential"][0]
    assert "not-a-secret" not in token


def test_no_credentials_fail_like_a_connection(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(OSError, match="no AWS credentials"):
        IamTokens("eu-central-1/c", "u", clock=FakeClock()).get_credentials()


def test_without_the_extra_it_says_which_one(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"install sidecache\[aws\]"):
        IamTokens("eu-central-1/c", "u", clock=FakeClock())
