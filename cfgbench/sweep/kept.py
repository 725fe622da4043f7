"""Features on the disk: which of them are a cell's, made for it or for others whose images are the same."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from glob import glob
from typing import Any

import torch

from cfgbench.errors import UserError
from cfgbench.files import identity
from cfgbench.models.precision import device_name
from cfgbench.spec import Cell
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.results.shards import Shards, gaps, images_of, tensors_of
from cfgbench.sweep.results.sheet import sheet_candidates
from cfgbench.tensors import load_tensors


def shards_of(bench: Bench, cell: Cell, *, compiled: bool) -> Shards:
    """Those of the cell's features that are there; what other cells have of them is copied. Its networks are loaded,
    `compiled` or not."""
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
    if shards.missing():
        shards.take_over(plan.store.kept().get(shards.name, ()))
    return shards


def compiled_before(bench: Bench, cells: Iterable[Cell]) -> bool | None:
    """Whether the network was compiled with which a run that was stopped has begun one of these cells; None where none
    was."""
    for cell in cells:
        for path in glob(f"*.{_name(bench, cell)}.safetensors", root_dir=bench.plan.store.features(cell.id)):  # noqa: PTH207
            with suppress(UserError, KeyError, TypeError):
                _, header = load_tensors(bench.plan.store.features(cell.id) / path)
                if (compiled := header["made"]["compiled"]) is not None:
                    return bool(compiled)
    return None


def missing(bench: Bench, cells: Sequence[Cell]) -> dict[str, int]:
    """cell id -> how many of its images are in no shard, by the names of files: what is damaged is found when it is
    read. Where a classifier guides that is not loaded yet all are taken for missing."""
    kept = bench.plan.store.kept()
    there = {cell.id: map(images_of, kept.get(_name(bench, cell), ())) for cell in cells}
    return {cell.id: sum(map(len, gaps(there[cell.id], cell.sampling.samples))) for cell in cells}


def _name(bench: Bench, cell: Cell) -> str:
    return identity(_key(bench, cell))


def _key(bench: Bench, cell: Cell) -> list[Any]:
    """What decides the features of an image but for rounding, and the classes that are shown."""
    weights = [bench.weights.get(network.id) for network in cell.networks]
    return [cell.images_id, weights, bench.extractor.id, bench.compute.precision, list(bench.plan.shown)]
