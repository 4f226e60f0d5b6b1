"""The allocator's settings: they hold in a process, and the environment's own win."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's; elsewhere nothing is set"
)

# A block above glibc's own threshold is mapped and unmapped each time: its pages fault anew.
_FAULTS = """
import ctypes, resource
from train.allocator import settle_allocator
settle_allocator()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 40 * 2**20

def take():
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)

take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(**environment):
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], env={**os.environ, **environment}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return int(done.stdout)


def test_a_large_block_is_taken_again_without_new_pages():
    least = 5 * 40 * 2**20 // (2 * 2**20)  # of huge pages, were they used
    assert _faults(MALLOC_MMAP_THRESHOLD_=str(2**20)) >= least, "the test could not see it"
    assert _faults() < least
