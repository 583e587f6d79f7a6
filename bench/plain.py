"""What is aiohttp's plain way? Its low-level server and a handler that answers from a dictionary. `plain PORT`."""

import asyncio
import sys

import uvloop
from aiohttp import web

_HEADERS = {"Cache-Control": "public, max-age=3600, no-transform", "ETag": '"v1"', "Age": "10"}


async def serve(port: int) -> None:
    bodies: dict[str, bytes] = {}

    async def answer(request: web.BaseRequest) -> web.Response:
        body = bodies.get(request.raw_path)
        if body is None:
            _, _, size = request.raw_path.rpartition("/b")
            body = bodies[request.raw_path] = b"x" * int(size.partition("-")[0])
        return web.Response(body=body, content_type="application/json", headers=_HEADERS)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as run:
        run.run(serve(int(sys.argv[1])))
