"""One cell: sample so many images under guidance, take their features, and measure."""

import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

import cfgbench
from cfgbench.data import Images
from cfgbench.diffusion.guidance import GUIDANCES, Denoiser
from cfgbench.diffusion.sampler import SAMPLERS, sample, to_uint8
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import noise
from cfgbench.evaluation.extractors import FeatureExtractor
from cfgbench.evaluation.metrics import frechet_distance, inception_score
from cfgbench.evaluation.statistics import Moments
from cfgbench.evaluation.stream import Accumulator
from cfgbench.models.precision import autocast, device_name
from cfgbench.progress import Progress, silent
from cfgbench.spec import Cell, Sampling

SHEET_ROWS, SHEET_COLUMNS = 4, 10
"""Images kept of each cell: so many of each of the first so many classes."""


@dataclass(frozen=True)
class Bench:
    """What the cells of a sweep share: the data, how images are judged, and where the work is done."""

    images: Images
    extractor: FeatureExtractor
    reference: Moments
    reference_id: str
    reference_name: str
    device: torch.device
    precision: str


def generate(
    denoiser: Denoiser, sampling: Sampling, indices: Tensor, shape: tuple[int, int, int], precision: str
) -> Tensor:
    """The uint8 images [b, *shape] with these indices: image i is of class i % num_classes and depends on nothing but
    the seed, i, and what `sampling` says."""
    guided = GUIDANCES[sampling.guidance](denoiser, indices % denoiser.num_classes, sampling.w)
    step = SAMPLERS[sampling.sampler](sampling.v)
    lams = sampling_log_snrs(sampling.T)
    with autocast(precision, indices.device):
        x = sample(guided, lams, step, lambda t: noise(sampling.seed, indices, t, shape), clip=sampling.clip)
    return to_uint8(x)


def batches(total: int, size: int) -> Iterator[range]:
    """0 .. total - 1 in consecutive ranges of at most `size`."""
    return (range(first, min(first + size, total)) for first in range(0, total, size))


def run_cell(
    cell: Cell, denoiser: Denoiser, bench: Bench, *, progress: Progress = silent
) -> tuple[dict[str, Any], bytes]:
    """The cell's row and its sheet of sample images as PNG.

    Raises ValueError for images or features that are not finite, and what torch raises when memory runs out.
    """
    began = time.monotonic()
    sampling, shape = cell.sampling, bench.images.images.shape[1:]
    accumulator = Accumulator(sampling.samples)
    kept: list[np.ndarray] = []
    sheet = _sheet_indices(sampling.samples, bench.images.num_classes)
    for batch in batches(sampling.samples, sampling.batch_size):
        progress(f"cell {cell.label}", batch.start, sampling.samples, "")
        indices = torch.arange(batch.start, batch.stop, device=bench.device)
        images = generate(denoiser, sampling, indices, shape, bench.precision)
        accumulator.add(batch.start, bench.extractor(images))
        kept.append(images[[i - batch.start for i in sheet.ravel().tolist() if i in batch]].cpu().numpy())
    seconds = time.monotonic() - began
    row = (
        describe(cell, bench)
        | _measure(cell, accumulator, bench)
        | {
            "status": "ok",
            "seconds": seconds,
            "images_per_second": sampling.samples / seconds,
        }
    )
    return row, _sheet_png(np.concatenate(kept), sheet, bench.images)


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
        "seed": sampling.seed,
        "samples": sampling.samples,
        "nfe": cell.nfe,
        "protocol": protocol(cell, bench),
        "features_id": bench.extractor.id,
        "reference_id": bench.reference_id,
        "checkpoint_id": cell.checkpoint_id,
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


def _measure(cell: Cell, accumulator: Accumulator, bench: Bench) -> dict[str, float]:
    numbers: dict[str, float] = {}
    if "fid" in cell.metrics:
        numbers["fid"] = frechet_distance(accumulator.moments, bench.reference)
    if "is" in cell.metrics:
        numbers["is_mean"], numbers["is_std"] = inception_score(accumulator.predictions)
    assert all(math.isfinite(number) for number in numbers.values())
    return numbers


def _sheet_indices(samples: int, num_classes: int) -> np.ndarray:
    """Image indices [rows, columns]: column j shows class j, row r its r-th image."""
    columns = min(num_classes, SHEET_COLUMNS, samples)
    rows = max(1, min(SHEET_ROWS, samples // num_classes))
    return np.arange(rows)[:, None] * num_classes + np.arange(columns)


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
