"""cfgbench measures what guidance does to a diffusion model."""

import ctypes
import os
import sys

__version__ = "0.1.0"

# OpenBLAS's threads wait for their next task by turning over for 2^26 cycles, on the cores that PyTorch's need; it
# reads this when SciPy loads it
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def _keep_memory() -> None:
    """Feature maps are a few MB, which glibc gives back to the system after each layer, to be cleared and mapped
    again for the next: a seventh of a small network's time."""
    mmap_threshold, trim_threshold = -3, -1
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, 16 << 20)
    libc.mallopt(trim_threshold, 64 << 20)


if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):  # musl has none
    _keep_memory()
