"""Memory that threads free is free for all of them."""

import subprocess
import sys

import pytest

from tests.cli.process import LIMIT, environment

# What malloc_info(3) counts: an arena is a <heap nr=...>.
ARENAS = """
import ctypes, sys, tempfile, threading
from proxy.allocator import use_one_arena
if sys.argv[1] == "one" and not use_one_arena():
    print("none")
    sys.exit()
together = threading.Barrier(4)
def work():
    together.wait(10)
    kept = [bytes(1000) for _ in range(1000)]
    together.wait(10)
threads = [threading.Thread(target=work) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
library.fclose.argtypes = library.malloc_info.argtypes = None
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(library.fopen(file.name.encode(), b"w"))
    library.malloc_info(0, stream)
    library.fclose(stream)
    print(file.read().decode().count("<heap nr="))
"""


def arenas(which: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ARENAS, which], env=environment(), capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.process
def test_threads_share_one_arena():
    found = arenas("one")
    if found == "none":
        pytest.skip("the C library of this system has no arenas")
    assert found == "1"
    assert int(arenas("many")) > 1  # what there would be otherwise
