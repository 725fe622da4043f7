"""What is asked: a YAML sweep file becomes a SweepSpec, and that becomes cells, each with its identity.

Everything that the file may say is checked here, before any work starts. This is the only file that knows pydantic.
"""

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from cfgbench.errors import UserError, brief
from cfgbench.explain import did_you_mean, explain
from cfgbench.files import identity
from cfgbench.presets import MODELS, TRAININGS
from cfgbench.sweepfile import load_yaml

IDENTITY = 2
"""Part of every identity: raised when the code changes what the same words of a sweep file mean in numbers."""

INCEPTION = ("inception", "inception-768", "inception-192", "inception-64")
MOST_CELLS = 100_000
"""Of a sweep; each is minutes of work at least."""
PACKAGED = ("digits", "fashion-mnist")
IMAGENET = ("imagenet64", "imagenet128")

Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]  # -0.0 is 0.0
Probability = Annotated[Finite, Field(ge=0, le=1)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Steps = Annotated[int, Field(ge=1, le=10**8)]  # each has its loss in memory
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
FilePath = Annotated[Path, Field(strict=False), AfterValidator(lambda path: _named(path))]
DataName = Literal["digits", "fashion-mnist", "folder", "imagenet64", "imagenet128"]
FeaturesName = Literal[
    "inception", "inception-768", "inception-192", "inception-64", "digits", "fashion-mnist", "classifier"
]


def _named(path: Path) -> Path:
    """The path, if a file can have that name: the system would answer in many ways where it cannot."""
    if any(len(os.fsencode(part)) > 255 for part in path.parts) or len(os.fsencode(path)) >= 4096:
        raise ValueError("longer than the name of a file can be")
    return path


class Section(BaseModel):
    """A mapping of the sweep file: no unknown keys, no text where a number belongs, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Dataset(Section):
    """Which images. `limit` counts images in all; `flip` overrides whether mirrored images count as real ones."""

    name: DataName
    path: FilePath | None = None
    split: str | None = None
    resolution: Side | None = None
    preprocess: Literal["adm", "area", "box"] | None = None
    classes: Count | Annotated[list[str], Field(min_length=1)] | None = None
    limit: Count | None = None
    flip: bool | None = None


def _with_preset(content: Any, presets: Mapping[str, Mapping[str, Any]]) -> Any:
    """The section's content on top of its preset's; a name that is no preset is refused by the field's own type."""
    preset = content.get("preset") if isinstance(content, dict) else None
    return {**presets.get(preset, {}), **content} if isinstance(preset, str) else content


class Model(Section):
    """The U-Net: `channels` at full resolution, times `multipliers` at each halving, with attention where the feature
    map's side is in `attention`, in so many `heads` or in heads of `head_channels`. `preset` gives what is not given.
    """

    name: Literal["unet"] = "unet"
    preset: Annotated[Literal["adm-64", "adm-128"] | None, Field(exclude=True)] = None
    channels: Annotated[int, Field(ge=4, le=4096, multiple_of=4)] = 64
    multipliers: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=10)] = [1, 2]
    blocks: Annotated[int, Field(ge=1, le=64)] = 1
    attention: list[Side] = []
    head_channels: Annotated[int, Field(ge=1, le=4096)] = 32
    heads: Annotated[int, Field(ge=1, le=4096)] | None = None
    dropout: Annotated[Finite, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, content: Any) -> Any:
        return _with_preset(content, MODELS)


class Checkpoint(Section):
    """A released network that is sampled as it is. ADM's were never trained without their class."""

    checkpoint: FilePath
    format: Literal["adm"]

    @property
    def p_uncond(self) -> float:
        return 0.0


class Factory(Section):
    """A network of the user's own: `function(**arguments)` of an importable module gives it.

    `prediction` says what it predicts, `p_uncond` how often its class was dropped in training: 0 has no null class.
    """

    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    prediction: Literal["eps", "x", "v"] = "eps"
    p_uncond: Probability = 0.0
    arguments: dict[str, Any] = {}


Pretrained = Checkpoint | Factory
"""Networks that exist before the sweep: nothing is trained."""


