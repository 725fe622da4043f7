"""The sections of a sweep file: their keys, their types, their bounds. The only file that knows pydantic's models."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    model_validator,
)

from cfgbench.errors import brief
from cfgbench.spec.presets import MODELS, TRAININGS

InceptionName = Literal["inception", "inception-768", "inception-192", "inception-64"]
INCEPTION: tuple[str, ...] = get_args(InceptionName)
PACKAGED = ("digits", "fashion-mnist")
IMAGENET = ("imagenet64", "imagenet128")
OWN = (*PACKAGED, "gaussians")
"""Data sets with features of their own, which are no use for any other."""

Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]  # -0.0 is 0.0
Probability = Annotated[Finite, Field(ge=0, le=1)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Steps = Annotated[int, Field(ge=1, le=10**8)]  # each has its loss in memory
Side = Annotated[int, Field(ge=1, le=4096)]
ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]  # a folder's: 1
Seed = Annotated[int, Field(ge=0, lt=2**63)]
FilePath = Annotated[Path, Field(strict=False), AfterValidator(lambda path: _named(path))]
DataName = Literal["digits", "fashion-mnist", "folder", "imagenet64", "imagenet128", "gaussians"]
FeaturesName = Literal[InceptionName, "digits", "fashion-mnist", "classifier", "gaussians"]


def _named(path: Path) -> Path:
    """The path, if a file can have that name: the system would answer in many ways where it cannot."""
    if any(len(os.fsencode(part)) > 255 for part in path.parts) or len(os.fsencode(path)) >= 4096:
        raise ValueError("longer than the name of a file can be")
    return path


def _batch(value: Any) -> int | str:
    """So many images, or auto."""
    if value == "auto" or (type(value) is int and 1 <= value <= 2**20):
        return value
    raise ValueError(f"should be auto, or a number of images from 1 to {2**20:,}")


def _numbers(value: Any) -> Any:
    """Finite numbers in lists of lists: what a covariance is made of."""
    if isinstance(value, list) and value:
        return [_numbers(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{brief(value)} is no finite number")
    return float(value)


class Section(BaseModel):
    """A mapping of the sweep file: no unknown keys, no text where a number belongs, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


S = TypeVar("S", bound=Section)


class Dataset(Section):
    """Which images. `limit` counts images in all; `flip` overrides whether mirrored images count as real ones.

    `gaussians` is a mixture of one Gaussian a class: `means` [classes, d], and `covariance`, a number (times the unit
    matrix), a matrix [d, d] for all classes, or one each [classes, d, d].
    """

    name: DataName
    path: FilePath | None = None
    split: str | None = None
    resolution: Side | None = None
    preprocess: Literal["adm", "area", "box"] | None = None
    classes: Count | Annotated[list[ClassName], Field(min_length=1)] | None = None
    limit: Count | None = None
    flip: bool | None = None
    means: Annotated[list[Annotated[list[Finite], Field(min_length=1)]], Field(min_length=1)] | None = None
    covariance: Annotated[Any, AfterValidator(_numbers)] = None


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


class Exact(Section):
    """The denoiser in closed form of the data set `gaussians`; it needs no training, and has both branches."""

    name: Literal["gaussians"]

    @property
    def p_uncond(self) -> float:
        return 0.5  # of no effect: it says that there is a null class


Pretrained = Checkpoint | Factory | Exact
"""Networks that exist before the sweep: nothing is trained."""


class Training(Section):
    """Algorithm 1. `warmup_steps` of linearly growing learning rate, then constant; `gradient_clip: 0` clips nothing.

    `micro_batch_size` images at a time go through the network on each device, and `recompute` keeps no activations
    between residual blocks: both save memory and change the weights by rounding only, but that smaller parts have other
    masks of dropout.
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


def _over(section: S, given: S | None) -> S:
    """The section with the keys that are given in place of its own."""
    keys = () if given is None else given.model_fields_set
    return section.model_copy(update={key: getattr(given, key) for key in keys})


class ClassifierSection(Section):
    """The classifier p(c | z_lambda) of classifier guidance: half of the U-Net `model`, trained as `training` says on
    noisy images. A key that is not given is as for the sweep's network; `p_uncond` means nothing here."""

    model: Model | None = None
    training: Training | None = None

    def model_beside(self, network: "Model | Pretrained") -> Model | None:
        """The classifier's own model beside this network; None where neither says what it is."""
        return _over(network, self.model) if isinstance(network, Model) else self.model

    def training_beside(self, network: Training) -> Training:
        """The classifier's own training beside that of the network. It never sees the null class."""
        return _over(network, self.training).model_copy(update={"p_uncond": 0.0})


