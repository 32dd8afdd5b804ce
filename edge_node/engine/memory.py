"""Memory: what running out of it looks like, and giving it back to the system."""

import ctypes
import gc
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""


def is_out_of_memory(error: Exception) -> bool:
    """Tell CUDA's, the CPU allocator's and Python's own complaint from other errors."""
    is_type = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_type or "DefaultCPUAllocator" in str(error)


def keep_freed() -> None:
    """Let this process keep freed memory until ``trim``.

    A denoising step frees what the next one takes again. By default glibc returns much of it to the
    system meanwhile, which hands it back page by page, zeroed: a tenth of a node's time
    (docs/explanation/engine.md).
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def trim(device: torch.device) -> None:
    """Return freed memory to the system; what waits for the garbage collector is not freed."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed pages otherwise


def release(device: torch.device) -> None:
    """Collect garbage and return freed memory: after an error, whose traceback holds tensors."""
    gc.collect()
    trim(device)
