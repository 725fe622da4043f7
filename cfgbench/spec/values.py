"""What the keys of a sweep file may say: names, numbers within their bounds, and what every section keeps to."""

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from cfgbench.errors import brief
from cfgbench.files import SWEEP_FILES

InceptionName = Literal["inception", "inception-768", "inception-192", "inception-64"]
INCEPTION: tuple[str, ...] = get_args(InceptionName)
PACKAGED = ("digits", "fashion-mnist")
IMAGENET = ("imagenet64", "imagenet128")
OWN = (*PACKAGED, "gaussians")
"""Data sets with features of their own, which are no use for any other."""


def _not_empty(path: Any) -> Any:
    """The path, if one is written: nothing would be the folder where the user stands."""
    if path == "":
        raise ValueError("empty; name a file or folder, or leave the key out")
    return path


def _named(path: Path) -> Path:
    """The path, if a file can have that name: the system would answer in many ways where it cannot."""
    if any(len(os.fsencode(part)) > 255 for part in path.parts) or len(os.fsencode(path)) >= 4096:
        raise ValueError("longer than the name of a file can be")
    return path


def _not_a_files(name: str) -> str:
    """The name, if the commands that take a sweep's name or file do not take it for a file's."""
    if name.lower().endswith(SWEEP_FILES):
        raise ValueError(f"would be taken for a file; name it {name.rpartition('.')[0]}")
    return name


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


Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]  # -0.0 is 0.0
Probability = Annotated[Finite, Field(ge=0, le=1)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Steps = Annotated[int, Field(ge=1, le=10**8)]  # each has its loss in memory
BatchSize = Annotated[int, Field(ge=1, le=2**20)]
AutoBatchSize = Annotated[int | Literal["auto"], PlainValidator(_batch)]
Side = Annotated[int, Field(ge=1, le=4096)]
ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]  # a folder's: 1
Seed = Annotated[int, Field(ge=0, lt=2**63)]
SweepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_not_a_files)]
FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_not_empty), AfterValidator(_named)]
Numbers = Annotated[Any, AfterValidator(_numbers)]
Preset = Annotated[Literal["adm-64", "adm-128"] | None, Field(exclude=True)]  # the other keys hold what it gives
DataName = Literal["digits", "fashion-mnist", "folder", "imagenet64", "imagenet128", "gaussians"]
FeaturesName = Literal[InceptionName, "digits", "fashion-mnist", "classifier", "gaussians"]


class Section(BaseModel):
    """A mapping of the sweep file: no unknown keys, no text where a number belongs, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
