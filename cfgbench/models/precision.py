"""Which arithmetic a network runs in, and where."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from cfgbench.errors import UserError, reason, said

T = TypeVar("T")

PRECISIONS = "auto", "fp32", "bf16", "fp16"
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Where networks run, in which arithmetic, and whether they go through torch.compile; None leaves that to what it
    costs and saves."""

    device: torch.device
    precision: str
    compiled: bool | None = None


def find_compute(device: str | None, precision: str, compiled: bool | None = None) -> Compute:
    """What `find_device` and `resolve_precision` find. Raises UserError."""
    place = find_device(device)
    return Compute(place, resolve_precision(precision, place), compiled)


def find_device(name: str | None) -> torch.device:
    """The device of that name, or without one the first GPU, or else the processor. Raises UserError."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        # some devices only take note of what they should do, and some know no float64, in which images are sampled
        (torch.zeros(1, dtype=torch.float64, device=device) + 1).item()
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs are the current GPU's
    except (RuntimeError, AssertionError, ImportError, AttributeError, TypeError) as error:
        way_out = "take cpu" if name is None else "take cpu, or leave it out"
        raise UserError(f"--device {name or 'cuda'}: {reason(error, 150)}; {way_out}") from None
    return device


def device_name(device: torch.device) -> str:
    """What the device is called, for the record: `cpu (x86_64)`, `cuda (NVIDIA H200)`."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({kind})"


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the processor or GPU multiplies it faster than fp32, else fp32. Raises UserError."""
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: should be one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    good = device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return "bf16" if good else "fp32"


@contextmanager
def float32_kept(*, search: bool = False) -> Iterator[None]:
    """fp32 as the name says: torch lets GPUs round what they convolve to 11 bits (TF32) unless it is told not to, and
    what they multiply where a container asks for it. With `search`, a GPU tries for each shape which of its ways to
    convolve is the fastest."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32 = False, search or cudnn.benchmark, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32 = before


@contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions in half precision within this context, if that is the precision; else fp32."""
    with float32_kept(), torch.autocast(device.type, dtype=HALF.get(precision), enabled=precision in HALF):
        yield


_NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "could not create a primitive", "could not create a memory"),
    *("CUDA error: out of memory", "CUDA driver error: out of memory", "Cuda failure 2 'out of memory'"),
    *("Triton Error [CUDA]: out of memory", "_STATUS_ALLOC_FAILED"),
    *("_ALLOCATION_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate"),
    "unable to find an engine to execute this computation",
)
"""What torch's allocator on the processor says, and oneDNN; and on a GPU what takes memory past torch's allocator, or
tries one way to convolve after the other until none has room."""


def out_of_memory(error: BaseException) -> bool:
    """Whether this is memory that ran out, on a GPU or on the processor."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or lacked_memory(said(error))


def lacked_memory(why: str) -> bool:
    """Whether these are the words of `out_of_memory`, where a row keeps them behind the error's name."""
    return why.partition(":")[0].endswith("MemoryError") or any(words in why for words in _NO_MEMORY)


def in_parts(call: Callable[..., T], *given: Tensor) -> list[T]:
    """What `call` gives for these tensors [b, ...]: of all at once, or where memory runs out of halves, one after the
    other. Raises what torch raises when it runs out for a single one."""
    try:
        return [call(*given)]
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error) or len(given[0]) == 1:
            raise
    halves = zip(*(tensor.chunk(2) for tensor in given), strict=True)
    return [found for half in halves for found in in_parts(call, *half)]
