"""One cell: sample so many images under guidance, take their features, and measure."""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

import cfgbench
from cfgbench.data import Images
from cfgbench.diffusion.guidance import BRANCHES, GUIDANCES, Networks
from cfgbench.diffusion.sampler import SAMPLERS, sample, to_uint8
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import Noise
from cfgbench.evaluation.extractors import FeatureExtractor, Features
from cfgbench.evaluation.measure import measure
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import identity
from cfgbench.models.fast import Compiled
from cfgbench.models.precision import autocast, device_name, out_of_memory
from cfgbench.progress import Progress, silent
from cfgbench.spec import Cell, Pretrained, Sampling
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.shards import Shards
from cfgbench.training.state import TrainingFailed

SHEET_ROWS = 4
"""Images kept of each class that a cell's sheet shows."""


@dataclass(frozen=True)
class Bench:
    """What the cells of a sweep share: the data, how images are judged, and where the work is done."""

    images: Images
    shown: tuple[int, ...]
    """The classes of the sample sheets, in order."""
    extractor: FeatureExtractor
    reference: Moments
    reference_id: str
    reference_name: str
    device: torch.device
    precision: str
    compiled: bool | None = None
    """Whether networks go through torch.compile; None where that is decided network by network."""
    broken: dict[str, TrainingFailed] = field(default_factory=dict)
    """Networks that could not be trained: others that share one of a pair do not try it again."""


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


@dataclass(frozen=True)
class Result:
    """A finished cell: its row, its sheet of sample images as PNG, and how far each image pulls each metric."""

    row: dict[str, Any]
    sheet: bytes
    influences: dict[str, np.ndarray]


def run_cell(cell: Cell, ready: Ready, bench: Bench, shards: Shards, *, progress: Progress = silent) -> Result:
    """Makes the images that no shard holds yet, and measures all of them.

    Raises ValueError for images or features that are not finite, UserError for shards that cannot be written, and what
    torch raises when memory runs out for a single image.
    """
    fill([Job(cell, shards)], ready, bench, progress)
    sampling = cell.sampling
    labels = np.arange(sampling.samples) % bench.images.num_classes
    asked = {
        "fid_against": bench.reference if "fid" in cell.metrics else None,
        "inception": "is" in cell.metrics,
    }
    measured = measure(shards.blocks, sampling.samples, labels=labels, **asked)
    took = {"seconds": shards.seconds, "images_per_second": sampling.samples / shards.seconds}
    denoiser = ready.networks.denoiser
    made = {"status": "ok", "compiled": isinstance(denoiser, Compiled) and not denoiser.failed}
    row = describe(cell, bench) | measured.numbers | made | took
    sheet = _sheet_png(shards.kept().numpy(), _sheet_indices(sampling.samples, bench), bench.images)
    return Result(row, sheet, {"label": labels, **measured.influences})


class Job(NamedTuple):
    """A cell, and where its images' features go."""

    cell: Cell
    shards: Shards


class _Part(NamedTuple):
    """Images of a cell that are in a batch."""

    job: Job
    images: range


def fill(jobs: Sequence[Job], ready: Ready, bench: Bench, progress: Progress) -> None:
    """Makes the images of these cells that no shard holds yet, some of each cell in a batch: cells that differ in w
    alone. Batches are halved where memory runs out. Raises what `run_cell` does."""
    label = f"cell {jobs[0].cell.label}" + f" and {len(jobs) - 1} more" * (len(jobs) > 1)
    total, size = sum(job.cell.sampling.samples for job in jobs), ready.images(jobs[0].cell.sampling)
    gaps = [job.shards.missing() for job in jobs]
    try:
        while any(gaps):
            parts = [_Part(job, missing[0][:size]) for job, missing in zip(jobs, gaps, strict=True) if missing]
            done = total - sum(len(gap) for missing in gaps for gap in missing)
            progress(label, done, total, "")
            try:
                _make(parts, ready.networks, bench)
            except (MemoryError, RuntimeError) as error:
                largest = max(len(part.images) for part in parts)
                if not out_of_memory(error) or largest == 1:
                    raise
                size = largest // 2
                progress(f"{label}: out of memory, batches of {size} from here", done, total, "")
                continue  # the tensors of the failed batch are free when the handler ends
            gaps = [_without(missing, size) for missing in gaps]
    finally:
        for job in jobs:
            job.shards.flush()  # when stopped too: what is made is made


