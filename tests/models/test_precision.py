"""Which arithmetic a device has, and memory that ran out, by whatever words it is told."""

import os

import pytest
import torch

from cfgbench.commands.starting import load_torch
from cfgbench.errors import UserError
from cfgbench.models.precision import find_device, lacked_memory, out_of_memory


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Triton Error [CUDA]: out of memory",
        "CUDA driver error: out of memory",
        "NCCL error, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate",
        "could not create a primitive",
        "FIND was unable to find an engine to execute this computation",
        "GET was unable to find an engine to execute this computation",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    ],
)
def test_memory_that_ran_out_is_known_by_its_words(said):
    assert out_of_memory(RuntimeError(said))
    assert lacked_memory(f"RuntimeError: {said}")


def test_a_device_without_float64_is_refused_at_once(monkeypatch):
    """Its numbers would come to an end at the first noise."""

    def zeros(*shape, dtype=None, device=None):
        if dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return honest(*shape, dtype=dtype)

    honest = torch.zeros
    monkeypatch.setattr(torch, "zeros", zeros)
    said = "Cannot convert a MPS Tensor to float64 dtype; take cpu"
    with pytest.raises(UserError, match=f"^--device cpu: {said}, or leave it out$"):
        find_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match=f"^--device cuda: {said}$"):
        find_device(None)


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_no_variable_makes_bfloat16_of_float32(monkeypatch, name):
    """oneDNN reads it when it is loaded; what this program begins has no such variable either."""
    monkeypatch.setenv(name, "BF16")
    load_torch()
    assert name not in os.environ


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_and_by_its_name_where_a_row_keeps_it(error):
    assert out_of_memory(error)
    assert lacked_memory(f"{type(error).__name__}: {error}")


def test_what_else_goes_wrong_is_something_else():
    for said in ("CUDA error: an illegal memory access was encountered", "the sampler gave values that are not finite"):
        assert not out_of_memory(RuntimeError(said))
        assert not lacked_memory(f"ValueError: {said}")
