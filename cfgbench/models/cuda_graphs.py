"""A network on a GPU as one thing to launch: small ones take longer to be told than to be computed."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from cfgbench.models.precision import out_of_memory

KEPT = 2
"""Graphs at a time: that of the full batch, and that of the last one."""


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor


class Graphed:
    """A function of tensors on a GPU, recorded as a CUDA graph for each shape of its first, and replayed.

    What cannot be recorded is called as it is. The function may do nothing that depends on a tensor's content. One that
    `learns` computes gradients; those it leaves in parameters are where the last shape that was recorded left them.
    """

    def __init__(self, function: Callable[..., Tensor], *, learns: bool = False) -> None:
        self.function, self.learns = function, learns
        self._recorded: dict[tuple[torch.Size, bool, torch.dtype], _Recorded | None] = {}
        self._pool: tuple[int, int] | None = None

    def __call__(self, *given: Tensor) -> Tensor:
        with nullcontext() if self.learns else torch.inference_mode():
            return self._call(given)

    def _call(self, given: tuple[Tensor, ...]) -> Tensor:
        key = given[0].shape, torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        if key not in self._recorded:
            while len(self._recorded) >= KEPT:
                del self._recorded[next(iter(self._recorded))]
            self._recorded[key] = self._record(given)
        recorded = self._recorded[key]
        if recorded is None:
            return self.function(*given)
        for place, tensor in zip(recorded.inputs, given, strict=True):
            place.copy_(tensor)
        recorded.graph.replay()
        return recorded.output.clone()  # the next replay writes there

    def forget(self) -> None:
        """Gives the graphs' memory back; they are recorded again when they are asked for."""
        self._recorded.clear()
        self._pool = None

    def _record(self, given: tuple[Tensor, ...]) -> _Recorded | None:
        inputs, stream = tuple(tensor.clone() for tensor in given), torch.cuda.Stream()
        self.function(*inputs)  # compiles, where that is to be; libraries set themselves up in the first calls
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            # what other threads do is not recorded: one that pins memory meanwhile does no harm
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = self.function(*inputs)
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # torch leaves the stream that records as the current one
            self._pool = None  # which it takes for one that still records
            if out_of_memory(error):
                raise
            return None
        return _Recorded(graph, inputs, output)
