"""How the commands begin."""

import os

from cfgbench.progress import Lines, Progress, silent
from cfgbench.signals import held_back

_ROUNDS_FLOAT32 = "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"
"""Variables by which oneDNN convolves float32 in bf16 on a processor, as some containers ask: fp32 is to be fp32."""


def load_torch() -> None:
    """The import that takes longest; Ctrl-C within it would be an error of some library's."""
    for name in _ROUNDS_FLOAT32:
        os.environ.pop(name, None)
    with held_back():
        import torch  # noqa: F401


def progress_of(quiet: bool) -> Progress:
    """Where a command tells how far it is."""
    return silent if quiet else Lines()
