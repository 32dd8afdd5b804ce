"""What the process keeps of freed memory, and gives back; in a process of its own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from edge_node.engine.memory import keep_freed, trim

def step():
    held = [torch.ones(2**20) for _ in range(10)]  # 4 MiB each

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


keep_freed()
for _ in range(5):  # the heap finds its size
    step()
before = faults()
for _ in range(10):
    step()
after, kept = faults(), resident_bytes()
trim(torch.device("cpu"))
print(after - before, kept - resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_step_reuses_the_pages_of_the_last_one_and_trim_gives_them_back():
    # glibc's thresholds as they are at a program's start; by itself it moves them now and then.
    start = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | start,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    num_faults, returned_bytes = map(int, ran.stdout.split())
    assert num_faults < 50  # one for each of 100,000 pages, where glibc returns them
    assert returned_bytes > 35 * 2**20
