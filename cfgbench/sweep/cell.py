"""One cell: sample so many images under guidance, take their features, and measure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

import cfgbench
from cfgbench.evaluation.accumulator import SPLITS
from cfgbench.evaluation.measure import measure
from cfgbench.files import identity
from cfgbench.models.precision import device_name
from cfgbench.spec import Cell, Pretrained
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.fill import Job, fill
from cfgbench.sweep.notes import note_in_row
from cfgbench.sweep.results.sheet import sheet_png


@dataclass(frozen=True)
class Result:
    """A finished cell: its row, its sheet of sample images as PNG, and how far each image pulls each metric."""

    row: dict[str, Any]
    sheet: bytes
    influences: dict[str, np.ndarray]


def run_cell(job: Job, ready: Ready, bench: Bench) -> Result:
    """Makes the images that no shard holds yet, and measures all of them. Raises what `fill` and `measure` do."""
    fill([job], ready, bench)
    cell, shards = job
    sampling = cell.sampling
    labels = np.arange(sampling.samples) % bench.plan.images.num_classes
    asked = {
        "fid_against": bench.reference.moments if "fid" in cell.metrics else None,
        "inception": "is" in cell.metrics,
    }
    measured = measure(shards.blocks, sampling.samples, labels=labels, **asked)
    made = {
        "status": "ok",
        "compiled": max((made["compiled"] for made in shards.made_by if made["compiled"] is not None), default=None),
        "device": " and ".join(sorted({made["device"] for made in shards.made_by})),
        "seconds": shards.seconds,
        "images_per_second": sampling.samples / shards.seconds,
    }
    row = describe(cell, bench) | measured.numbers | made
    indices = bench.plan.sheet_of(cell)
    sheet = sheet_png(shards.pixels(indices.ravel()).numpy(), indices, bench.plan.images)
    return Result(row, sheet, {"label": labels, **measured.influences})


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
        "notes": note_in_row(bench.plan, sampling.samples, bench.features, bench.reference.images),
        "reference_id": bench.reference.id,
        "checkpoint_id": cell.checkpoint_id,
        "classifier_id": cell.classifier and cell.classifier.id,
        "checkpoint_digest": cell.denoiser and bench.weights.get(cell.denoiser.id),
        "classifier_digest": cell.classifier and bench.weights.get(cell.classifier.id),
        "device": device_name(bench.compute.device),
        "precision": bench.compute.precision,
        "cfgbench_version": cfgbench.__version__,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    others = {axis: value for axis, value in cell.axes.items() if axis.removeprefix("sampling.") not in named}
    return named | others


def protocol(cell: Cell, bench: Bench) -> str:
    """How the numbers were measured, in words: rows whose protocols differ are not comparable.

    A network trained in another precision is another network, by more than its images differ between precisions.
    """
    precisions = {bench.trained_in.get(network.id) for network in cell.networks} - {None, bench.compute.precision}
    trained = "".join(f"; trained in {precision}" for precision in sorted(precisions))
    return (
        f"features {bench.extractor.id}; reference {bench.reference.name}; "
        f"{cell.sampling.samples} samples, classes balanced; uint8 by rounding; IS {SPLITS} splits in index order; "
        f"clip {'on' if cell.sampling.clip else 'off'}; {bench.compute.precision}{trained}"
    )
