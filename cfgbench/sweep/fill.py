"""Images of cells and their features, batch by batch, into the cells' shards."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cfgbench.diffusion.guidance import BRANCHES, GUIDANCES, Networks
from cfgbench.diffusion.sampler import SAMPLERS, sample, to_uint8
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import Noise
from cfgbench.evaluation.features import Features
from cfgbench.evaluation.statistics import check_finite
from cfgbench.models.precision import autocast, out_of_memory
from cfgbench.progress import remark
from cfgbench.spec import Cell, Sampling
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.results.shards import Shards


def generate(
    networks: Networks,
    sampling: Sampling,
    indices: Tensor,
    shape: tuple[int, int, int],
    precision: str,
    w: Tensor | None = None,
) -> Tensor:
    """The uint8 images [b, *shape] with these indices: image i is of class i % num_classes and depends on nothing but
    the seed, i, and what `sampling` says; with `w` [b] each has a strength of its own."""
    strength = sampling.w if w is None else w
    networks = replace(networks, denoiser=BRANCHES[sampling.on](networks.denoiser))
    guided = GUIDANCES[sampling.guidance](networks, indices % networks.denoiser.num_classes, strength)
    step = SAMPLERS[sampling.sampler](sampling.v, sampling.temperature)
    lams = sampling_log_snrs(sampling.T)
    with autocast(precision, indices.device):
        x = sample(guided, lams, step, Noise(sampling.seed, indices, shape, sampling.T), clip=sampling.clip)
    return to_uint8(x)


class Job(NamedTuple):
    """A cell, and where its images' features go."""

    cell: Cell
    shards: Shards


class _Part(NamedTuple):
    """Images of a cell that are in a batch."""

    job: Job
    images: range


def fill(jobs: Sequence[Job], ready: Ready, bench: Bench) -> None:
    """Makes the images of these cells that no shard holds yet, some of each cell in a batch: cells that differ in w
    alone. Batches are halved where memory runs out.

    Raises ValueError for images or features that are not finite, UserError for shards that cannot be written, and what
    torch raises when memory runs out for a single image.
    """
    label = f"cell {jobs[0].cell.label}" + f" and {len(jobs) - 1} more" * (len(jobs) > 1)
    total, size = sum(job.cell.sampling.samples for job in jobs), ready.images(jobs[0].cell.sampling)
    gaps = [job.shards.missing() for job in jobs]
    with ExitStack() as ends:
        for job in jobs:
            ends.callback(job.shards.flush)  # when stopped too, and each of them: what is made is made
        while any(gaps):
            parts = [_Part(job, missing[0][:size]) for job, missing in zip(jobs, gaps, strict=True) if missing]
            done = total - sum(len(gap) for missing in gaps for gap in missing)
            bench.progress(label, done, total, "")
            try:
                _make(parts, ready.networks, bench)
            except (MemoryError, RuntimeError) as error:
                largest = max(len(part.images) for part in parts)
                if not out_of_memory(error) or largest == 1:
                    raise
                size = largest // 2
                ready.halve(sum(len(part.images) for part in parts), jobs[0].cell.sampling)
                remark(bench.progress, f"{label}: out of memory, batches of {size} from here")
                gaps = [job.shards.missing() for job in jobs]  # some of the batch may have been taken in
                continue  # the tensors of the failed batch are free when the handler ends
            gaps = [_without(missing, size) for missing in gaps]


def _without(gaps: list[range], size: int) -> list[range]:
    """What is missing when so many images of the first gap are there."""
    return [gap for gap in (gaps[0][size:], *gaps[1:]) if gap] if gaps else []


def _make(parts: Sequence[_Part], networks: Networks, bench: Bench) -> None:
    """One batch: images, and their features into the shards."""
    began, (first, *others) = time.monotonic(), parts
    places = [torch.arange(part.images.start, part.images.stop, device=bench.compute.device) for part in parts]
    # a number says more than a tensor: a branch that it does not need is left out
    strengths = [torch.full((len(part.images),), part.job.cell.sampling.w) for part in parts] if others else None
    pixels = generate(
        networks,
        first.job.cell.sampling,
        torch.cat(places),
        bench.plan.images.images.shape[1:],
        bench.compute.precision,
        None if strengths is None else torch.cat(strengths).to(bench.compute.device),
    )
    features = bench.extractor(pixels).cpu()
    _check(features)
    seconds = (time.monotonic() - began) / len(pixels)
    at = 0
    for job, images in parts:
        mine, at = slice(at, at + len(images)), at + len(images)
        shown = [index - images.start for index in job.shards.shown if index in images]
        job.shards.add(images.start, features[mine], pixels[mine][shown], seconds * len(images))


def _check(features: Features) -> None:
    """Numbers that are none do not reach the disk. Raises ValueError."""
    check_finite("features", features.pooled)
    if features.logits is not None:
        check_finite("logits", features.logits)
