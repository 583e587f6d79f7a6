"""How does an IAM user log in to ElastiCache? With a signed request in place of a password, made anew in time."""

import asyncio
import importlib.util
import threading
from collections.abc import Callable
from urllib.parse import urlencode

from redis.credentials import CredentialProvider

from proxy.errors import ConfigError

_VALID = 900  # seconds; the longest that ElastiCache accepts
_KEPT = 600.0  # seconds; what is handed out is good for at least the difference


class IamTokens(CredentialProvider):
    """Name and token for each new connection. Made in a thread: the machine's credentials may come over the network."""

    def __init__(
        self,
        cache: str,
        user: str,
        *,
        clock: Callable[[], float],
        sign: Callable[[str, str], str] | None = None,
    ) -> None:
        """`cache` is REGION/NAME or REGION/NAME/serverless. ConfigError when botocore is not installed."""
        region, name, *serverless = cache.split("/")
        action = {"Action": "connect", "User": user} | ({"ResourceType": "ServerlessCache"} if serverless else {})
        self._url = f"https://{name}/?{urlencode(action)}"
        self._region = region
        self._user = user
        self._clock = clock
        self._sign = sign or _signer()
        self._token = ""
        self._made = -_KEPT
        self._making = threading.Lock()

    def get_credentials(self) -> tuple[str, str]:
        with self._making:  # of many connections at once, the first makes it
            if self._clock() - self._made >= _KEPT:
                made = self._clock()
                self._token = self._sign(self._url, self._region).removeprefix("https://")
                self._made = made
            return self._user, self._token

    async def get_credentials_async(self) -> tuple[str, str]:
        if self._clock() - self._made < _KEPT:
            return self._user, self._token
        return await asyncio.to_thread(self.get_credentials)


def _signer() -> Callable[[str, str], str]:
    """SigV4 by botocore, which also knows where credentials are found: environment, task role, instance."""
    if importlib.util.find_spec("botocore") is None:
        raise ConfigError("REDIS_IAM_AUTH: needs botocore, which is not installed; install sidecache[aws]")
    # here: it takes a fifth of a second, and only those pay who use it
    from botocore.exceptions import BotoCoreError
    from botocore.model import ServiceId
    from botocore.session import Session
    from botocore.signers import RequestSigner

    session = Session()

    def sign(url: str, region: str) -> str:
        try:
            signer = RequestSigner(
                ServiceId("elasticache"), region, "elasticache", "v4", session.get_credentials(),
                session.get_component("event_emitter"),
            )  # fmt: skip
            request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
            signed: str = signer.generate_presigned_url(
                request, operation_name="connect", expires_in=_VALID, region_name=region
            )
        except BotoCoreError as error:
            # what redis-py is told must be one of its own kind, so that the connection fails like any other
            raise OSError(f"no AWS credentials: {type(error).__name__}") from None
        return signed

    return sign