class Sampling(Section):
    """Algorithm 2. `samples` is at least 10: the Inception Score has ten splits. `batch_size` images of a cell are made
    at a time; guided, twice as many go through the network, in smaller parts on a processor. `auto` is 256 there, and
    on a GPU what fills it and fits its memory; where a cell's batch does not fill it, cells that differ in w alone
    share one.

    `guidance` says what w is the strength of (see diffusion/guidance.py); `on: unconditional` puts classifier guidance
    on the null branch. `temperature` scales the noise of each step.
    """

    samples: Annotated[int, Field(ge=10, le=2**40)] = 50_000
    batch_size: Annotated[int | Literal["auto"], PlainValidator(lambda value: _batch(value))] = "auto"
    seed: Seed = 0
    v: Probability = 0.3
    clip: bool = True
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    temperature: NonNegative = 1.0
    guidance: Literal["cfg", "classifier", "score-scale"] = "cfg"
    on: Literal["conditional", "unconditional"] = "conditional"
    w: Finite = 0.0
    T: Annotated[int, Field(ge=2, le=1_000_000)] = 256

    @property
    def calls(self) -> set[str]:
        """Which branches of the network it needs: `conditional`, `null`."""
        if self.guidance == "cfg":
            return {"conditional"} if self.w == 0 else {"null"} if self.w == -1 else {"conditional", "null"}
        return {"null"} if self.on == "unconditional" else {"conditional"}

    @property
    def passes(self) -> int:
        """Through a network, an image and step: one for each branch, and through a classifier there and back."""
        return len(self.calls) + 2 * (self.guidance == "classifier" and self.w != 0)

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the images: all but how the work is divided, and what the sampler or guidance does not use."""
        unused = {"batch_size"}
        unused |= {"v", "temperature"} if self.sampler == "ddim" else set()  # a deterministic step has no noise
        unused |= {"temperature"} if self.temperature == 1 else set()
        unused |= {"on"} if self.guidance != "classifier" else set()
        return self.model_dump(exclude=unused)


class Evaluation(Section):
    """What is measured, with which features; `features` is the data set's own extractor unless it is named, and
    `reference` an .npz of statistics to take the place of the training images'. `precision` is that of the Inception
    network: bf16 is several times as fast, and another protocol. `keep_features` keeps them on the disk
    when a cell is done. `show` names the classes (by name or id) of which a few images of each cell are kept to be
    looked at; the first ten without it."""

    features: FeaturesName | None = None
    metrics: Annotated[list[Literal["fid", "is"]], Field(min_length=1)] = ["fid", "is"]
    inception_weights: FilePath | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    reference: FilePath | None = None
    keep_features: bool = False
    show: Annotated[list[Annotated[int, Field(ge=0)] | str], Field(min_length=1, max_length=10)] | None = None


def _kind_of_model(content: Any) -> str:
    """Which of the kinds of `model` is meant: the key that only one has decides, or its name."""
    name = content.get("name") if isinstance(content, dict) else getattr(content, "name", None)
    if name == "gaussians":
        return "gaussians"
    keys = content if isinstance(content, dict) else getattr(type(content), "model_fields", ())
    return next((kind for kind in ("checkpoint", "factory") if kind in keys), "unet")


Grid = Annotated[dict[str, list[Any]], Field(min_length=1)]


class SweepSpec(Section):
    """A whole sweep file. `grid` is the product of its lists; a list of grids is one after the other."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    dataset: Dataset
    model: Annotated[
        Annotated[Model, Tag("unet")]
        | Annotated[Checkpoint, Tag("checkpoint")]
        | Annotated[Factory, Tag("factory")]
        | Annotated[Exact, Tag("gaussians")],
        Discriminator(_kind_of_model),
    ] = Model()
    training: Training = Training()
    classifier: ClassifierSection = ClassifierSection()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    grid: Annotated[
        Annotated[Grid, Tag("one")] | Annotated[Annotated[list[Grid], Field(min_length=1)], Tag("several")],
        Discriminator(lambda content: "several" if isinstance(content, list) else "one"),
    ]

    @property
    def grids(self) -> dict[str, dict[str, list[Any]]]:
        """Where each grid stands in the file -> its axes."""
        if isinstance(self.grid, dict):
            return {"grid": self.grid}
        return {f"grid[{number}]": grid for number, grid in enumerate(self.grid)}

    @property
    def features(self) -> str:
        """The extractor's name: what the file says, else the data set's own."""
        own = self.dataset.name if self.dataset.name in OWN else "classifier"
        return self.evaluation.features or ("inception" if self.dataset.name in IMAGENET else own)
