"""The grid of a sweep file: its axes, whose they are, and the points that their product gives."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from cfgbench.errors import brief
from cfgbench.explain import did_you_mean, explain
from cfgbench.spec.sections import Checkpoint, Factory, Model, Pretrained, Sampling, Section, SweepSpec, Training

MOST_CELLS = 100_000
"""Of a sweep; each is minutes of work at least."""

_SECTIONS: dict[str, type[Section]] = {"training": Training, "sampling": Sampling}


def points(spec: SweepSpec) -> Iterator[tuple[dict[str, Any], Training, Sampling]]:
    """The product of the grid's lists, in the file's order: (the axes' values, training, sampling)."""
    training = spec.training
    if isinstance(spec.model, Pretrained):
        training = training.model_copy(update={"p_uncond": spec.model.p_uncond})
    owners = {axis: owner(axis) for axis in spec.grid}
    for values in itertools.product(*spec.grid.values()):
        axes = dict(zip(spec.grid, values, strict=True))
        parts = {
            section: {key: axes[axis] for axis, (its, key) in owners.items() if its == section} for section in _SECTIONS
        }
        yield (
            axes,
            training.model_copy(update=parts["training"]),
            spec.sampling.model_copy(update=parts["sampling"]),
        )


def owner(axis: str) -> tuple[str, str]:
    """(section, key) of an axis: `w` is ("sampling", "w"); `training.seed` says which of the two seeds is meant."""
    section, _, key = axis.rpartition(".")
    owners = [name for name, kind in _SECTIONS.items() if key in kind.model_fields and section in ("", name)]
    if not owners:
        known = sorted({key for kind in _SECTIONS.values() for key in kind.model_fields})
        raise ValueError(f"grid.{axis[:60]}: not a key of training or sampling{did_you_mean(axis, known)}")
    if len(owners) > 1:
        raise ValueError(f"grid.{axis}: training and sampling both have one; write training.{key} or sampling.{key}")
    if (owners[0], key) == ("sampling", "batch_size"):
        raise ValueError(f"grid.{axis}: the sampling batch does not change the images; set sampling.batch_size instead")
    return owners[0], key


def check_grid(spec: SweepSpec) -> SweepSpec:
    """The sweep with every value of its axes checked as its section would. Raises ValueError."""
    spec = spec.model_copy(update={"grid": {axis: _checked_axis(spec, axis) for axis in spec.grid}})
    owners = [owner(axis) for axis in spec.grid]
    if len(set(owners)) < len(owners):
        raise ValueError("grid: one axis stands there twice, as KEY and as SECTION.KEY; remove one")
    cells = math.prod(len(values) for values in spec.grid.values())
    if cells > MOST_CELLS:
        raise ValueError(f"grid: {cells:,} cells; at most {MOST_CELLS:,} are possible, take fewer values")
    return spec


def _checked_axis(spec: SweepSpec, axis: str) -> list[Any]:
    section, key = owner(axis)
    values = spec.grid[axis]
    if not values:
        raise ValueError(f"grid.{axis} = []: an axis needs at least one value")
    checked: dict[Any, None] = {}
    given = getattr(spec, section).model_dump()
    for position, value in enumerate(values):
        try:
            model = type(getattr(spec, section)).model_validate(given | {key: value})
        except ValidationError as error:
            raise ValueError(f"grid.{axis}[{position}]{explained(error).removeprefix(key)}") from None
        if getattr(model, key) in checked:
            raise ValueError(f"grid.{axis}[{position}] = {brief(value)}: stands in the list twice; remove one")
        checked[getattr(model, key)] = None
    return list(checked)


def explained(error: ValidationError) -> str:
    """What is wrong, in one line."""
    return explain(error.errors(include_url=False), _known_keys)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where `loc` stands."""
    kinds: dict[int | str, type[Section]] = {"checkpoint": Checkpoint, "factory": Factory, "unet": Model}
    if len(loc) > 2 and loc[0] == "model":
        return list(kinds[loc[1]].model_fields)
    section = SweepSpec.model_fields.get(str(loc[0])) if len(loc) > 1 else None
    return list((section.annotation if section else SweepSpec).model_fields)  # type: ignore[union-attr]
