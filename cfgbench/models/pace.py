"""How long images take, and how many at a time take the least, measured on the work itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cfgbench.diffusion.guidance import Denoiser
from cfgbench.models.precision import Compute, autocast

SECONDS_TO_MEASURE = 3.0
QUICK = 0.25
"""Seconds of work on a processor below which what a batch of a new size takes once (memory, choosing a routine) is a
good part of them: it is done again."""
SLOWER = 1.5
"""Times as long as was expected: that is timed again, too."""
GROWS, PATIENCE = 1.5, 20.0
"""Twice as many images that take less than GROWS times as long tell of what is around the work, not of it, as where
other programs keep the processors busy: then larger batches are tried for longer, so many seconds."""
ENOUGH = 0.95
"""Of the best rate: a batch that reaches it is not made larger."""
SHARE_OF_MEMORY = 0.7
"""Of what is free on a GPU: the rest is for the noise of a step, the features, and other batches' graphs."""


@dataclass(frozen=True)
class Pace:
    """`seconds` an image; `batch` images at a time come within 5 % of the best rate that was seen."""

    seconds: float
    batch: int


def pace_of_passes(network: Denoiser, shape: tuple[int, ...], largest: int, compute: Compute) -> Pace:
    """Of images [*shape] through a denoiser, at most `largest` of them at once."""
    device = compute.device

    @torch.inference_mode()
    def work(b: int) -> None:
        z, lam = torch.zeros(b, *shape, device=device), torch.zeros(b, device=device)
        with autocast(compute.precision, device):
            network(z, lam, torch.zeros(b, dtype=torch.int64, device=device))

    return pace_of(work, largest, device)


def pace_of(work: Callable[[int], None], largest: int, device: torch.device) -> Pace:
    """Of `work(b)` on b images: b is doubled as long as that is quick enough to be tried, fits into memory, and
    does not fail."""
    b, found, before = 1, {}, 0.0
    per_image = _seconds(work, b)  # what is done once is in it, and not counted
    began = time.monotonic()
    while True:
        try:
            seconds, grown = _timed(work, b, device, expected=b * per_image)
        except (Exception, SystemExit):  # memory that runs out, or another limit; a user's own network has any
            if b == 1:
                raise
            break
        found[b] = per_image = seconds / b
        patience = SECONDS_TO_MEASURE if seconds > GROWS * before else PATIENCE
        late = time.monotonic() - began + 2 * (2 * seconds) > patience
        if 2 * b > largest or late or 2 * grown > SHARE_OF_MEMORY * _free(device):
            break
        b, before = 2 * b, seconds
    best = min(found.values())
    return Pace(found[max(found)], min(b for b, seconds in found.items() if seconds * ENOUGH <= best))


def _timed(work: Callable[[int], None], b: int, device: torch.device, *, expected: float) -> tuple[float, int]:
    """Seconds of work(b), and how many bytes of a GPU it took at most. On a processor it is done again, too, where it
    took longer than was expected by what went before: something else may have come between."""
    if device.type != "cuda":
        first = _seconds(work, b)
        return (min(first, _seconds(work, b)) if first < QUICK or first > SLOWER * expected else first), 0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work(b)  # a new shape is recorded (`cuda_graphs`), and libraries choose what suits it
    torch.cuda.synchronize(device)
    start = time.monotonic()
    work(b)
    torch.cuda.synchronize(device)
    return time.monotonic() - start, torch.cuda.max_memory_allocated(device) - before


def _seconds(work: Callable[[int], None], b: int) -> float:
    start = time.monotonic()
    work(b)
    return time.monotonic() - start


def _free(device: torch.device) -> float:
    """Bytes that a GPU has left, those that torch holds and does not use among them; endless on a processor."""
    if device.type != "cuda":
        return float("inf")
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused
