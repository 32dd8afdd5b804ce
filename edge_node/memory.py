"""Memory: what running out of it looks like, and giving it back to the system."""

import ctypes
import gc
import sys

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Tell CUDA's, the CPU allocator's and Python's own complaint from other errors."""
    is_type = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_type or "DefaultCPUAllocator" in str(error)


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
