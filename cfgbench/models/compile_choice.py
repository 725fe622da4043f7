"""Whether torch.compile pays: what it takes, what it saves, and what was decided, for a person to read."""

import os
import shutil
from dataclasses import dataclass

import torch

OPTIONS = {"realize_reads_threshold": 32, "realize_opcount_threshold": 200}
"""All between two convolutions is to be one loop: by default Inductor cuts it where many numbers come together."""
GPU_OPTIONS = {"shape_padding": False}
"""Whether to pad a product would be measured each time: results are not to depend on that."""


@dataclass(frozen=True)
class CompileCost:
    """Compiling takes so many `seconds`, and saves this part of the time of each call after it."""

    seconds: float
    saved: float

    def pays(self, ahead: float) -> bool:
        """Whether what compiling saves on `ahead` seconds of uncompiled work exceeds the time it takes."""
        return self.saved * ahead > self.seconds

    def expected(self, ahead: float) -> float:
        """Seconds of that work, compiled first if that pays."""
        return self.seconds + (1 - self.saved) * ahead if self.pays(ahead) else ahead


NO_GAIN = CompileCost(0.0, 0.0)


@dataclass(frozen=True)
class CompileDecision:
    """Whether to compile, and why."""

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return f"{'compiled' if self.compiled else 'not compiled'}: {self.reason}"


def no_compiler(device: torch.device) -> bool:
    """Whether the C++ compiler is missing that Inductor calls for a processor."""
    return device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++"))
