"""How does the issuer tell of a logout? `POST /.sidecache/backchannel-logout`, answered as its specification says."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

import orjson

from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body
from proxy.sessions.backchannel import BackChannel

MAX_BODY = 16 << 10
_OUTCOME = Outcome(Reason.RESERVED)
_NO_STORE = ("Cache-Control", "no-store")


class BackChannelPage:
    """The HTTP side of `BackChannel`."""

    def __init__(self, channel: BackChannel) -> None:
        self._channel = channel

    async def __call__(self, request: Request, body: Body) -> Reply:
        if request.method != "POST":
            fields, text = problem(405, "Logout tokens are sent with POST.", ("Allow", "POST"))
            return Reply.own(405, fields, text, _OUTCOME, last=body is not None)
        media = (request.fields.get("content-type") or "").partition(";")[0].strip().lower()
        if media != "application/x-www-form-urlencoded":
            return _refused("The body must be application/x-www-form-urlencoded.", last=True)
        form = await _form(body)
        if form is None:
            return _refused(f"The body is larger than {MAX_BODY} bytes.", last=True)
        tokens = [value for name, value in form if name == "logout_token"]
        if len(tokens) != 1:
            return _refused("There must be one logout_token.")
        received = await self._channel.receive(tokens[0])
        if received.verdict == "invalid":
            return _refused(f"The logout token is not valid: {received.why}.")
        if received.verdict == "later":
            # not 400, which the specification has for every failure: for some issuers that is final
            fields, text = problem(503, f"Send it again: {received.why}.", ("Retry-After", "1"))
            return Reply.own(503, fields, text, _OUTCOME)
        return Reply.own(200, Fields((_NO_STORE,)), b"", _OUTCOME)


async def _form(body: Body) -> list[tuple[str, str]] | None:
    read = bytearray()
    if isinstance(body, AsyncIterator):
        async for chunk in body:
            read += chunk
            if len(read) > MAX_BODY:
                return None
    elif body is not None:
        read += body
    try:
        return parse_qsl(read.decode("ascii"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []


def _refused(why: str, *, last: bool = False) -> Reply:
    """RFC 6749 5.2, as section 2.8 of the specification has it."""
    fields = Fields((("Content-Type", "application/json"), _NO_STORE))
    text = orjson.dumps({"error": "invalid_request", "error_description": why})
    return Reply.own(400, fields, text, _OUTCOME, last=last)