def _without(gaps: list[range], size: int) -> list[range]:
    """What is missing when so many images of the first gap are there."""
    return [gap for gap in (gaps[0][size:], *gaps[1:]) if gap] if gaps else []


def _make(parts: Sequence[_Part], networks: Networks, bench: Bench) -> None:
    """One batch: images, and their features into the shards."""
    began, (first, *others) = time.monotonic(), parts
    places = [torch.arange(part.images.start, part.images.stop, device=bench.device) for part in parts]
    # a number says more than a tensor: a branch that it does not need is left out
    strengths = [torch.full((len(part.images),), part.job.cell.sampling.w) for part in parts] if others else None
    pixels = generate(
        networks,
        first.job.cell.sampling,
        torch.cat(places),
        bench.images.images.shape[1:],
        bench.precision,
        None if strengths is None else torch.cat(strengths).to(bench.device),
    )
    features = bench.extractor(pixels).cpu()
    _check_finite(features)
    seconds = (time.monotonic() - began) / len(pixels)
    at = 0
    for job, images in parts:
        mine, at = slice(at, at + len(images)), at + len(images)
        sheet = _sheet_indices(job.cell.sampling.samples, bench).ravel()
        shown = sheet[(sheet >= images.start) & (sheet < images.stop)] - images.start
        job.shards.add(images.start, features[mine], pixels[mine][shown], seconds * len(images))


def _check_finite(features: Features) -> None:
    """Numbers that are none do not reach the disk. Raises ValueError."""
    for name, values in (("features", features.pooled), ("logits", features.logits)):
        if values is not None and not values.isfinite().all():
            bad = int((~values.isfinite()).any(dim=1).sum())
            raise ValueError(f"{name} that are not finite, in {bad} of {len(values)} images")


def describe(cell: Cell, bench: Bench) -> dict[str, Any]:
    """The part of the cell's row that is known before it runs."""
    sampling = cell.sampling
    named = {
        "sweep": cell.sweep,
        "cell_id": cell.id,
        "dataset": cell.dataset,
        "p_uncond": cell.training.p_uncond,
        "w": sampling.w,
        "T": sampling.T,
        "v": sampling.v,
        "sampler": sampling.sampler,
        "guidance": sampling.guidance,
        "on": sampling.on,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "training.seed": None if isinstance(cell.model, Pretrained) else cell.training.seed,
        "samples": sampling.samples,
        "nfe": cell.nfe,
        "protocol": protocol(cell, bench),
        "protocol_id": identity(protocol(cell, bench)),
        "features_id": bench.extractor.id,
        "reference_id": bench.reference_id,
        "checkpoint_id": cell.checkpoint_id,
        "classifier_id": cell.classifier and cell.classifier.id,
        "device": device_name(bench.device),
        "precision": bench.precision,
        "cfgbench_version": cfgbench.__version__,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    others = {axis: value for axis, value in cell.axes.items() if axis.removeprefix("sampling.") not in named}
    return named | others


def protocol(cell: Cell, bench: Bench) -> str:
    """How the numbers were measured, in words: rows whose protocols differ are not comparable."""
    return (
        f"features {bench.extractor.id}; reference {bench.reference_name}; "
        f"{cell.sampling.samples} samples, classes balanced; uint8 by rounding; IS 10 splits in index order; "
        f"clip {'on' if cell.sampling.clip else 'off'}; {bench.precision}"
    )


def _sheet_indices(samples: int, bench: Bench) -> np.ndarray:
    """Image indices [rows, columns], increasing: a column a class that is shown, row r its r-th image."""
    classes = bench.images.num_classes
    shown = [c for c in bench.shown if c < samples] or [0]
    rows = max(1, min(SHEET_ROWS, samples // classes))
    return np.arange(rows)[:, None] * classes + np.array(shown)


def _sheet_png(kept: np.ndarray, sheet: np.ndarray, images: Images) -> bytes:
    """The kept images, which come in index order as the sheet's rows do, as one PNG that says what its tiles are."""
    (rows, columns), (channels, height, width) = sheet.shape, kept.shape[1:]
    tiles = kept.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = tiles.reshape(rows * height, columns * width, channels)
    notes = PngInfo()
    labels = (sheet % images.num_classes).tolist()
    layout = {"height": height, "width": width, "labels": labels, "class_names": list(images.class_names)}
    notes.add_text("cfgbench", json.dumps(layout))
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, "PNG", pnginfo=notes)
    return file.getvalue()
