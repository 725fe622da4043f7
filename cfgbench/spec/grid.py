"""The grid of a sweep file: its axes, whose they are, and the points that their product gives."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from cfgbench.errors import brief
from cfgbench.spec.explain import did_you_mean, explain
from cfgbench.spec.models import Pretrained
from cfgbench.spec.sections import Sampling, SweepSpec, Training
from cfgbench.spec.values import Section

MOST_CELLS = 100_000
"""Of a sweep; each is minutes of work at least."""

_SECTIONS: dict[str, type[Section]] = {"training": Training, "sampling": Sampling}


def points(spec: SweepSpec) -> Iterator[tuple[dict[str, Any], Training, Sampling]]:
    """The products of the grids' lists, in the file's order, each once: (the axes' values, training, sampling).

    An axis of one grid has its value at the points of the others too.
    """
    training = spec.training
    if isinstance(spec.model, Pretrained):
        training = training.model_copy(update={"p_uncond": spec.model.p_uncond})
    axes = {axis: owner(axis) for grid in spec.grids.values() for axis in grid}
    seen: set[tuple[Training, Sampling]] = set()
    for grid in spec.grids.values():
        for changes in _product(grid):
            sections = {
                "training": training.model_copy(update=changes["training"]),
                "sampling": spec.sampling.model_copy(update=changes["sampling"]),
            }
            point = sections["training"], sections["sampling"]
            if point not in seen:
                seen.add(point)
                yield {axis: getattr(sections[section], key) for axis, (section, key) in axes.items()}, *point


def _product(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """What each point changes: section -> key -> value."""
    owners = [owner(axis) for axis in grid]
    for values in itertools.product(*grid.values()):
        changes: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
        for (section, key), value in zip(owners, values, strict=True):
            changes[section][key] = value
        yield changes


def owner(axis: str, where: str = "grid", *, varied: Iterable[str] = _SECTIONS) -> tuple[str, str]:
    """(section, key) of an axis: `w` is ("sampling", "w"); `training.seed` says which of the two seeds is meant. Raises
    ValueError, with those of the sections named that may be varied."""
    key = axis.rpartition(".")[2]
    owners = [name for name in _SECTIONS if key in _keys(name) and axis in (key, f"{name}.{key}")]
    if not owners:
        known = sorted({key for name in _SECTIONS for key in _keys(name)})
        raise ValueError(f"{where}.{axis[:60]}: not a key of training or sampling{did_you_mean(axis, known)}")
    if len(owners) > 1:
        ways = " or ".join(f"{name}.{key}" for name in varied if (name, key) not in _DIVISION)
        raise ValueError(f"{where}.{axis}: training and sampling both have one; write {ways or 'neither'}")
    if what := _DIVISION.get((owners[0], key)):
        raise ValueError(f"{where}.{axis}: {what}; set {owners[0]}.{key} instead")
    return owners[0], key


_DIVISION = {
    ("sampling", "batch_size"): "the sampling batch does not change the images",
    ("training", "micro_batch_size"): "how a batch is divided makes no other network",
    ("training", "recompute"): "what is kept of a step makes no other network",
}
"""(section, key) that are no axes -> why: they say how the work is divided."""


def _keys(section: str) -> set[str]:
    """The keys that may be an axis; a preset is other keys' values and no key of its own."""
    return {key for key, field in _SECTIONS[section].model_fields.items() if not field.exclude}


def check_grid(spec: SweepSpec) -> SweepSpec:
    """The sweep with every value of its axes checked as its section would. Raises ValueError."""
    grids = [_checked(spec, grid, where) for where, grid in spec.grids.items()]
    cells = sum(math.prod(len(values) for values in grid.values()) for grid in grids)
    if cells > MOST_CELLS:
        raise ValueError(f"grid: {cells:,} cells; at most {MOST_CELLS:,} are possible, take fewer values")
    return spec.model_copy(update={"grid": grids[0] if isinstance(spec.grid, dict) else grids})


def _checked(spec: SweepSpec, grid: Mapping[str, list[Any]], where: str) -> dict[str, list[Any]]:
    varied = ["sampling"] if isinstance(spec.model, Pretrained) else _SECTIONS
    owners = {axis: owner(axis, where, varied=varied) for axis in grid}
    checked = {axis: _checked_axis(spec, *owners[axis], values, f"{where}.{axis}") for axis, values in grid.items()}
    if len(set(owners.values())) < len(owners):
        raise ValueError(f"{where}: one axis stands there twice, as KEY and as SECTION.KEY; remove one")
    return checked


def _checked_axis(spec: SweepSpec, section: str, key: str, values: list[Any], where: str) -> list[Any]:
    if not values:
        raise ValueError(f"{where} = []: an axis needs at least one value")
    checked: dict[Any, None] = {}
    given = getattr(spec, section).model_dump()
    for position, value in enumerate(values):
        place = f"{where}[{position}]"
        try:
            model = type(getattr(spec, section)).model_validate(given | {key: value})
        except ValidationError as error:
            raise ValueError(f"{place}{explain(error).removeprefix(key)}") from None
        if getattr(model, key) in checked:
            raise ValueError(f"{place} = {brief(value)}: stands in the list twice; remove one")
        checked[getattr(model, key)] = None
    return list(checked)
