"""Features on the disk: which of them are a cell's, made for it or for others whose images are the same."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from cfgbench.files import identity
from cfgbench.models.precision import device_name
from cfgbench.spec import Cell
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.results.shards import Shards, images_of, tensors_of


def shards_of(bench: Bench, cell: Cell, *, compiled: bool) -> Shards:
    """Those of the cell's features that are there. Its networks are loaded, `compiled` or not."""
    plan = bench.plan
    like = tensors_of(bench.features) | {"kept": torch.empty(0, *plan.images.images.shape[1:], dtype=torch.uint8)}
    shards = Shards(
        plan.store.features(cell.id),
        cell.sampling.samples,
        _key(bench, cell, compiled),
        like=like,
        shown=plan.sheet_of(cell).ravel().tolist(),
        device=device_name(bench.compute.device),
    )
    shards.take_over(bench.kept.get(shards.name, ()))
    return shards


def compiled_before(bench: Bench, cells: Iterable[Cell]) -> bool | None:
    """Whether the network was compiled that made what is kept of these cells' features; None where nothing is."""
    both = ((cell, compiled) for cell in cells for compiled in (True, False))
    return next((compiled for cell, compiled in both if _name(bench, cell, compiled) in bench.kept), None)


def all_there(bench: Bench, cells: Sequence[Cell], *, compiled: bool) -> bool:
    """Whether none of these cells' images is to be made, by the names of files: what is damaged is found when it is
    read."""
    return all(cell.id in bench.plan.done or _covered(bench, cell, compiled) for cell in cells)


def _covered(bench: Bench, cell: Cell, compiled: bool) -> bool:
    reach = 0
    for images in sorted(map(images_of, bench.kept.get(_name(bench, cell, compiled), ())), key=lambda one: one.start):
        reach = max(reach, images.stop) if images.start <= reach else reach
    return reach >= cell.sampling.samples


def _key(bench: Bench, cell: Cell, compiled: bool) -> list[Any]:
    """What decides the features of an image, to the last bit on the same machine, and which of them are shown."""
    weights = [bench.weights.get(network.id) for network in (cell.denoiser, cell.classifier) if network]
    return [
        cell.images_id, weights, bench.extractor.id, bench.compute.precision, list(bench.plan.shown), compiled,
    ]  # fmt: skip


def _name(bench: Bench, cell: Cell, compiled: bool) -> str:
    return identity(_key(bench, cell, compiled))