class Training(Section):
    """Algorithm 1. `warmup_steps` of linearly growing learning rate, then constant; `gradient_clip: 0` clips nothing.

    `micro_batch_size` images at a time go through the network on each device, and `recompute` keeps no activations
    between residual blocks: both save memory and change the weights by rounding only.
    """

    preset: Annotated[Literal["adm-64", "adm-128"] | None, Field(exclude=True)] = None
    steps: Steps = 10_000
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 128
    learning_rate: Positive = 2e-4
    warmup_steps: Annotated[int, Field(ge=0, le=2**40)] = 100
    weight_decay: NonNegative = 0.0
    ema_decay: Annotated[Finite, Field(ge=0, lt=1)] = 0.999
    gradient_clip: NonNegative = 1.0
    micro_batch_size: Annotated[int, Field(ge=1, le=2**20)] | None = None
    recompute: bool = False
    p_uncond: Probability = 0.1
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, content: Any) -> Any:
        return _with_preset(content, TRAININGS)

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the weights: all but how the work is divided."""
        return self.model_dump(exclude={"micro_batch_size", "recompute"})


class Sampling(Section):
    """Algorithm 2. `samples` is at least 10: the Inception Score has ten splits."""

    samples: Annotated[int, Field(ge=10, le=2**40)] = 50_000
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 256
    seed: Seed = 0
    v: Probability = 0.3
    clip: bool = True
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    guidance: Literal["cfg"] = "cfg"
    w: Finite = 0.0
    T: Annotated[int, Field(ge=2, le=1_000_000)] = 256


class Evaluation(Section):
    """What is measured, with which features; `features` is the data set's own extractor unless it is named, and
    `reference` an .npz of statistics to take the place of the training images'. `keep_features` keeps them on the disk
    when a cell is done."""

    features: FeaturesName | None = None
    metrics: Annotated[list[Literal["fid", "is"]], Field(min_length=1)] = ["fid", "is"]
    inception_weights: FilePath | None = None
    reference: FilePath | None = None
    keep_features: bool = False


def _kind_of_model(content: Any) -> str:
    """Which of the three kinds of `model` is meant: the key that only one has decides."""
    keys = content if isinstance(content, dict) else getattr(type(content), "model_fields", ())
    return next((kind for kind in ("checkpoint", "factory") if kind in keys), "unet")


class SweepSpec(Section):
    """A whole sweep file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    dataset: Dataset
    model: Annotated[
        Annotated[Model, Tag("unet")] | Annotated[Checkpoint, Tag("checkpoint")] | Annotated[Factory, Tag("factory")],
        Discriminator(_kind_of_model),
    ] = Model()
    training: Training = Training()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    grid: Annotated[dict[str, list[Any]], Field(min_length=1)]

    @property
    def features(self) -> str:
        """The extractor's name: what the file says, else the data set's own."""
        own = self.dataset.name if self.dataset.name in PACKAGED else "classifier"
        return self.evaluation.features or ("inception" if self.dataset.name in IMAGENET else own)

    def points(self) -> Iterator[tuple[dict[str, Any], Training, Sampling]]:
        """The product of the grid's lists, in the file's order: (the axes' values, training, sampling)."""
        training = self.training
        if isinstance(self.model, Pretrained):
            training = training.model_copy(update={"p_uncond": self.model.p_uncond})
        owners = {axis: _owner(axis) for axis in self.grid}
        for values in itertools.product(*self.grid.values()):
            axes = dict(zip(self.grid, values, strict=True))
            parts = {
                section: {key: axes[axis] for axis, (owner, key) in owners.items() if owner == section}
                for section in _SECTIONS
            }
            yield (
                axes,
                training.model_copy(update=parts["training"]),
                self.sampling.model_copy(update=parts["sampling"]),
            )


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
        for axes, training, sampling in spec.points()
    )
    return list({cell.id: cell for cell in reversed(list(cells))}.values())[::-1]


def load_sweep(path: Path) -> SweepSpec:
    """Reads and checks a sweep file. Raises UserError with one line that names file, key, value and the way out."""
    content = load_yaml(path)
    try:
        spec = SweepSpec.model_validate(content)
        spec = spec.model_copy(update={"grid": {axis: _checked_axis(spec, axis) for axis in spec.grid}})
        _check_together(spec)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return spec


