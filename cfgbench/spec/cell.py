"""One point of a sweep, and what names its numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from cfgbench.files import identity
from cfgbench.spec.grid import owner, points
from cfgbench.spec.models import Exact, Model, Pretrained
from cfgbench.spec.sections import ClassifierSection, Sampling, SweepSpec, Training
from cfgbench.wording import UNUSED, strength

IDENTITY = 2
"""Part of every identity: raised when the code changes what the same words of a sweep file mean in numbers."""


@dataclass(frozen=True)
class Network:
    """A network that a sweep trains: a denoiser by Algorithm 1, or the classifier of noisy images."""

    kind: Literal["denoiser", "classifier"]
    id: str
    """Names the trained weights: data, model and training decide them, and nothing else."""
    model: Model
    training: Training
    axes: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What else of its training distinguishes it in its sweep."""

    @property
    def label(self) -> str:
        """`p_uncond 0.1`, or `classifier`; `p_uncond 0.1, training.seed 1` where seeds are an axis."""
        name = f"p_uncond {self.training.p_uncond:g}" if self.kind == "denoiser" else "classifier"
        return ", ".join([name, *(f"{axis} {value}" for axis, value in self.axes.items())])


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: train so, sample so, measure so, on the data and features that `data` and `features` name.

    `data` is the data set's content hash with its flips, `features` what names the extractor's numbers: both stand in
    the identities in place of names and paths, so that other content is another cell; so does `weights` for networks
    that are not trained here.
    """

    sweep: str
    dataset: str
    model: Model | Pretrained
    training: Training
    sampling: Sampling
    metrics: tuple[str, ...]
    data: str
    features: str
    weights: str = ""
    noisy_classifier: ClassifierSection = field(default_factory=ClassifierSection)
    axes: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def checkpoint_id(self) -> str:
        """Names the denoiser's weights."""
        if self.denoiser is None:
            return identity([IDENTITY, self.data, self.weights])
        return self.denoiser.id

    @cached_property
    def denoiser(self) -> Network | None:
        """The network that is trained for the cell; None where it exists already."""
        if isinstance(self.model, Pretrained):
            return None
        content = [IDENTITY, self.data, self.model.model_dump(exclude_none=True), self.training.decisive]
        return Network("denoiser", identity(content), self.model, self.training, self._trained_by())

    @cached_property
    def classifier(self) -> Network | None:
        """The classifier that is trained for the cell; None where it needs none, as at w = 0, or has a closed form."""
        if not self.sampling.classified or isinstance(self.model, Exact):
            return None
        model = self.noisy_classifier.model_beside(self.model)
        training = self.noisy_classifier.training_beside(self.training)
        content = [IDENTITY, "classifier", self.data, model.model_dump(exclude_none=True), training.decisive]
        return Network("classifier", identity(content), model, training, self._trained_by(self.noisy_classifier))

    @property
    def networks(self) -> list[Network]:
        """What is trained for the cell: its denoiser and its classifier, as far as it needs them."""
        return [network for network in (self.denoiser, self.classifier) if network is not None]

    def _trained_by(self, but: ClassifierSection | None = None) -> dict[str, Any]:
        """The axes that vary the training of a network, `but` those for which a section of its own has one value."""
        fixed = {"p_uncond"} if but is None or but.training is None else {"p_uncond", *but.training.model_fields_set}
        owners = {axis: owner(axis) for axis in self.axes}
        varied = [axis for axis, (section, key) in owners.items() if section == "training" and key not in fixed]
        return {axis: self.axes[axis] for axis in varied}

    @cached_property
    def id(self) -> str:
        """Names the cell's numbers. The sampling batch, the device and the sweep's name do not change them."""
        return identity([IDENTITY, self.checkpoint_id, self._sampled, self.features, sorted(self.metrics)])

    @cached_property
    def images_id(self) -> str:
        """Names what decides image i, whatever i is: cells that differ in what they measure, or in how many images,
        have these in common."""
        sampled = {key: value for key, value in self._sampled.items() if key != "samples"}
        return identity([IDENTITY, self.checkpoint_id, sampled])

    @property
    def _sampled(self) -> dict[str, Any]:
        guided_by = {} if self.classifier is None else {"classifier": self.classifier.id}
        return self.sampling.decisive | guided_by

    @property
    def nfe(self) -> int:
        """Passes through networks per image: T without guidance, 2T with cfg, 3T with a classifier, there and back."""
        return self.sampling.T * self.sampling.passes

    @property
    def total_nfe(self) -> int:
        """`nfe` of all its images."""
        return self.nfe * self.sampling.samples

    @property
    def label(self) -> str:
        """What distinguishes this cell in its sweep: `p_uncond 0.1, w 0.3 (scale 1.3), T 32`."""
        unused = UNUSED.get(self.sampling.sampler, ())
        return ", ".join(
            strength(value, self.sampling.guidance) if axis in ("w", "sampling.w") else f"{axis} {value}"
            for axis, value in self.axes.items()
            if axis.rpartition(".")[2] not in unused
        )


def networks_of(cells: Iterable[Cell]) -> list[Network]:
    """What is trained for these cells, each once: denoisers, then classifiers."""
    cells = list(cells)
    every = [cell.denoiser for cell in cells] + [cell.classifier for cell in cells]
    return list({network.id: network for network in every if network is not None}.values())


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
            noisy_classifier=spec.classifier,
            axes=axes,
        )
        for axes, training, sampling in points(spec)
    )
    unique: dict[str, Cell] = {}
    for cell in cells:
        unique.setdefault(cell.id, cell)
    return list(unique.values())
