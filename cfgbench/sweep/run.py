"""Train what the grid needs, run what is missing: nothing is done twice, and one failure stops nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cfgbench.data import Images
from cfgbench.diffusion.guidance import Denoiser
from cfgbench.evaluation.extractors import ClassifierFeatures, FeatureExtractor, Inception
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import file_digest, identity, write_atomically
from cfgbench.models import classifier
from cfgbench.models.checkpoint import load_denoiser
from cfgbench.models.pretrained import check_shape, load_pretrained
from cfgbench.progress import Progress
from cfgbench.spec import INCEPTION, PACKAGED, Cell, Pretrained
from cfgbench.sweep.cell import Bench, batches, describe, run_cell
from cfgbench.sweep.plan import Plan
from cfgbench.training.classifier import train_classifier
from cfgbench.training.diffusion import TrainingFailed, train
from cfgbench.training.distributed import Group

REFERENCE_BATCH = 500

Row = dict[str, Any]


def run(plan: Plan, *, device: torch.device, precision: str, progress: Progress) -> Iterator[Row]:
    """Runs the plan's missing cells and yields each row once it is on the disk.

    Raises UserError for files that cannot be read or written; a cell that fails otherwise is a row with its reason.
    """
    if not plan.missing:
        return
    extractor = make_extractor(plan, device, progress)
    reference_id, reference = reference_moments(plan, extractor, progress)
    bench = Bench(plan.images, extractor, reference, reference_id, device, precision)
    for first, cells in plan.groups():
        try:
            denoiser = _denoiser(plan, first, device=device, precision=precision, progress=progress)
        except (TrainingFailed, MemoryError, torch.OutOfMemoryError) as error:
            for cell in cells:
                yield _put(plan, _failed(cell, bench, error))
            continue
        for cell in cells:
            yield _attempt(plan, cell, denoiser, bench, progress)


def ensure_trained(
    plan: Plan,
    cell: Cell,
    *,
    device: torch.device,
    precision: str,
    progress: Progress,
    group: Group | None = None,
) -> Path:
    """Trains the cell's network unless its checkpoint is there."""
    path = plan.store.checkpoint(cell.checkpoint_id)
    if not path.exists():
        train(
            plan.images,
            cell.model,
            cell.training,
            path,
            device=device,
            precision=precision,
            group=group,
            progress=progress,
        )
    return path


def _denoiser(plan: Plan, cell: Cell, *, device: torch.device, precision: str, progress: Progress) -> Denoiser:
    """The network of the cell: as it was made elsewhere, or trained here if it is not yet."""
    if isinstance(cell.model, Pretrained):
        denoiser = load_pretrained(cell.model, device)
        check_shape(denoiser, plan.images.images.shape[1:], plan.images.num_classes, device)
        return denoiser
    return load_denoiser(ensure_trained(plan, cell, device=device, precision=precision, progress=progress), device)


def make_extractor(plan: Plan, device: torch.device, progress: Progress) -> FeatureExtractor:
    """The sweep's feature extractor; a classifier of the data set's own is trained once and kept with the results."""
    name = plan.spec.features
    if name in INCEPTION:
        layer = int(name.removeprefix("inception").removeprefix("-") or 2048)
        return Inception(
            layer, plan.spec.evaluation.inception_weights, device, logits="is" in plan.spec.evaluation.metrics
        )
    path = classifier.packaged(name) if name in PACKAGED else _own_classifier(plan, device, progress)
    network = classifier.load(path)
    identifier = f"{name}-{file_digest(path)[:8]}"
    return ClassifierFeatures(network, identifier, side=network.side, device=device)


def _own_classifier(plan: Plan, device: torch.device, progress: Progress) -> Path:
    path = plan.store.folder / "classifier" / f"{identity(plan.cells[0].features)}.safetensors"
    if not path.exists():
        classifier.save(path, train_classifier(plan.images, device=device, progress=progress))
    return path


def reference_moments(plan: Plan, extractor: FeatureExtractor, progress: Progress) -> tuple[str, Moments]:
    """The id and the feature statistics of the training images, computed once and kept with the results."""
    reference_id = identity([plan.images.content, extractor.id])
    path = plan.store.reference(reference_id)
    if not path.exists():
        moments = _moments(plan.images, extractor, progress)
        write_atomically(path, moments.save)
    return reference_id, Moments.load(path)


def _moments(images: Images, extractor: FeatureExtractor, progress: Progress) -> Moments:
    total = Moments.empty()
    for batch in batches(len(images.images), REFERENCE_BATCH):
        progress(f"reference features of {images.name}", batch.start, len(images.images), "")
        pixels = torch.from_numpy(images.images[batch.start : batch.stop])
        total = total.merge(Moments.of(extractor(pixels).pooled))
    return total


def _attempt(plan: Plan, cell: Cell, denoiser: torch.nn.Module, bench: Bench, progress: Progress) -> Row:
    try:
        row, sheet = run_cell(cell, denoiser, bench, progress=progress)
    except (ValueError, RuntimeError, MemoryError) as error:
        return _put(plan, _failed(cell, bench, error))
    write_atomically(plan.store.samples(cell.id), sheet)
    return _put(plan, row)


def _failed(cell: Cell, bench: Bench, error: BaseException) -> Row:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return describe(cell, bench) | {"status": "failed", "reason": reason}


def _put(plan: Plan, row: Row) -> Row:
    plan.store.put(row)
    return row
