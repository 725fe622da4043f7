"""The kinds of network that a sweep file may name: one that is trained, or one that exists before the sweep."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from cfgbench.spec.presets import MODELS, on_preset
from cfgbench.spec.values import FilePath, Finite, Preset, Probability, Section, Side


class Model(Section):
    """The U-Net: `channels` at full resolution, times `multipliers` at each halving, with attention where the feature
    map's side is in `attention`, in so many `heads` or in heads of `head_channels`. `preset` gives what is not given.
    """

    name: Literal["unet"] = "unet"
    preset: Preset = None
    channels: Annotated[int, Field(ge=4, le=4096, multiple_of=4)] = 64
    multipliers: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=10)] = [1, 2]
    blocks: Annotated[int, Field(ge=1, le=64)] = 1
    attention: Annotated[list[Side], AfterValidator(lambda sides: sorted(set(sides), reverse=True))] = []
    head_channels: Annotated[int, Field(ge=1, le=4096)] = 32
    heads: Annotated[int, Field(ge=1, le=4096)] | None = None
    dropout: Annotated[Finite, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, content: Any) -> Any:
        return on_preset(content, MODELS)


class Checkpoint(Section):
    """A released network that is sampled as it is. ADM's were never trained without their class."""

    checkpoint: FilePath
    format: Literal["adm"]

    @property
    def p_uncond(self) -> float:
        return 0.0


def _finite(value: Any) -> Any:
    """The arguments, whose numbers name the network among other things."""
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(one)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number; give it as text, and let the function read it")
    return value


class Factory(Section):
    """A network of the user's own: `function(**arguments)` of an importable module gives it.

    `prediction` says what it predicts, `p_uncond` how often its class was dropped in training: 0 has no null class.
    """

    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    prediction: Literal["eps", "x", "v"] = "eps"
    p_uncond: Probability = 0.0
    arguments: Annotated[dict[str, Any], AfterValidator(_finite)] = {}

    @property
    def module(self) -> str:
        """What is imported."""
        return self.factory.partition(":")[0]

    @property
    def function(self) -> str:
        """What is called of it."""
        return self.factory.partition(":")[2]


class Exact(Section):
    """The denoiser in closed form of the data set `gaussians`; it needs no training, and has both branches."""

    name: Literal["gaussians"]

    @property
    def p_uncond(self) -> float:
        return 0.5  # of no effect: it says that there is a null class


Pretrained = Checkpoint | Factory | Exact
"""Networks that exist before the sweep: nothing is trained."""


def _kind_of_model(content: Any) -> str:
    """Which of the kinds of `model` is meant: the key that only one has decides, or its name."""
    name = content.get("name") if isinstance(content, dict) else getattr(content, "name", None)
    if name == "gaussians":
        return "gaussians"
    keys = content if isinstance(content, dict) else getattr(type(content), "model_fields", ())
    return next((kind for kind in ("checkpoint", "factory") if kind in keys), "unet")


AnyModel = Annotated[
    Annotated[Model, Tag("unet")]
    | Annotated[Checkpoint, Tag("checkpoint")]
    | Annotated[Factory, Tag("factory")]
    | Annotated[Exact, Tag("gaussians")],
    Discriminator(_kind_of_model),
]
