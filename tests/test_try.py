import asyncio, time
from tests.wire import *
from tests import wire

async def test_time(tmp_path):
    t=time.perf_counter()
    async with upstream(response(b"hi")) as up, sidecar(up.port, tmp_path) as s:
        t2=time.perf_counter()
        r = await fetch(s.data_port, "/a%2Fb//c/../d?x=%20+%7e&z=%zz", "X-A: 1", "Cookie: a=1", "cookie: b=2")
        print(r.raw.decode(), r.body)
        print(up.requests[0].raw.decode())
        t3=time.perf_counter()
    print(t2-t, t3-t2, time.perf_counter()-t3)
