"""Features on the disk: which of them are a cell's, made for it or for others whose images are the same."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch

from cfgbench.errors import UserError
from cfgbench.files import identity
from cfgbench.models.precision import device_name
from cfgbench.spec import Cell
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.results.shards import Shards, images_of, tensors_of
from cfgbench.sweep.results.sheet import sheet_candidates
from cfgbench.tensors import load_tensors


def shards_of(bench: Bench, cell: Cell, *, compiled: bool) -> Shards:
    """Those of the cell's features that are there. Its networks are loaded, `compiled` or not."""
    plan = bench.plan
    like = tensors_of(bench.features) | {"kept": torch.empty(0, *plan.images.images.shape[1:], dtype=torch.uint8)}
    shards = Shards(
        plan.store.features(cell.id),
        cell.sampling.samples,
        _key(bench, cell),
        like=like,
        shown=sheet_candidates(plan.images.num_classes, plan.shown),
        made={"device": device_name(bench.compute.device), "compiled": compiled},
    )
    shards.take_over(bench.kept.get(shards.name, ()))
    return shards


def keep(bench: Bench, shards: Shards) -> None:
    """Cells that are still to be made may take over these."""
    bench.kept.setdefault(shards.name, []).extend(shards.files.values())


def compiled_before(bench: Bench, cells: Iterable[Cell]) -> bool | None:
    """Whether the network was compiled that made what a run that was stopped has left of these cells; None where that
    is nothing."""
    for cell in cells:
        with suppress(UserError, KeyError, TypeError, OSError):  # damaged, or finished and removed by another process
            for path in bench.plan.store.features(cell.id).glob(f"*.{_name(bench, cell)}.safetensors"):
                return bool(load_tensors(path)[1]["made"]["compiled"])
    return None


def missing(bench: Bench, cell: Cell) -> int:
    """How many of the cell's images are in no shard, by the names of files: what is damaged is found when it is
    read."""
    gaps = reach = 0
    total, there = cell.sampling.samples, map(images_of, bench.kept.get(_name(bench, cell), ()))
    for images in sorted(there, key=lambda one: one.start):
        gaps += max(0, min(images.start, total) - reach)
        reach = max(reach, min(images.stop, total))
    return gaps + total - reach


def _name(bench: Bench, cell: Cell) -> str:
    return identity(_key(bench, cell))


def _key(bench: Bench, cell: Cell) -> list[Any]:
    """What decides the features of an image but for rounding, and the classes that are shown."""
    weights = [bench.weights.get(network.id) for network in (cell.denoiser, cell.classifier) if network]
    return [cell.images_id, weights, bench.extractor.id, bench.compute.precision, list(bench.plan.shown)]
