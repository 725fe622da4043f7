"""One cell: sample so many images under guidance, take their features, and measure."""

import io
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

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
from cfgbench.diffusion.streams import noise
from cfgbench.evaluation.extractors import FeatureExtractor, Features
from cfgbench.evaluation.measure import measure
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import identity
from cfgbench.models.fast import Compiled
from cfgbench.models.precision import autocast, device_name, out_of_memory
from cfgbench.progress import Progress, silent
from cfgbench.spec import Cell, Pretrained, Sampling
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
    networks: Networks, sampling: Sampling, indices: Tensor, shape: tuple[int, int, int], precision: str
) -> Tensor:
    """The uint8 images [b, *shape] with these indices: image i is of class i % num_classes and depends on nothing but
    the seed, i, and what `sampling` says."""
    networks = replace(networks, denoiser=BRANCHES[sampling.on](networks.denoiser))
    guided = GUIDANCES[sampling.guidance](networks, indices % networks.denoiser.num_classes, sampling.w)
    step = SAMPLERS[sampling.sampler](sampling.v, sampling.temperature)
    lams = sampling_log_snrs(sampling.T)
    with autocast(precision, indices.device):
        x = sample(guided, lams, step, lambda t: noise(sampling.seed, indices, t, shape), clip=sampling.clip)
    return to_uint8(x)


@dataclass(frozen=True)
class Result:
    """A finished cell: its row, its sheet of sample images as PNG, and how far each image pulls each metric."""

    row: dict[str, Any]
    sheet: bytes
    influences: dict[str, np.ndarray]


def run_cell(cell: Cell, networks: Networks, bench: Bench, shards: Shards, *, progress: Progress = silent) -> Result:
    """Makes the images that no shard holds yet, and measures all of them.

    Raises ValueError for images or features that are not finite, UserError for shards that cannot be written, and what
    torch raises when memory runs out for a single image.
    """
    try:
        for images in shards.missing():
            _fill(cell, networks, bench, shards, images, progress)
    finally:
        shards.flush()  # when stopped too: what is made is made
    sampling = cell.sampling
    labels = np.arange(sampling.samples) % bench.images.num_classes
    asked = {
        "fid_against": bench.reference if "fid" in cell.metrics else None,
        "inception": "is" in cell.metrics,
    }
    measured = measure(shards.blocks, sampling.samples, labels=labels, **asked)
    took = {"seconds": shards.seconds, "images_per_second": sampling.samples / shards.seconds}
    made = {"status": "ok", "compiled": isinstance(networks.denoiser, Compiled)}
    row = describe(cell, bench) | measured.numbers | made | took
    sheet = _sheet_png(shards.kept().numpy(), _sheet_indices(sampling.samples, bench), bench.images)
    return Result(row, sheet, {"label": labels, **measured.influences})


def _fill(cell: Cell, networks: Networks, bench: Bench, shards: Shards, images: range, progress: Progress) -> None:
    """Makes these images and their features, in batches that are halved where memory runs out."""
    sampling, shape = cell.sampling, bench.images.images.shape[1:]
    sheet = _sheet_indices(sampling.samples, bench).ravel()
    first, size = images.start, sampling.batch_size
    while first < images.stop:
        batch = range(first, min(first + size, images.stop))
        progress(f"cell {cell.label}", first, sampling.samples, "")
        indices = torch.arange(batch.start, batch.stop, device=bench.device)
        try:
            pixels = generate(networks, sampling, indices, shape, bench.precision)
            features = bench.extractor(pixels)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or len(batch) == 1:
                raise
            size = len(batch) // 2
            progress(f"cell {cell.label}: out of memory, batches of {size} from here", first, sampling.samples, "")
            continue  # the tensors of the failed batch are free when the handler ends
        _check_finite(features)
        shards.add(first, features, pixels[sheet[(sheet >= batch.start) & (sheet < batch.stop)] - batch.start])
        first = batch.stop


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