def resolved(spec: SweepSpec) -> dict[str, Any]:
    """The sweep with every default filled in, as plain YAML content that `load_sweep` reads back to the same sweep."""
    untrained = {"training"} if isinstance(spec.model, Pretrained) else set()
    content = spec.model_dump(mode="json", exclude_none=True, exclude=untrained)
    return content | {"evaluation": content["evaluation"] | {"features": spec.features}}


_SECTIONS: dict[str, type[Section]] = {"training": Training, "sampling": Sampling}


def _owner(axis: str) -> tuple[str, str]:
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


def _check_nothing_is_trained(spec: SweepSpec, owners: list[tuple[str, str]]) -> None:
    if "training" in spec.model_fields_set:
        raise ValueError("training: nothing is trained where the model is a checkpoint or a factory; remove it")
    for axis, (section, _) in zip(spec.grid, owners, strict=True):
        if section == "training":
            raise ValueError(f"grid.{axis}: nothing is trained where the model is a checkpoint or a factory; remove it")


def _explain(error: ValidationError) -> str:
    return explain(error.errors(include_url=False), _known_keys)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where `loc` stands."""
    kinds: dict[int | str, type[Section]] = {"checkpoint": Checkpoint, "factory": Factory, "unet": Model}
    if len(loc) > 2 and loc[0] == "model":
        return list(kinds[loc[1]].model_fields)
    section = SweepSpec.model_fields.get(str(loc[0])) if len(loc) > 1 else None
    return list((section.annotation if section else SweepSpec).model_fields)  # type: ignore[union-attr]


def _checked_axis(spec: SweepSpec, axis: str) -> list[Any]:
    section, key = _owner(axis)
    values = spec.grid[axis]
    if not values:
        raise ValueError(f"grid.{axis} = []: an axis needs at least one value")
    checked: dict[Any, None] = {}
    given = getattr(spec, section).model_dump()
    for position, value in enumerate(values):
        try:
            model = type(getattr(spec, section)).model_validate(given | {key: value})
        except ValidationError as error:
            raise ValueError(f"grid.{axis}[{position}]{_explain(error).removeprefix(key)}") from None
        if getattr(model, key) in checked:
            raise ValueError(f"grid.{axis}[{position}] = {brief(value)}: stands in the list twice; remove one")
        checked[getattr(model, key)] = None
    return list(checked)


def _check_together(spec: SweepSpec) -> None:
    owners = [_owner(axis) for axis in spec.grid]
    if isinstance(spec.model, Pretrained):
        _check_nothing_is_trained(spec, owners)
    if len(set(owners)) < len(owners):
        raise ValueError("grid: one axis stands there twice, as KEY and as SECTION.KEY; remove one")
    cells = math.prod(len(values) for values in spec.grid.values())
    if cells > MOST_CELLS:
        raise ValueError(f"grid: {cells:,} cells; at most {MOST_CELLS:,} are possible, take fewer values")
    for _, training, sampling in spec.points():
        where = f"w = {sampling.w:g} with p_uncond = {training.p_uncond:g}"
        if isinstance(spec.model, Checkpoint) and sampling.w != 0:
            raise ValueError(f"w = {sampling.w:g}: ADM's released networks have no null class; take w: [0] only")
        if training.p_uncond == 0 and sampling.w != 0:
            key = "model.p_uncond" if isinstance(spec.model, Factory) else "p_uncond"
            raise ValueError(f"{where}: the null class was never trained; take {key} > 0, or w = 0 only")
        if training.p_uncond == 1 and sampling.w != -1:
            raise ValueError(f"{where}: the classes were never trained; take p_uncond < 1, or w = -1 only")
    features = spec.features
    if features in PACKAGED and features != spec.dataset.name:
        way_out = f"leave it out for the data set's own, or name one of {', '.join(INCEPTION)}"
        raise ValueError(f"evaluation.features = {features}: made for the data set {features} only; {way_out}")
    if features in INCEPTION[1:] and "is" in spec.evaluation.metrics:
        raise ValueError(
            f"evaluation.features = {features}: has no logits for the Inception Score; take metrics: [fid]"
        )
