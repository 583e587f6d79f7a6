"""How does a write publish its event? After its 2xx, out of bodies that go on to where they go, within a moment.

The response is never held back for longer than `PATIENCE`: what takes longer goes on by itself.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from proxy.cache.background import Background
from proxy.events.mailbox import Noted
from proxy.events.publish import PATIENCE, Publisher
from proxy.events.written import repeating_id, written
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import Reason
from proxy.policy.route import Match
from proxy.rules.compile import RuleSet
from proxy.rules.document import Publish
from proxy.rules.references import References, reads
from proxy.serving.fill import Fill
from proxy.serving.peeking import MOST, Peeked, Reread
from proxy.serving.upstream import Body, Stream

_GZIP = 16 + zlib.MAX_WBITS


class Publication:
    """One write on its way that will publish if it succeeds. `fields` and `body` are what goes to the upstream."""

    def __init__(self, publish: Publish, request: Request, match: Match, body: Body) -> None:
        self.publish = publish
        self.secret = match.route.sensitive or match.route.encrypt
        self.request = request
        self.match = match
        references = [*publish.data.values(), publish.to.removeprefix("user:")]
        self.reads_response = reads(references, "response")
        self._sent: bytes | None = body if isinstance(body, bytes) else None
        self._copy: list[bytes] | None = None
        self.body = body
        if reads(references, "request") and isinstance(body, AsyncIterator):
            self._copy = []
            self.body = self._overheard(body)

    def passing(self, request: Request) -> Request:
        """A response that is to be looked into must come in an encoding that can be."""
        accepted = request.fields.get("accept-encoding")
        if not self.reads_response or accepted is None:
            return request
        coding = "gzip" if "gzip" in accepted.lower() and "gzip;q=0" not in accepted.lower() else "identity"
        return request.with_fields(request.fields.with_field("Accept-Encoding", coding))

    def asked(self) -> Any:
        """The request's JSON document."""
        if self._copy is not None:
            self._sent = b"".join(self._copy)
        return document(self._sent, self.request.fields)

    async def _overheard(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in body:
            size += len(chunk)
            if self._copy is not None and size <= MOST:
                self._copy.append(chunk)
            else:
                self._copy = None
            yield chunk


class Publishing:
    """What the request path knows of events. `clock` gives unix seconds, `digest` hashes what repeats."""

    def __init__(
        self,
        publisher: Publisher,
        background: Background,
        clock: Callable[[], float],
        digest: Callable[..., str],
        random: Callable[[int], bytes],
        *,
        seals: bool,
        leaves: bool,
        noted: Noted,
    ) -> None:
        """`seals`: there is a key to encrypt with. `leaves`: what is published goes out of this process."""
        self._publisher = publisher
        self._background = background
        self._clock = clock
        self._digest = digest
        self._random = random
        self._seals = seals
        self._leaves = leaves
        self._noted = noted

    def begun(self, request: Request, match: Match | None, rules: RuleSet, body: Body) -> Publication | None:
        """None: this write publishes nothing."""
        effects = rules.effects.get(match.route.where) if match is not None else None
        if effects is None or effects.publish is None or match is None:
            return None
        return Publication(effects.publish, request, match, body)

    async def answered(self, publication: Publication, stream: Stream, identity: Identity | None) -> Stream:
        """The response as it goes on. Its event is in the mailbox by then, if that did not take long."""
        if not 200 <= stream.response.status < 300:
            return stream
        if identity is None or identity.tenant is None:
            self._noted("event-without-tenant", {"name": publication.publish.event})
            return stream
        if not publication.reads_response:
            await self._publish(publication, stream.response, identity, None)
            return stream
        whole = stream.whole()
        if whole is not None:
            await self._publish(publication, stream.response, identity, whole)
            return Peeked(stream, [whole], None)
        fill = Fill(stream, MOST, None)
        work = self._background.start(self._read_and_publish(publication, stream.response, identity, fill))
        await asyncio.wait((work,), timeout=PATIENCE)
        return Overheard(stream, fill)

    async def _read_and_publish(
        self, publication: Publication, response: Response, identity: Identity, fill: Fill
    ) -> None:
        try:
            body = await fill.collect()
        finally:
            fill.settle()
        await self._publish(publication, response, identity, None if isinstance(body, Reason) else body)

    async def _publish(
        self, publication: Publication, response: Response, identity: Identity, body: bytes | None
    ) -> None:
        publish, request = publication.publish, publication.request
        named = References(
            publication.match.parameters, request.query, identity.claims, publication.asked(),
            document(body, response.fields),
        )  # fmt: skip
        id = repeating_id(publish, request, response, identity, named, self._digest) or self._random(16).hex()
        most = self._publisher.most_data
        made = written(publish, request, response, named, now=self._clock(), id=id, most=most)
        if made.event is None:
            self._noted("event-without-audience", {"name": publish.event})
            return
        if made.missing:
            self._noted("event-data-missing", {"name": publish.event, "missing": ", ".join(made.missing)})
        if made.referred:
            self._noted("event-too-large", {"name": publish.event})
        event = made.event
        if publication.secret and self._leaves and not self._seals:
            self._noted("event-withheld", {"name": publish.event})
            event = event._replace(data=orjson.dumps({"withheld": True}))
        assert identity.tenant is not None, "looked at before"
        _ = await self._publisher.publish(identity.tenant, event, seal=publication.secret and self._seals)


class Overheard(Reread):
    """A response that is read here as far as it is looked into, and by its client at the client's pace."""

    def __init__(self, stream: Stream, fill: Fill) -> None:
        super().__init__(stream)
        self._fill = fill

    def whole(self) -> bytes | None:
        return None

    def chunks(self) -> AsyncIterator[bytes]:
        return self._fill.chunks()

    def close(self) -> None:
        self._fill.abandon()


def document(body: bytes | None, fields: Fields) -> Any:
    """The JSON document that a body is; None for any other, and for one that is too large to be looked into."""
    if body is None or len(body) > MOST:
        return None
    coding = (fields.get("content-encoding") or "identity").lower()
    try:
        if coding == "gzip":
            unpacked = zlib.decompressobj(_GZIP)
            body = unpacked.decompress(body, MOST)
            if unpacked.unconsumed_tail:
                return None
        elif coding != "identity":
            return None
        return orjson.loads(body)
    except (ValueError, zlib.error):
        return None
