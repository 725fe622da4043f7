"""Group norm on a processor, in C: compiled once with the machine's own compiler, where there is one.

A small network spends most of its time between its convolutions, passing over memory again and again. `group_norm.c`
does all between two of them while an image is in the cache. Without a compiler torch does the same in more passes.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from cfgbench.errors import UserError, reason
from cfgbench.files import cache_folder, file_digest, make_folder, write_atomically

WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()
OPTIMIZE = ("-O3", "-march=native", *WIDE, "-fno-math-errno", "-fno-trapping-math")
FLAGS = (*OPTIMIZE, "-fopenmp", "-shared", "-fPIC")
TIMEOUT = 60
"""Seconds."""
SWITCH = "CFGBENCH_NATIVE"
"""0 in this environment variable leaves it to torch."""
_KINDS = {torch.bfloat16: "bf16", torch.float32: "fp32"}


@cache
def found() -> ctypes.CDLL | str:
    """The compiled kernels, from the cache folder or made there now; or why they are not there."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH} is 0"
    try:
        compiler = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        return f"CC is no command: {reason(error)}"
    compiler = compiler or [*filter(None, map(shutil.which, ("cc", "gcc", "clang")))][:1]
    if not compiler or not shutil.which(compiler[0]):
        return f"no C compiler{f' {compiler[0]}' if compiler else ''}"
    source = resources.files("cfgbench.models").joinpath("group_norm.c").read_text()
    try:
        machine = [platform.machine(), *sorted(_features()), *compiler, *FLAGS, source]
        name = hashlib.sha256("\n".join(machine).encode()).hexdigest()[:16]
        folder = cache_folder() / "native" / f"group_norm-{name}"
        path = _kept(folder) or _made(folder, _compiled(compiler, source))
        return _declared(ctypes.CDLL(str(path)))
    except (OSError, UserError, AttributeError, subprocess.SubprocessError) as error:
        # no OpenMP, say, a folder that is read-only, or a file there that is no such library
        return reason(error, 300)


def why_not() -> str:
    """Why the kernels are not there; "" where they are."""
    return "" if available() else str(found())


def _features() -> set[str]:
    """What the processor can do: a cache folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {platform.processor()}
    return set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())


def _kept(folder: Path) -> Path | None:
    """The library in the folder, which is called after the digest of its bytes: to load one that is damaged would end
    the program."""
    for path in folder.glob("[!.]*.so"):
        if file_digest(path) == path.stem:
            return path
        path.unlink(missing_ok=True)
    return None


def _made(folder: Path, library: bytes) -> Path:
    make_folder(folder)
    path = folder / f"{hashlib.sha256(library).hexdigest()}.so"
    write_atomically(path, library)
    return path


def _compiled(compiler: Sequence[str], source: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "group_norm.so"
        command = [*compiler, *FLAGS, "-x", "c", "-", "-o", str(target), "-lm"]
        subprocess.run(command, input=source.encode(), check=True, capture_output=True, timeout=TIMEOUT)
        return target.read_bytes()


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    tensor, number = ctypes.c_void_p, ctypes.c_long
    sizes = [number] * 5 + [ctypes.c_float, ctypes.c_int]
    for kind in _KINDS.values():
        forward, backward = getattr(kernels, f"forward_{kind}"), getattr(kernels, f"backward_{kind}")
        forward.argtypes, forward.restype = [tensor] * 6 + sizes, None
        backward.argtypes, backward.restype = [tensor] * 9 + sizes, ctypes.c_int
    return kernels


def available() -> bool:
    """Whether the kernels are there."""
    return isinstance(found(), ctypes.CDLL)


def ask_once() -> None:
    """Tells torch.compile that whether the kernels are there does not change. Not told when this file is imported: that
    loads the compiler, which takes as long as torch does."""
    torch.compiler.assume_constant_result(available)


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels do such a tensor, with such weights."""
    return x.device.type == "cpu" and x.dtype in _KINDS and weight.dtype == torch.float32 and available()


def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, embedded: Tensor | None, groups: int, eps: float, silu: bool
) -> Tensor:
    """What `layers.GroupNorm` says, of x [b, h, w, C] contiguous in float32 or bfloat16; the rest in float32.

    `embedded` [b, 2 C] is scale and shift side by side. Compiled it has no gradients.
    """
    given = x, weight, bias, embedded, groups, eps, silu
    if type(x) is not Tensor or torch.compiler.is_compiling():
        return _operator(*given)
    # others need no operator: through torch's it takes as long as a small layer does
    return _Function.apply(*given) if torch.is_grad_enabled() else _forward(*given)


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, embedded: Tensor | None, groups: int, eps: float, silu: bool
) -> Tensor:
    y = torch.empty_like(x)
    getattr(found(), f"forward_{_KINDS[x.dtype]}")(
        x.data_ptr(), y.data_ptr(), *_parameters(x, weight, bias, embedded), groups, eps, silu
    )
    return y


def _parameters(x: Tensor, weight: Tensor, bias: Tensor, embedded: Tensor | None) -> tuple[int | None, ...]:
    b, h, w, channels = x.shape
    at = None if embedded is None else embedded.data_ptr()
    shift = None if at is None else at + channels * 4
    return weight.data_ptr(), bias.data_ptr(), at, shift, 2 * channels, b, h * w, channels


_operator = torch.library.custom_op("cfgbench::group_norm", _forward, mutates_args=(), device_types="cpu")


@_operator.register_fake
def _(x: Tensor, *rest: object) -> Tensor:
    return torch.empty_like(x)


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, embedded: Tensor | None, groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, and the sums [b, C] over each image of dz and of dz norm(x), dz being the gradient before SiLU."""
    dx = torch.empty_like(x)
    plain, normed = (torch.empty(len(x), x.shape[-1]) for _ in range(2))
    tensors = x.data_ptr(), dy.data_ptr(), dx.data_ptr(), plain.data_ptr(), normed.data_ptr()
    parameters = _parameters(x, weight, bias, embedded)
    if not getattr(found(), f"backward_{_KINDS[x.dtype]}")(*tensors, *parameters, groups, eps, silu):
        raise MemoryError("group norm: not enough memory")
    return dx, plain, normed


class _Function(torch.autograd.Function):
    """With its context made in `forward`: from a function of its own torch would bind the arguments anew at each call,
    which takes as long as the kernel."""

    @staticmethod
    def forward(ctx: FunctionCtx, *given: Any) -> Tensor:
        ctx.save_for_backward(*given[:4])
        ctx.rest = given[4:]
        return _forward(*given)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, embedded = ctx.saved_tensors
        dx, plain, normed = _backward(dy.contiguous(), x, weight, bias, embedded, *ctx.rest)
        if embedded is None:
            return dx, normed.sum(0), plain.sum(0), None, None, None, None
        grown = 1 + embedded[:, : x.shape[-1]]
        d_embedded = torch.cat([weight * normed + bias * plain, plain], dim=1)
        return dx, (grown * normed).sum(0), (grown * plain).sum(0), d_embedded, None, None, None
