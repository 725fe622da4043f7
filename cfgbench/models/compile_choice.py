"""Whether torch.compile pays: what it takes, what it saves, and what was decided, for a person to read."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it tells of a CUDA that nobody asked for
OPTIONS = {"realize_reads_threshold": 32, "realize_opcount_threshold": 200}
"""All between two convolutions is to be one loop: by default Inductor cuts it where many numbers come together."""
GPU_OPTIONS = {"shape_padding": False}
"""Whether to pad a product would be measured each time: results are not to depend on that."""


VARIANTS = 64
"""Shapes and settings that one function may be compiled for: beyond torch's own 8 all others run as they are, slowly,
and nothing says so. All networks of a sweep are calls of one function."""


def compiled(function: Callable[..., Any], options: dict[str, Any] | None = None) -> Callable[..., Any]:
    """The function through torch.compile, for each shape anew."""
    torch._dynamo.config.recompile_limit = VARIANTS  # looked up late: its import takes a second
    return torch.compile(function, dynamic=False, options=options)


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


COMPILE_COSTS = {"cpu": CompileCost(60.0, 0.12), "cuda": CompileCost(100.0, 0.5)}
"""Of compiling a U-Net: 40 to 80 s for one of 0.1 to 8 million parameters on two cores, where group norm is compiled
anyway (`native_group_norm`) and 9 to 16 % are saved; 50 to 140 s for one of 0.1 and one of 296 million beside an
H200."""


@dataclass(frozen=True)
class CompileDecision:
    """Whether to compile, and why."""

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return f"{'compiled' if self.compiled else 'not compiled'}: {self.reason}"


def decision(ahead: float, work: str, device: torch.device) -> CompileDecision:
    """Compile if what it saves on `ahead` seconds of uncompiled work exceeds the time compiling takes, on a device of
    which that is known. `work` is what a person calls that work."""
    cost = COMPILE_COSTS[device.type]
    would = f"compiling would save about {cost.saved * ahead:.0f} s and take {cost.seconds:.0f} s"
    return CompileDecision(cost.pays(ahead), f"{work} ahead take {ahead:.0f} s as it is; {would}")


def no_compiler(device: torch.device) -> bool:
    """Whether the C++ compiler is missing that Inductor calls for a processor."""
    return device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++"))
