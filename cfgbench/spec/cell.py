"""One point of a sweep, and what names its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cfgbench.files import identity
from cfgbench.spec.grid import points
from cfgbench.spec.sections import Checkpoint, Factory, Model, Sampling, SweepSpec, Training

IDENTITY = 2
"""Part of every identity: raised when the code changes what the same words of a sweep file mean in numbers."""


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: train so, sample so, measure so, on the data and features that `data` and `features` name.

    `data` is the data set's content hash with its flips, `features` what names the extractor's numbers: both stand in
    the identities in place of names and paths, so that other content is another cell; so does `weights` for networks
    that are not trained here.
    """

    sweep: str
    dataset: str
    model: Model | Checkpoint | Factory
    training: Training
    sampling: Sampling
    metrics: tuple[str, ...]
    data: str
    features: str
    weights: str = ""
    axes: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def checkpoint_id(self) -> str:
        """Names the trained weights: data, model and training decide them, and nothing else."""
        if self.weights:
            return identity([IDENTITY, self.data, self.weights])
        return identity([IDENTITY, self.data, self.model.model_dump(exclude_none=True), self.training.decisive])

    @cached_property
    def id(self) -> str:
        """Names the cell's numbers. The sampling batch, the device and the sweep's name do not change them."""
        sampling = self.sampling.model_dump(exclude={"batch_size"})
        if self.sampling.sampler == "ddim":
            del sampling["v"]  # a deterministic step has no variance
        return identity([IDENTITY, self.checkpoint_id, sampling, self.features, sorted(self.metrics)])

    @property
    def nfe(self) -> int:
        """Network calls per image: T without guidance (and at w = -1), 2T with it."""
        return self.sampling.T * (1 if self.sampling.w in (0, -1) else 2)

    @property
    def label(self) -> str:
        """What distinguishes this cell in its sweep: `p_uncond 0.1, w 0.3 (scale 1.3), T 32`."""
        return ", ".join(
            f"w {value:g} (scale {1 + value:g})" if axis == "w" else f"{axis} {value}"
            for axis, value in self.axes.items()
        )


def make_cells(spec: SweepSpec, *, data: str, features: str, weights: str = "") -> list[Cell]:
    """The sweep's cells in the file's order, each identity once."""
    cells = (
        Cell(
            sweep=spec.name,
            dataset=spec.dataset.name,
            model=spec.model,
            training=training,
            sampling=sampling,
            metrics=tuple(spec.evaluation.metrics),
            data=data,
            features=features,
            weights=weights,
            axes=axes,
        )
        for axes, training, sampling in points(spec)
    )
    return list({cell.id: cell for cell in reversed(list(cells))}.values())[::-1]
