"""cfgbench measures what guidance does to a diffusion model."""

import os

__version__ = "0.1.0"

# OpenBLAS's threads wait for their next task by turning over for 2^26 cycles, on the cores that PyTorch's need; it
# reads this when SciPy loads it
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
