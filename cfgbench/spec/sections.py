"""The sections of a sweep file beside `model`, and the whole file: their keys, and what these may say."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator

from cfgbench.spec.models import AnyModel, Model, Pretrained
from cfgbench.spec.presets import TRAININGS, displaced, on_preset
from cfgbench.spec.values import (
    IMAGENET,
    OWN,
    AutoBatchSize,
    BatchSize,
    ClassName,
    Count,
    DataName,
    FeaturesName,
    FilePath,
    Finite,
    NonNegative,
    Numbers,
    Positive,
    Preset,
    Probability,
    Section,
    Seed,
    Side,
    Steps,
    SweepName,
)
from cfgbench.wording import UNUSED

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
    covariance: Numbers = None


class Training(Section):
    """Algorithm 1. `warmup_steps` of linearly growing learning rate, then constant; `gradient_clip: 0` clips nothing.

    `micro_batch_size` images at a time go through the network on each device, and `recompute` keeps no activations
    between residual blocks: both save memory and change the weights by rounding only, but that smaller parts have other
    masks of dropout. At step t the average decays by (1 + t) / (10 + t), up to `ema_decay`, which is reached after
    9 / (1 - ema_decay) steps.
    """

    preset: Preset = None
    steps: Steps = 10_000
    batch_size: BatchSize = 128
    learning_rate: Positive = 2e-4
    warmup_steps: Annotated[int, Field(ge=0, le=2**40)] = 100
    weight_decay: NonNegative = 0.0
    ema_decay: Annotated[Finite, Field(ge=0, lt=1)] = 0.999
    gradient_clip: NonNegative = 1.0
    micro_batch_size: BatchSize | None = None
    recompute: bool = False
    p_uncond: Probability = 0.1
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, content: Any) -> Any:
        return on_preset(content, TRAININGS)

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the weights: all but how the work is divided."""
        return self.model_dump(exclude={"micro_batch_size", "recompute"})


def _over(section: S, given: S | None) -> S:
    """The section with the keys that are given in place of its own."""
    keys = set() if given is None else given.model_fields_set
    return section.model_copy(update=dict.fromkeys(displaced(keys)) | {key: getattr(given, key) for key in keys})


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
    batch_size: AutoBatchSize = "auto"
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
    def classified(self) -> bool:
        """Whether a classifier guides: at w = 0 none is asked."""
        return self.guidance == "classifier" and self.w != 0

    @property
    def passes(self) -> int:
        """Through a network, an image and step: one for each branch, and through a classifier there and back."""
        return len(self.calls) + 2 * self.classified

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the images: all but how the work is divided, and what the sampler or guidance does not use."""
        unused = {"batch_size"}
        unused |= UNUSED.get(self.sampler, frozenset())
        unused |= {"temperature"} if self.temperature == 1 else set()
        unused |= {"on"} if self.guidance != "classifier" else set()
        return self.model_dump(exclude=unused)


class Evaluation(Section):
    """What is measured, with which features; `features` is the data set's own extractor unless it is named, and
    `reference` an .npz of statistics to take the place of the training images'. `precision` is that of the Inception
    network: bf16 is several times as fast, and another protocol. `keep_features` keeps them on the disk
    when a cell is done: other metrics, references and more images are then measured from them. `show` names the classes
    (by name or id) of which a few images of each cell are kept to be looked at; the first ten without it."""

    features: FeaturesName | None = None
    metrics: Annotated[list[Literal["fid", "is"]], Field(min_length=1)] = ["fid", "is"]
    inception_weights: FilePath | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    reference: FilePath | None = None
    keep_features: bool = False
    show: Annotated[list[Annotated[int, Field(ge=0)] | str], Field(min_length=1, max_length=10)] | None = None


Grid = Annotated[dict[str, list[Any]], Field(min_length=1)]


class SweepSpec(Section):
    """A whole sweep file. `grid` is the product of its lists; a list of grids is one after the other."""

    name: SweepName
    dataset: Dataset
    model: AnyModel = Model()
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
