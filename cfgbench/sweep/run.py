"""Train what the grid needs, run what is missing: nothing is done twice, and one failure stops nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cfgbench.diffusion.guidance import Denoiser
from cfgbench.files import write_atomically
from cfgbench.models.checkpoint import load_denoiser
from cfgbench.models.pretrained import check_shape, load_pretrained
from cfgbench.progress import Progress
from cfgbench.spec import Cell, Pretrained
from cfgbench.sweep.cell import Bench, describe, run_cell
from cfgbench.sweep.extractor import make_extractor, reference_of
from cfgbench.sweep.plan import Plan
from cfgbench.training.diffusion import TrainingFailed, train
from cfgbench.training.distributed import Group

Row = dict[str, Any]


def run(plan: Plan, *, device: torch.device, precision: str, progress: Progress) -> Iterator[Row]:
    """Runs the plan's missing cells and yields each row once it is on the disk.

    Raises UserError for files that cannot be read or written; a cell that fails otherwise is a row with its reason.
    """
    if not plan.missing:
        return
    extractor = make_extractor(plan, device, progress)
    reference_id, reference_name, reference = reference_of(plan, extractor, progress)
    bench = Bench(plan.images, extractor, reference, reference_id, reference_name, device, precision)
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
        image, classes = plan.images.images.shape[1:], plan.images.num_classes
        check_shape(denoiser, image, classes, device, null_class=cell.model.p_uncond > 0)
        return denoiser
    return load_denoiser(ensure_trained(plan, cell, device=device, precision=precision, progress=progress), device)


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
