"""Memory that ran out, by whatever words it is told."""

import pytest
import torch

from cfgbench.models.precision import lacked_memory, out_of_memory


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Triton Error [CUDA]: out of memory",
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


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_and_by_its_name_where_a_row_keeps_it(error):
    assert out_of_memory(error)
    assert lacked_memory(f"{type(error).__name__}: {error}")


def test_what_else_goes_wrong_is_something_else():
    for said in ("CUDA error: an illegal memory access was encountered", "the sampler gave values that are not finite"):
        assert not out_of_memory(RuntimeError(said))
        assert not lacked_memory(f"ValueError: {said}")
